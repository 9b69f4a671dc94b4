"""Two faults at once: whatever they are, something is named, nothing good is removed and nothing wrong is believed."""

import os

import pytest

from benchmarks.damage import small_store
from benchmarks.two_faults import SEED, TwoFaults, restore

N_CASES = 40
"""Of about 4,700; `-m slow` runs them all."""


@pytest.fixture
def work(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # power is not what these tests are about
    return TwoFaults(*small_store(tmp_path, layers=(3,), norm="final", images=1))


def holds(outcome):
    assert not outcome.problem, outcome
    assert outcome.named, outcome
    assert not outcome.removed, outcome
    assert not outcome.believed, outcome
    return outcome.completed


def test_pairs_of_faults(work):
    every = list(work.pairs(seed=SEED))
    completed = [holds(work.run(faults)) for faults in every[:: len(every) // N_CASES]]
    assert sum(completed) >= 0.95 * len(completed), "what has no other copy may be lost, and hardly anything has none"


@pytest.mark.slow
def test_all_pairs_of_faults(work):
    completed = [holds(work.run(faults)) for faults in work.pairs()]
    assert sum(completed) >= 0.98 * len(completed)


@pytest.mark.parametrize(
    "faults",
    [
        (("torn", "seals/tokens__block.3.norm.json"), ("torn", "tokens/block.3.norm/c.1.0.0")),
        (("folder", "seals/tokens__block.3.norm.json"), ("deleted", "tokens/block.3.norm/c.1.0.0")),
        (("deleted", "created.json"), ("deleted", "summary.json")),
        (("deleted", "seals/tokens__block.3.norm.json"), ("deleted", "tokens/block.3.norm/spec.json")),
        (("deleted", "layout.json"), ("deleted", "summary.json")),
        (("deleted", "layout.json"), ("deleted", "tokens/block.3.norm/zarr.json")),
        (("folder", "tokens/block.3.norm/c.1.0.0"), ("pipe", "seals/tokens__block.3.norm.json")),
        (("pipe", "compute.json"), ("folder", "summary.json")),
    ],
)
def test_pairs_that_destroyed_something_or_went_round_in_circles(work, faults):
    folder = "/".join(next(key for key in work.whole if key.startswith("features/")).split("/")[:2])
    assert holds(work.run(tuple((kind, f"{folder}/{child}") for kind, child in faults))), "it could be made again"


def test_a_created_record_is_not_made_again_from_records_in_each_others_places(work):
    """Each of them has a valid checksum, so a checksum is not enough to say what the lost record listed."""
    folder = work.root / "/".join(next(key for key in work.whole if key.startswith("features/")).split("/")[:2])
    for first, second in (("layout.json", "created.json"), ("compute.json", "provenance.json")):
        swapped = (folder / first).read_bytes(), (folder / second).read_bytes()
        (folder / first).write_bytes(swapped[1])
        (folder / second).write_bytes(swapped[0])
        (folder / "summary.json").unlink()
        if second != "created.json":
            (folder / "created.json").unlink()
        work.repair()
        assert f"features/{folder.name}/created.json" in work.named()
        restore(work.root, work.whole)
