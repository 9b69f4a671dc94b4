"""Two writers of one range by mistake: the first commit stands, and no mixture is ever vouched for."""

import itertools
import multiprocessing
import os
import tempfile
from unittest import mock

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from stores import Store
from stores.errors import DamageError
from stores.format.commits import write_commit
from stores.maintenance.verify import verify
from stores.memory import MemorySet
from stores.sets import ZarrSet
from stores.storage.local import LocalObjects
from stores.storage.remote import RemoteObjects
from stores.writing.conflicts import is_stored
from stores.writing.sealing import seal
from stores.writing.writer import SetWriter
from tests.stores.interleaving import AtOnce
from tests.stores.specs_for_tests import FEATURES, layout, samples, token_array, values
from tests.stores.turns import InTurn, Turns

COUNTER = itertools.count()
N_ROWS, RANGE_ROWS = 4, 2
ARRAYS = [token_array(), token_array("prefix/block.0", patches=1)]
NAMES = [array.name for array in ARRAYS]


@pytest.fixture(autouse=True)
def nothing_waits_for_the_disk(monkeypatch):
    """Power is not what these tests are about."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def create(objects, n_rows=N_ROWS, range_rows=RANGE_ROWS):
    made = ZarrSet.create(objects, FEATURES, layout(n_rows, range_rows), {"samples": samples(n_rows)}, {}, {})
    made.add_arrays(ARRAYS)
    return made


def write(stored_set, number, seed, arrays=ARRAYS):
    rows = stored_set.layout.range(number)
    with SetWriter(stored_set, [array.name for array in arrays], threads=1) as writer:
        one = writer.range(rows)
        for array in arrays:
            one.write(array.name, values(array, stored_set.layout.n_rows, seed)[rows.start : rows.stop])
        return one.commit().result()


def complete(stored_set):
    """Make what was killed or taken back, twice at most: mixtures show when the first round is sealed."""
    for _ in range(2):
        for number in range(stored_set.layout.n_ranges):
            lacking = [array for array in ARRAYS if number not in stored_set.committed(array.name)]
            if lacking:
                write(stored_set, number, 0, lacking)
        missing = seal(stored_set, NAMES)
    return missing


def writers_of(stored_set, name, number, n_writers):
    """Return the seeds whose values a range of an array holds."""
    rows = stored_set.layout.range(number)
    spec, n_rows = stored_set.arrays[name], stored_set.layout.n_rows
    read = stored_set[name][rows.start : rows.stop]
    return [w for w in range(n_writers) if np.array_equal(read, values(spec, n_rows, w)[rows.start : rows.stop])]


def truth(stored_set, errors, n_writers):
    """Nothing sealed differs from its seal unless somebody was told; nothing committed is a mixture in an array."""
    told = any(isinstance(error, DamageError) for error in errors.values())
    wrong = wrongly_sealed(stored_set)
    assert told or not wrong, f"{wrong} are sealed with other bytes and nobody was told"
    return told


def wrongly_sealed(stored_set):
    """Return the keys of objects that are not what their seal says."""
    sealed = {
        f"{stored_set.prefix}/{name}/{child}": entry
        for name, one in stored_set.seals.items()
        for child, entry in one.objects.items()
    }
    return {key for key, entry in sealed.items() if not is_stored(stored_set.objects, key, entry)}


INTERLEAVINGS = {
    "order": st.integers(0, 2**32),
    "patience": st.integers(1, 40),
    "n_writers": st.integers(2, 3),
    "same": st.booleans(),
    "killed": st.dictionaries(st.integers(0, 2), st.integers(0, 60), max_size=2),
}


def interleave(tmp_path_factory, kind, order, patience, n_writers, same, killed):
    """Each writer makes both ranges and seals; every access to storage is a turn that the example deals out.

    A writer keeps the turn for about ``patience`` accesses: long sleeps in bad places are what breaks things.
    """
    local = kind == "local"
    objects = LocalObjects(tmp_path_factory.mktemp("rivals")) if local else RemoteObjects(f"memory://r{next(COUNTER)}")
    made = create(objects)
    rng, lives, last = np.random.default_rng(order), dict(killed), [0]

    def choose(waiting):
        if last[0] not in waiting or rng.random() < 1 / patience:
            last[0] = int(rng.choice(waiting))
        return last[0]

    def kill(writer):
        lives[writer] = lives.get(writer, -1) - 1
        return lives[writer] == 0

    turns = Turns(choose, kill)

    def work(writer):
        def run():
            mine = ZarrSet(InTurn(objects, turns, writer), made.prefix)
            for number in range(mine.layout.n_ranges):
                write(mine, number, 0 if same else writer)
            seal(mine, NAMES[:1])

        return run

    with mock.patch("stores.writing.read_back.ThreadPoolExecutor", AtOnce):  # a writer has one access at a time
        errors = turns.run([work(writer) for writer in range(n_writers)])
    made.refresh()
    if local:  # an object store's first commit is a look before a PUT: there `verify` is the judge
        told = truth(made, errors, n_writers)
        if same:
            assert not told
    else:
        known = {finding.key for verdict in verify(Store(objects.url)) for finding in verdict.findings}
        assert wrongly_sealed(made) <= known
    if any(isinstance(error, DamageError) for error in errors.values()) or not (local or same):
        return
    assert complete(made) == {}, "something stands in the way"
    for name in NAMES:
        for number in range(made.layout.n_ranges):
            assert writers_of(made, name, number, n_writers), f"range {number} of {name} is nobody's"
    assert [finding for verdict in verify(Store(objects.url)) for finding in verdict.findings] == [] or not local


@pytest.mark.parametrize("kind", ["local", "object store"])
@settings(max_examples=12, deadline=None)
@given(**INTERLEAVINGS)
@example(order=25, patience=1, n_writers=2, same=False, killed={1: 39})  # chunks of both arrays from different writers
def test_any_interleaving_of_writers_and_their_seals(tmp_path_factory, kind, **example):
    interleave(tmp_path_factory, kind, **example)


def first_commit_stands(order, patience, left):
    """Two writers of unequal bytes on a storage that creates in one step; a dead one may have left chunks before them.

    The writer whose commit is the first one finds the range whole, in its own bytes.
    """
    objects = RemoteObjects(f"memory://r{next(COUNTER)}")
    made = create(objects)
    for name, number in left:
        objects.put_new(f"{made.prefix}/{name}/c.{number}.0.0", [b"of a dead writer"])
    rng, last, first = np.random.default_rng(order), [0], {}

    def choose(waiting):
        if last[0] not in waiting or rng.random() < 1 / patience:
            last[0] = int(rng.choice(waiting))
        return last[0]

    turns = Turns(choose)

    def work(writer):
        def run():
            mine = ZarrSet(InTurn(objects, turns, writer), made.prefix)
            first[writer] = {number: write(mine, number, writer) for number in range(mine.layout.n_ranges)}

        return run

    assert turns.run([work(0), work(1)]) == {}
    made.refresh()
    for number in range(made.layout.n_ranges):
        told = [writer for writer in (0, 1) if first[writer][number]]
        assert len(told) == 1
        for name in NAMES:
            if left:  # each may have kept the dead one's bytes and replaced the other's: then the range is missing
                assert number not in made.committed(name) or writers_of(made, name, number, 2) == told
            else:
                assert number in made.committed(name)
                assert writers_of(made, name, number, 2) == told
    assert [finding for verdict in verify(Store(objects.url)) for finding in verdict.findings] == []
    assert not [key for key in objects.keys("") if key.endswith(".partial")]


LEFT = st.sets(
    st.sampled_from([(name, number) for name in NAMES for number in range(N_ROWS // RANGE_ROWS)]), max_size=2
)


@settings(max_examples=20, deadline=None)
@given(order=st.integers(0, 2**32), patience=st.integers(1, 40), left=st.one_of(st.just(set()), LEFT))
def test_the_first_commit_stands_where_a_put_is_conditional(order, patience, left):
    first_commit_stands(order, patience, left)


@pytest.mark.slow
@settings(max_examples=500, deadline=None)
@given(order=st.integers(0, 2**32), patience=st.integers(1, 40), left=st.one_of(st.just(set()), LEFT))
def test_the_first_commit_stands_in_many_orders(order, patience, left):
    first_commit_stands(order, patience, left)


def test_every_array_of_a_damaged_range_is_taken_back_at_once(tmp_path):
    """Taking back the second array must not give the first one its record again."""
    made = create(LocalObjects(tmp_path))
    for number in range(made.layout.n_ranges):
        write(made, number, 0)
    for chunk in tmp_path.rglob("c.1.*"):
        chunk.write_bytes(bytes(chunk.stat().st_size))
    fresh = ZarrSet(made.objects, made.prefix)
    assert seal(fresh, NAMES) == {name: [1] for name in NAMES}
    assert [fresh.committed(name) for name in NAMES] == [frozenset({0})] * 2
    write(fresh, 1, 0)
    assert seal(fresh, NAMES) == {}


@pytest.mark.slow
@settings(max_examples=400, deadline=None)
@given(**INTERLEAVINGS)
def test_many_interleavings_of_writers_and_their_seals(tmp_path_factory, **example):
    interleave(tmp_path_factory, "local", **example)


@pytest.mark.parametrize("sealed", [False, True])
def test_a_writer_that_comes_second_takes_back_what_its_bytes_made_false(tmp_path, monkeypatch, sealed):
    """The rival published first, we overwrote its chunks, the rival committed (and sealed): its record lies now."""
    theirs, ours = (create(LocalObjects(tmp_path / name)) for name in ("theirs", "ours"))
    write(theirs, 0, seed=1)
    write(theirs, 1, seed=1)
    write(ours, 1, seed=1)
    record = theirs.objects.keys(f"{theirs.prefix}/commits")[0]
    commit = theirs.objects.read(record)
    if sealed:
        seal(theirs, NAMES)
    rivals = [key for key in theirs.objects.keys(theirs.prefix) if "/seals/" in key]

    def after_the_rival(objects, prefix, ours_of_it):
        objects.put_new(record, [commit])
        for key in rivals:
            objects.put_new(key, [theirs.objects.read(key)])
        return write_commit(objects, prefix, ours_of_it)

    monkeypatch.setattr("stores.writing.writer.write_commit", after_the_rival)
    if sealed:
        with pytest.raises(DamageError, match="sealed while another writer replaced it with other bytes"):
            write(ours, 0, seed=0)
    else:
        write(ours, 0, seed=0)
    monkeypatch.undo()
    assert ours.objects.size(record) is None, "a record of bytes that are not there"
    if not sealed:
        ours.refresh()
        assert complete(ours) == {}
        assert all(writers_of(ours, name, 0, 2) == [0] for name in NAMES)


class Rivals(RuleBasedStateMachine):
    """Writers that stop between any two steps, against the set in memory that takes the first commit."""

    def objects(self):
        return RemoteObjects(f"memory://machine{next(COUNTER)}")

    @initialize()
    def begin(self):
        self.made = create(self.objects(), 8, 2)
        self.held = MemorySet(FEATURES, self.made.layout, {"samples": samples(8)})
        self.held.add_arrays(ARRAYS)
        self.open = []

    @rule(number=st.integers(0, 3), seed=st.integers(0, 2))
    def stage(self, number, seed):
        """A writer writes a whole range and falls asleep before its commit."""
        writer = SetWriter(ZarrSet(self.made.objects, self.made.prefix), NAMES, threads=1)
        rows = self.made.layout.range(number)
        one, blocks = writer.range(rows), {}
        for array in ARRAYS:
            blocks[array.name] = values(array, 8, seed)[rows.start : rows.stop]
            one.write(array.name, blocks[array.name])
        for future in one.pending:
            future.result()
        self.open.append((writer, one, rows, blocks))

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def commit(self, data):
        writer, one, rows, blocks = self.open.pop(data.draw(st.integers(0, len(self.open) - 1)))
        first = one.commit().result()
        writer.close()
        sealed = any(self.held.sealed(name) for name in NAMES)
        expected = False if sealed else self.held.write_range(rows, blocks)
        assert first == expected

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def give_up(self, data):
        self.open.pop(data.draw(st.integers(0, len(self.open) - 1)))[0].close(cancel=True)

    @rule()
    def seal(self):
        fresh = ZarrSet(self.made.objects, self.made.prefix)
        assert seal(fresh, NAMES) == self.held.seal(NAMES)

    @invariant()
    def both_hold_the_same(self):
        if not hasattr(self, "made"):
            return
        fresh = ZarrSet(self.made.objects, self.made.prefix)
        for name in NAMES:
            assert fresh.committed(name) == self.held.committed(name)
            np.testing.assert_array_equal(fresh[name][:], self.held[name][:])
        assert {n: fresh.content[n] for n in fresh.content} == self.held.content

    def teardown(self):
        for writer, *_ in getattr(self, "open", []):
            writer.close(cancel=True)


class RivalsOnDisk(Rivals):
    """The same on a local disk."""

    def objects(self):
        self.folder = tempfile.TemporaryDirectory()
        return LocalObjects(self.folder.name)

    def teardown(self):
        super().teardown()
        if hasattr(self, "folder"):
            self.folder.cleanup()


TestRivals = Rivals.TestCase
TestRivalsOnDisk = RivalsOnDisk.TestCase
TestRivals.settings = TestRivalsOnDisk.settings = settings(max_examples=8, stateful_step_count=12, deadline=None)


def _race(root, prefix, seed, rounds):
    mine = ZarrSet(LocalObjects(root), prefix)
    for _ in range(rounds):
        for number in range(mine.layout.n_ranges):
            write(mine, number, seed)
        seal(mine, NAMES)


def test_processes_that_race_with_unequal_bytes_and_are_killed(tmp_path):
    """Real processes, no turns: what is sealed at the end is every range from one writer, whole."""
    context = multiprocessing.get_context("fork")
    for attempt in range(4):
        root = tmp_path / f"race{attempt}"
        made = create(LocalObjects(root), 16, 2)
        racers = [context.Process(target=_race, args=(root, made.prefix, seed, 1)) for seed in range(3)]
        for racer in racers:
            racer.start()
        if attempt % 2:
            racers[0].join(0.05)
            racers[0].kill()  # unless it is done already
        for racer in racers:
            racer.join()
        made.refresh()
        assert complete(made) == {}
        assert [finding for verdict in verify(Store(root)) for finding in verdict.findings] == []
        for name in NAMES:
            assert all(writers_of(made, name, number, 3) for number in range(made.layout.n_ranges))


def test_a_record_of_another_range_under_a_name_keeps_nobody_from_committing(tmp_path):
    """What a copied or swapped record says is of another range: the range is written, and its record replaced."""
    made = create(LocalObjects(tmp_path))
    for number in (0, 1):
        write(made, number, 0)
    first, second = sorted(tmp_path.glob("*/*/commits/*.json"))
    first.write_bytes(second.read_bytes())
    made.refresh()
    assert made.committed(NAMES[0]) == {1}
    for number in sorted(set(range(made.layout.n_ranges)) - {1}):
        write(made, number, 0)
    made.refresh()
    assert seal(made, NAMES) == {}
    assert not [one for verdict in verify(Store(tmp_path)) for one in verdict.findings]
