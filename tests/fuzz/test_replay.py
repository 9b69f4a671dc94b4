"""Every parser of strangers' bytes, on good files, on bytes that once broke it, and on a few hundred broken copies."""

import hashlib

import numpy as np
import pytest

from tests.fuzz import annotations, experiments
from tests.fuzz.targets import TOKENS
from tests.fuzz.targets_by_name import targets

ROUNDS = 6

NAMES = (*annotations.TARGETS, *experiments.TARGETS)
RECORDS = ("spec", "layout", "created", "commit", "seal", "summary", "array-spec", "samples", "hdf5-manifest")


def broken(data, random):
    """Return a copy with one to three places cut, doubled, changed or written over."""
    for _ in range(int(random.integers(1, 4))):
        start, stop = sorted(int(place) for place in random.integers(0, len(data) + 1, 2))
        stop = min(stop, start + 20)
        token = TOKENS[int(random.integers(len(TOKENS)))]
        kind = int(random.integers(6))
        middle = (b"", b"", data[start:stop] * 2, token + data[start:stop], token, bytes([int(random.integers(256))]))
        data = data[:start] + middle[kind] + (b"" if kind == 0 else data[stop:])
    return data


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's remarks on broken TIFF tags
@pytest.mark.parametrize("name", [*NAMES, *RECORDS])
def test_it_is_read_or_refused_in_one_sentence(name):
    target = targets()[name]
    random = np.random.Generator(np.random.PCG64(int(hashlib.sha256(name.encode()).hexdigest()[:8], 16)))
    for data in (b"", *target.seeds, *target.findings):
        target.run(data)
    for turn in range(ROUNDS):
        target.run(broken(target.seeds[turn % len(target.seeds)], random))


def test_every_target_is_replayed():
    assert set(targets()) == {*NAMES, *RECORDS}
