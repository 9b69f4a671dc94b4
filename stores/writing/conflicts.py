"""Two writers of one range: the first commit is kept, and no mixture of their bytes is valid.

There are no locks that a crash could leave behind. A writer tests for commits and seals before it publishes its chunks
and again after its commit; sealing compares every byte and, once the seal is written, every object that was replaced
since. In any order of these steps one writer comes second and finds what the other wrote.
"""

from collections.abc import Mapping

from stores.errors import DamageError
from stores.format.chunk_table import StoredObject
from stores.format.commits import Commit, read_commit, read_seal
from stores.format.paths import COMMITS
from stores.storage.base import Objects, read_if_present


def existing_commit(objects: Objects, prefix: str, commit: Commit) -> dict[str, Mapping[str, StoredObject]]:
    """Return the committed objects of a commit's range, by array: from its commit record on disk, or from seals.

    The record is read first, because it is removed only after the seals are written.
    """
    first = read_commit(objects, f"{prefix}/{COMMITS}/{commit.name}")
    committed: dict[str, Mapping[str, StoredObject]] = {}
    if first is not None and (first.set, first.name) == (commit.set, commit.name):  # else it is of another range
        committed |= first.objects
    for name in commit.arrays:
        seal = read_seal(objects, prefix, name)
        if seal is not None:
            committed[name] = seal.objects
    return committed


def is_stored(objects: Objects, key: str, entry: StoredObject) -> bool:
    """Return whether an object holds the recorded bytes."""
    data = read_if_present(objects, key)
    return data is not None and entry.is_of(data)


def resolve_conflict(objects: Objects, prefix: str, commit: Commit) -> None:
    """Remove a commit record that was just written if another writer has replaced chunks of its range.

    Equal bytes are harmless. Where they differ, the commit record is removed and the range is missing again;
    raises DamageError when the array is sealed already.
    """
    committed = existing_commit(objects, prefix, commit)
    record = f"{prefix}/{COMMITS}/{commit.name}"
    # A torn seal is no seal: sealing replaces it, and until then the commit records are all there is.
    sealed = {name for name in committed if read_seal(objects, prefix, name) is not None}
    own = commit.objects
    for name, expected in committed.items():
        for chunk, written in own[name].items():
            key = f"{prefix}/{name}/{chunk}"
            if chunk not in expected or expected[chunk] == written or is_stored(objects, key, expected[chunk]):
                continue
            objects.delete(record)
            objects.sync(f"{prefix}/{COMMITS}")
            if name in sealed:
                raise DamageError(
                    f"{objects.url}/{key} was sealed while another writer replaced it with other bytes: "
                    "run `patchbank verify`, and let one command at a time make a set"
                )
            return
    if sealed == set(commit.arrays):
        objects.delete(record)  # the seals came first and list the same objects
