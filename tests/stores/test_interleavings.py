"""Commands beside each other on one set: nothing committed is lost, nothing wrong believed, nothing called damage.

`tests.stores.interleaving` says how they are scheduled. The default tests stop every command at one drawn call in every
state for every other command, and a few pairs at up to forty calls; `-m slow` stops all of them at all calls.
"""

import itertools
import os
import zlib

import numpy as np
import pytest

from tests.stores import interleaving
from tests.stores.interleaving import (
    COMMANDS,
    STATES,
    CreatingObjects,
    interleave,
    killed_at,
    n_calls,
    run_between,
    without_threads,
)

PAIRS = list(itertools.product(COMMANDS, repeat=2))
SEEDS = range(60)
MANY_SEEDS = range(1000, 3500)


@pytest.fixture(autouse=True)
def one_call_after_another(monkeypatch):
    without_threads(monkeypatch)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # power is not what these tests are about


@pytest.mark.parametrize("state", STATES)
def test_a_command_that_runs_between_two_calls_of_another(state):
    for outer, inner in PAIRS:
        at = zlib.crc32(f"{state} {outer} {inner}".encode()) % n_calls(state, outer)
        run_between(state, outer, inner, at)


@pytest.mark.parametrize(
    ("state", "outer", "inner"),
    [
        ("nothing", "extract", "verify"),
        ("nothing", "extract", "ls"),
        ("one range", "ls", "extract"),
        ("all ranges", "repair", "seal"),
        ("all ranges", "verify", "seal"),
        ("one range", "verify", "extract"),
        ("worn", "repair --remove-strays", "import"),
    ],
)
def test_pairs_that_failed_before_at_every_other_call(state, outer, inner):
    total = n_calls(state, outer)
    for at in range(0, total, 1 + total // 40):
        run_between(state, outer, inner, at)


@pytest.mark.slow
@pytest.mark.parametrize("outer", COMMANDS)
@pytest.mark.parametrize("state", STATES)
def test_every_command_between_all_calls_of_every_other(state, outer):
    for inner, at in itertools.product(COMMANDS, range(n_calls(state, outer))):
        run_between(state, outer, inner, at)


def drawn(seed):
    rng = np.random.default_rng(seed)
    state = str(rng.choice(list(STATES)))
    return state, [str(name) for name in rng.choice(list(COMMANDS), size=int(rng.integers(2, 4)))]


def test_random_interleavings():
    for seed in SEEDS:
        interleave(*drawn(seed), seed)


def test_random_interleavings_on_a_disk(tmp_path):
    for seed in SEEDS[:10]:
        interleave(*drawn(seed), seed, tmp_path / str(seed))


def test_interleavings_and_kills_where_chunks_are_staged_in_place():
    for seed in SEEDS[:6]:
        interleave(*drawn(seed), seed, storage=CreatingObjects)
    for at in range(0, n_calls("nothing", "extract"), 12):
        killed_at("nothing", "extract", at, CreatingObjects)


@pytest.mark.slow
def test_many_random_interleavings_where_chunks_are_staged_in_place():
    for seed in MANY_SEEDS:
        interleave(*drawn(seed), seed, storage=CreatingObjects)


@pytest.mark.slow
def test_many_random_interleavings(tmp_path):
    for seed in MANY_SEEDS:
        interleave(*drawn(seed), seed, tmp_path / str(seed) if seed % 10 == 0 else None)


@pytest.mark.parametrize(
    ("state", "name"),
    [("nothing", "extract"), ("all ranges", "seal"), ("complete", "extract"), ("complete", "remove the set")],
)
def test_what_a_killed_command_leaves_is_not_damage(state, name):
    command = {**COMMANDS, "remove the set": interleaving.remove_set}[name]
    counting = interleaving.Counting(STATES[state]().copy())
    command(counting)
    for at in range(0, counting.count, 1 + counting.count // 60):
        killed_at(state, name, at)


@pytest.mark.slow
@pytest.mark.parametrize("state", STATES)
def test_what_any_killed_command_leaves_is_not_damage(state):
    for name in [*COMMANDS, *(["remove the set"] if state == "complete" else [])]:
        total = 200 if name == "remove the set" else n_calls(state, name)
        for at in range(total):
            killed_at(state, name, at)
