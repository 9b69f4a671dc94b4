"""Commands on one tiny set whose storage calls are scheduled one by one, so that any interleaving can be run again.

Nothing here uses threads of the code under test: their executors are replaced by one that runs at once, so a command is
a fixed sequence of storage calls. `run_between` stops one command before its n-th call and runs another one to its end
in between; `interleave` deals the calls of both out in an order drawn from a seed.
"""

import concurrent.futures
import contextlib
import itertools
import os
import tempfile
from pathlib import Path

import numpy as np

from stores import Store
from stores.errors import MissingError, PatchbankError
from stores.format.creation import is_initialised
from stores.format.paths import COMMITS, SEALS
from stores.hdf5.exporting import export_set
from stores.hdf5.importing import import_set
from stores.hdf5.reader import HDF5Set
from stores.maintenance.describe import line_of
from stores.maintenance.garbage import SMALL, find_garbage, remove
from stores.maintenance.listing import lines
from stores.maintenance.repair import repair_index, repair_set
from stores.maintenance.verify import verify
from stores.sets import ZarrSet
from stores.storage.base import PARTIAL
from stores.storage.local import LocalObjects
from stores.storage.together import one_by_one
from stores.writing.sealing import seal
from stores.writing.writer import SetWriter
from tests.stores.specs_for_tests import FEATURES, layout, samples, token_array, values
from tests.stores.turns import InTurn, Killed, Turns

N_ROWS, RANGE_ROWS = 4, 2
ARRAYS = [token_array(), token_array("prefix/block.0", patches=1)]
NAMES = [array.name for array in ARRAYS]
PREFIX = f"features/{FEATURES.digest}"
KEY = "recipe"


class MemoryObjects:
    """Storage in a dict with the promises of a local disk: every call happens at once, or not at all."""

    def __init__(self, held=()):
        self.url, self.held, self.stamps = "memory", dict(held), itertools.count()
        self.versions = {key: next(self.stamps) for key in self.held}
        self.young = next(self.stamps)
        """What has a later stamp was written since the commands began."""

    def copy(self):
        return MemoryObjects(self.held)

    def read(self, key):
        if key not in self.held:
            raise MissingError(f"{key} is not there")
        return self.held[key]

    def read_into(self, key, buffers, observe):
        data = memoryview(self.read(key))
        if len(data) == sum(len(buffer) for buffer in buffers):
            for buffer in buffers:
                buffer[:] = data[: len(buffer)]
                observe(buffer)
                data = data[len(buffer) :]
            return sum(len(buffer) for buffer in buffers)
        return len(data)

    def put(self, key, parts):
        self.held[key] = b"".join(parts)
        self.versions[key] = next(self.stamps)

    def put_new(self, key, parts):
        if key in self.held:
            return False
        self.put(key, parts)
        return True

    def stage(self, key, parts):
        ticket = f"{key}.{next(self.stamps)}{PARTIAL}"
        self.put(ticket, parts)
        return ticket

    def keep(self, key):
        return None

    def at_once(self):
        return 1

    def together(self, calls):
        return one_by_one(calls)

    def publish(self, ticket, key):
        if ticket not in self.held:
            raise MissingError(f"{ticket} is gone: run the same command again")
        self.held[key], self.versions[key] = self.held.pop(ticket), self.versions.pop(ticket)

    def sync(self, prefix):
        pass

    def keys(self, prefix=""):
        return sorted(key for key in self.held if not prefix or key.startswith(f"{prefix}/"))

    def children(self, prefix=""):
        start = f"{prefix}/" if prefix else ""
        return sorted({key[len(start) :].partition("/")[0] for key in self.held if key.startswith(start)})

    def size(self, key):
        return len(self.held[key]) if key in self.held else None

    def stamp(self, key):
        return str(self.versions[key]) if key in self.held else None

    def delete(self, key):
        self.held.pop(key, None)
        self.versions.pop(key, None)

    def free_bytes(self):
        return None


class CreatingObjects(MemoryObjects):
    """The same with the promises of an object store that has a conditional PUT: chunks are staged in place."""

    def stage(self, key, parts):
        data = b"".join(parts)
        if self.put_new(key, [data]) or self.held[key] == data:
            return key
        return super().stage(key, [data])

    def keep(self, key):
        return super().stage(key, [self.held[key]]) if key in self.held else None

    def publish(self, ticket, key):
        if ticket != key:
            super().publish(ticket, key)


class AtOnce(concurrent.futures.Executor):
    """An executor that runs everything in the thread that asks."""

    def __init__(self, *arguments, **options):
        pass

    def submit(self, function, *arguments, **options):
        future = concurrent.futures.Future()
        try:
            future.set_result(function(*arguments, **options))
        except BaseException as error:
            future.set_exception(error)
        return future


def without_threads(monkeypatch):
    """Make every command a fixed sequence of storage calls."""
    for module in ("stores.writing.writer", "stores.writing.read_back"):
        monkeypatch.setattr(f"{module}.ThreadPoolExecutor", AtOnce)


class Counting:
    """Storage that runs ``between`` before its n-th call, and counts calls."""

    def __init__(self, objects, at=None, between=None):
        self.objects, self.at, self.between, self.count, self.url = objects, at, between, 0, objects.url

    def __getattr__(self, name):
        function = getattr(self.objects, name)

        def call(*arguments):
            if self.count == self.at:
                self.between()
            self.count += 1
            return function(*arguments)

        return call


def store_of(objects):
    made = Store("never-touched")
    made.objects = objects
    return made


# -- the commands ---------------------------------------------------------------------------------------------------


def extract(objects, numbers=(0, 1), sealing=True):
    """Create, declare, write what is missing, seal, note: the steps of `patchbank extract` without a model."""
    made = ZarrSet.create(objects, FEATURES, layout(N_ROWS, RANGE_ROWS), {"samples": samples(N_ROWS)}, {}, {})
    made.add_arrays(ARRAYS)
    for number in numbers:
        rows = made.layout.range(number)
        lacking = [array for array in ARRAYS if number not in made.committed(array.name)]
        if not lacking:
            continue
        with SetWriter(made, [array.name for array in lacking], threads=1) as writer:
            one = writer.range(rows)
            for array in lacking:
                one.write(array.name, values(array, N_ROWS)[rows.start : rows.stop])
            one.commit()
        writer.raise_failures()
    if sealing:
        seal(made, NAMES)
        store_of(objects).remember(KEY, {"features": made.digest})


def seal_set(objects):
    made = opened(objects)
    if made is not None:
        seal(made, [name for name in NAMES if name in made.arrays])


def verify_store(objects):
    return {finding.key: finding.problem for verdict in verify(store_of(objects)) for finding in verdict.findings}


def list_store(objects):
    return {line["digest"]: line["problem"] for line in lines(objects) if line["state"] not in ("sealed", "partial")}


def repair(objects, remove_strays=False):
    store = store_of(objects)
    for kind, name in store.set_folders():
        repair_set(store, f"{kind}/{name}", remove_strays=remove_strays)
    repair_index(store, remove_strays=remove_strays)


def repair_and_remove_strays(objects):
    repair(objects, remove_strays=True)


def gc(objects):
    """Remove what is small and old, as `gc --apply` does: an hour is more than two commands here take."""
    store, storage = store_of(objects), storage_of(objects)

    def is_old(item):
        if isinstance(storage, LocalObjects):
            path = storage.path(item.key)
            return path.exists() and path.stat().st_mtime < 1
        return item.stamp is not None and int(item.stamp) < storage.young

    remove(store, [item for item in find_garbage(store, None) if item.kind in SMALL and is_old(item)])


def remove_set(objects):
    """Remove the whole set, as `gc --apply --uncited` does."""
    store = store_of(objects)
    remove(store, [item for item in find_garbage(store, {"f" * 64}) if "set" in item.kind])


def storage_of(objects):
    return storage_of(vars(objects)["objects"]) if "objects" in vars(objects) else objects


def evaluate(objects):
    """Read every sealed array as `patchbank evaluate` does; what it reads must be right."""
    note = store_of(objects).recall(KEY)
    made = opened(objects)
    if note is None or made is None:
        return
    for name in made.seals:
        np.testing.assert_array_equal(made[name][:], values(made.arrays[name], N_ROWS))


def export(objects):
    made = opened(objects)
    if made is not None and made.seals:
        with tempfile.TemporaryDirectory() as folder:
            export_set(made, Path(folder) / "set.h5")


def import_file(objects):
    with HDF5Set(exported_file()) as source:
        import_set(source, store_of(objects))


def opened(objects):
    return ZarrSet(objects, PREFIX) if is_initialised(objects, PREFIX) else None


_EXPORTED = []


def exported_file():
    """Return an exported file of the complete set, made once."""
    if not _EXPORTED:
        objects, folder = MemoryObjects(), tempfile.mkdtemp()
        extract(objects)
        export_set(opened(objects), Path(folder) / "set.h5")
        _EXPORTED.append(Path(folder) / "set.h5")
    return _EXPORTED[0]


COMMANDS = {
    "extract": extract,
    "seal": seal_set,
    "verify": verify_store,
    "ls": list_store,
    "repair": repair,
    "repair --remove-strays": repair_and_remove_strays,
    "gc": gc,
    "evaluate": evaluate,
    "export": export,
    "import": import_file,
}


# -- the states in which they start -----------------------------------------------------------------------------------


def nothing():
    return MemoryObjects()


def one_range():
    objects = MemoryObjects()
    extract(objects, numbers=(0,), sealing=False)
    return objects


def all_ranges():
    objects = MemoryObjects()
    extract(objects, sealing=False)
    return objects


def complete():
    objects = MemoryObjects()
    extract(objects)
    return objects


def worn():
    """Sealed in part, with a torn commit record, what a killed writer left, and lost records that have copies."""
    objects = one_range()
    made = opened(objects)
    rows = made.layout.range(1)
    with SetWriter(made, NAMES[:1], threads=1) as writer:
        one = writer.range(rows)
        one.write(NAMES[0], values(ARRAYS[0], N_ROWS)[rows.start : rows.stop])
        one.commit()
    seal(made, NAMES[:1])
    torn = next(name for name in objects.children(f"{PREFIX}/{COMMITS}"))
    objects.held[f"{PREFIX}/{COMMITS}/{torn.replace('00000000', '00000001')}"] = b"torn"
    objects.held[f"{PREFIX}/prefix/block.0/c.1.0.0"] = b"of a killed writer"
    objects.held[f"{PREFIX}/prefix/block.0/c.1.0.0.99{PARTIAL}"] = b"of a killed writer"
    objects.held[f"{PREFIX}/mine.txt"] = b"a stray"
    objects.delete(f"{PREFIX}/layout.json")
    objects.delete(f"{PREFIX}/tokens/zarr.json")
    objects.held[f"{PREFIX}/{SEALS}/tokens__block.0.json"] = b"torn"
    return objects


STATES = {"nothing": nothing, "one range": one_range, "all ranges": all_ranges, "complete": complete, "worn": worn}


# -- what must hold ---------------------------------------------------------------------------------------------------


def committed(objects):
    """Return every (array, range) whose commit record or seal is valid and whose chunk is right."""
    try:
        made = opened(objects)
    except PatchbankError:
        return set()
    if made is None:
        return set()
    return {(name, number) for name in made.arrays for number in made.committed(name)}


def judge(objects, before, damage, found=(), errors=()):
    """Assert what must hold after two commands: nothing lost, nothing wrong believed, nothing called damaged falsely.

    Args:
        objects: The storage after both.
        before: What was `committed` when they started.
        damage: What `verify` named when they started; nothing else may be named later.
        found: What each `verify` and `ls` beside another command named.
        errors: What the commands ended with.
    """
    allowed = {*damage, *(key.split("/")[1] for key in damage)}
    for named in found:
        assert named.keys() <= allowed, f"beside a healthy command: {named}"
    for error in errors:
        assert damage or error.exit_code == 2, f"{type(error).__name__}: {error}"
    named = verify_store(objects)
    assert named.keys() <= damage.keys(), f"afterwards: {named}"
    if not damage:
        assert before <= committed(objects), f"lost: {before - committed(objects)}"
    repair(objects)  # what was damaged from the start
    assert before <= committed(objects), f"lost: {before - committed(objects)}"
    made = opened(objects)
    for name, number in committed(objects):
        rows = made.layout.range(number)
        expected = values(made.arrays[name], N_ROWS)[rows.start : rows.stop]
        np.testing.assert_array_equal(made[name][rows.start : rows.stop], expected)
    told = list(lines(objects))
    assert told == ([] if made is None else [line_of(made)]), "ls is not true"
    # Once nothing disturbs it, the same command completes the set to the bytes of an undisturbed run.
    extract(objects)
    repair_and_remove_strays(objects)
    assert verify_store(objects) == {}
    if not _UNDISTURBED:
        _UNDISTURBED.update(complete().held)
    left = {key: objects.read(key) for key in objects.keys("") if not key.endswith(PARTIAL)}
    assert left == _UNDISTURBED, [key for key in left.keys() | _UNDISTURBED if left.get(key) != _UNDISTURBED.get(key)]


def run(name, objects, found, errors):
    """Run a command, keeping what `verify` names and the errors that are meant for users."""
    try:
        named = COMMANDS[name](objects)
        if name in ("verify", "ls"):
            found.append(named)
    except PatchbankError as error:
        errors.append(error)


def n_calls(state, name):
    """Return how many storage calls a command makes when it is alone."""
    counting = Counting(STATES[state]().copy())
    run(name, counting, [], [])
    return counting.count


def run_between(state, outer, inner, at):
    """Run ``inner`` to its end before the ``at``-th call of ``outer``, and judge."""
    objects, found, errors = STATES[state]().copy(), [], []
    before, damage = committed_once_repaired(state), verify_store(objects)
    run(outer, Counting(objects, at, lambda: run(inner, objects, found, errors)), found, errors)
    judge(objects, before, damage, found, errors)


def killed_at(state, name, at, storage=MemoryObjects):
    """End a command before its ``at``-th call, as SIGKILL does; what it leaves is not damage, and can be completed."""
    objects = storage(STATES[state]().held)
    before, damage = committed_once_repaired(state), verify_store(objects)

    def kill():
        raise Killed

    command = {**COMMANDS, "remove the set": remove_set}[name]
    with contextlib.suppress(Killed):
        command(Counting(objects, at, kill))
    judge(objects, set() if name == "remove the set" else before, damage)


def interleave(state, names, seed, folder=None, storage=MemoryObjects):
    """Deal the calls of some commands out in an order drawn from ``seed``, and judge; with ``folder`` on a disk."""
    objects, found, errors = storage(STATES[state]().held), [], []
    if folder is not None:
        objects = on_disk(objects, folder)
    before, damage = committed_once_repaired(state), verify_store(objects)
    rng = np.random.default_rng(seed)
    patience, last = int(rng.integers(1, 30)), [0]

    def choose(waiting):
        if last[0] not in waiting or rng.random() < 1 / patience:
            last[0] = int(rng.choice(waiting))
        return last[0]

    turns = Turns(choose)
    works = [
        lambda name=name, number=number: run(name, InTurn(objects, turns, number), found, errors)
        for number, name in enumerate(names)
    ]
    turns.run(works)
    judge(objects, before, damage, found, errors)


def on_disk(objects, folder):
    """Return the same objects in a folder, written long ago."""
    made = LocalObjects(folder)
    for key, data in objects.held.items():
        made.put(key, [data])
        os.utime(made.path(key), (0, 0))
    return made


_COMMITTED, _UNDISTURBED = {}, {}


def committed_once_repaired(state):
    """Return what is committed in a state, counting what `repair` gives back."""
    if state not in _COMMITTED:
        objects = STATES[state]().copy()
        repair(objects)
        _COMMITTED[state] = committed(objects)
    return _COMMITTED[state]
