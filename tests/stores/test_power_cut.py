"""A power cut at any call, any unsynced change lost: nothing committed is lost, nothing torn is believed."""

import hashlib
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stores.errors import DamageError, MissingError
from stores.format.creation import is_initialised
from stores.sets import ZarrSet
from stores.storage.local import LocalObjects
from stores.storage.remote import RemoteObjects
from stores.writing.sealing import seal
from stores.writing.writer import SetWriter
from tests.stores.power_cut import Disk, states
from tests.stores.specs_for_tests import FEATURES, layout, samples, token_array, values
from tests.stores.system_calls import watched

PREFIX = f"features/{FEATURES.digest}"
N_ROWS, RANGE_ROWS = 5, 2
FIRST = [token_array(), token_array("prefix/block.0", patches=1, dtype="float32")]
LATER = [token_array("tokens/block.1", channels=3)]


def write(stored_set, arrays, numbers, mark):
    with SetWriter(stored_set, [array.name for array in arrays], threads=1) as writer:
        for number in numbers:
            rows = stored_set.layout.range(number)
            one = writer.range(rows)
            for array in arrays:
                one.write(array.name, values(array, N_ROWS)[rows.start : rows.stop])
            if one.commit().result():
                for array in arrays:
                    mark("committed", array.name, number)


def run(objects, mark=lambda *what: None, numbers=(0, 1, 2)):
    """Create, write, seal, add an array, write and seal it; resumes what is there."""
    made = ZarrSet.create(
        objects, FEATURES, layout(N_ROWS, RANGE_ROWS), {"samples": samples(N_ROWS)}, {"batch": 4}, {"date": "today"}
    )
    mark("created")
    for arrays in (FIRST, LATER):
        made.add_arrays(arrays)
        lacking = [n for n in numbers if any(n not in made.committed(array.name) for array in arrays)]
        if lacking:
            write(made, arrays, lacking, mark)
        if not seal(made, [array.name for array in arrays]):
            for array in arrays:
                mark("sealed", array.name)
        made.refresh()
    return made


def journal_of(tmp_path, **options):
    with watched(tmp_path / "store") as calls:
        made = run(LocalObjects(tmp_path / "store"), calls.mark, **options)
    return calls.journal, made


class Held(RemoteObjects):
    """Reads a state without a disk."""

    def __init__(self, state):
        self.url, self.root, self.state = "after the power cut", "", state

    def read(self, key):
        try:
            return self.state[f"store/{key}"]
        except KeyError:
            raise MissingError(key) from None

    def size(self, key):
        data = self.state.get(f"store/{key}")
        return None if data is None else len(data)

    def children(self, prefix=""):
        start = f"store/{prefix}/"
        return sorted({key[len(start) :].partition("/")[0] for key in self.state if key.startswith(start)})


def check(state, told):
    """Hold a state to what the program was told before the power went."""
    objects = Held(state)
    if not is_initialised(objects, PREFIX):
        assert not told, f"the set is gone after {told}"
        return
    found = ZarrSet(objects, PREFIX)
    for name, spec in found.arrays.items():
        for number in found.committed(name):
            rows = found.layout.range(number)
            np.testing.assert_array_equal(found[name][rows.start : rows.stop], values(spec, N_ROWS)[slice(*rows[1:])])
    for name, one in found.seals.items():
        for child, entry in one.objects.items():
            assert hashlib.sha256(objects.read(f"{PREFIX}/{name}/{child}")).hexdigest() == entry.sha256
    for what, *where in told:
        if what == "committed":
            assert where[1] in found.committed(where[0]), f"{where} was committed and is lost"
        elif what == "sealed":
            assert found.sealed(where[0]), f"{where} was sealed and is not"
    assert found.compute == {"batch": 4}


def resume(state, folder, expected):
    """Write a state to a real folder and run the same command again."""
    for name, data in state.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    again = run(LocalObjects(folder / "store"))
    assert again.stored_digest() == expected
    assert [key for key in again.objects.keys(PREFIX) if "/commits/" in key and not key.endswith(".partial")] == []


def cuts(journal, base, chosen=lambda disk: ()):
    """Yield every state of every moment with what the program had been told."""
    disk, told = Disk(base), []
    for call in [("mark",), *journal]:
        if call[1:] and call[0] == "mark":
            told.append(call[1:])
        elif call[0] != "mark":
            disk.apply(call)
        yield from ((state, list(told)) for state in states(disk, chosen(disk)))


def check_all(journal, base):
    for state, told in cuts(journal, base):
        check(state, told)


@pytest.fixture(autouse=True)
def nothing_waits_for_the_disk(monkeypatch):
    """The journal knows what was fsynced; the real disk need not."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def test_every_power_cut_of_a_small_run(tmp_path):
    journal, made = journal_of(tmp_path)
    seen, distinct = set(), []
    for state, told in cuts(journal, tmp_path):
        key = hash((frozenset(state.items()), tuple(told)))
        if key not in seen:
            seen.add(key)
            check(state, told)
            distinct.append(state)
    assert len(distinct) > 300
    for number, state in enumerate(distinct[:: len(distinct) // 25]):
        resume(state, tmp_path / f"again{number}", made.stored_digest())


@pytest.mark.parametrize(
    "careless",
    [
        ("_sync_folder", lambda self, folder: None),
        ("_make_folder", lambda self, folder: folder.mkdir(parents=True, exist_ok=True)),
    ],
    ids=lambda careless: careless[0],
)
def test_the_model_is_hostile_enough_to_find_a_store_that_skips_a_folder(tmp_path, monkeypatch, careless):
    monkeypatch.setattr(LocalObjects, *careless)
    if careless[0] == "_make_folder":  # nor afterwards
        monkeypatch.setattr(LocalObjects, "sync", lambda self, prefix: self._sync_folder(self.path(prefix)))
    journal, _ = journal_of(tmp_path)
    with pytest.raises((AssertionError, MissingError)):
        check_all(journal, tmp_path)


def test_the_model_is_hostile_enough_to_find_a_file_that_is_not_synced(tmp_path):
    """A commit record that is renamed before its bytes are on disk."""
    journal, _ = journal_of(tmp_path)
    careless = [call for call in journal if not (call[0] == "fsync" and ".partial" in call[1] and "/c." in call[1])]
    with pytest.raises((AssertionError, DamageError)):
        check_all(careless, tmp_path)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32), cut=st.floats(0, 1), numbers=st.permutations([0, 1, 2]))
def test_random_power_cuts_in_any_order_of_ranges(tmp_path_factory, seed, cut, numbers):
    """Threads make the journal of equal examples differ a little, so that subsets come from a seed, not from draws."""
    base = tmp_path_factory.mktemp("cut")
    journal, made = journal_of(base, numbers=numbers)
    disk, told = Disk(base), []
    for call in journal[: round(cut * len(journal))]:
        if call[0] == "mark":
            told.append(call[1:])
        else:
            disk.apply(call)
    picks = np.random.default_rng(seed).random((4, len(disk.pending()))) < 0.5
    for state in states(disk, picks.tolist()):
        check(state, told)
    resume(state, base / "again", made.stored_digest())
