"""Two writers of one range: the first commit is kept, and no mixture of their bytes is valid.

There are no locks that a crash could leave behind. A writer tests for commits and seals before it publishes its chunks
and again after its commit; sealing compares every byte and, once the seal is written, every object that was replaced
since. In any order of these steps one writer comes second and finds what the other wrote.
"""

import contextlib
from collections.abc import Mapping

from stores.errors import DamageError, MissingError
from stores.format.chunk_table import StoredObject
from stores.format.commits import Commit, read_commit, read_seal, read_seals
from stores.format.paths import COMMITS
from stores.storage.base import Objects, read_if_present


def existing_commit(objects: Objects, prefix: str, commit: Commit) -> dict[str, Mapping[str, StoredObject]]:
    """Return the committed objects of a commit's range, by array: from its commit record on disk, or from seals."""
    record, seals = _recorded_and_sealed(objects, prefix, commit)
    return record | seals


def _recorded_and_sealed(
    objects: Objects, prefix: str, commit: Commit
) -> tuple[dict[str, Mapping[str, StoredObject]], dict[str, Mapping[str, StoredObject]]]:
    """Return what the commit record on disk lists, and what the seals of its arrays list, by array.

    The record is read first, because it is removed only after the seals are written.
    """
    first = read_commit(objects, f"{prefix}/{COMMITS}/{commit.name}")
    is_of_range = first is not None and (first.set, first.name) == (commit.set, commit.name)
    recorded: dict[str, Mapping[str, StoredObject]] = dict(first.objects) if first is not None and is_of_range else {}
    seals = read_seals(objects, prefix, commit.set, commit.arrays)
    return recorded, {name: seal.objects for name, seal in seals.items()}


def is_stored(objects: Objects, key: str, entry: StoredObject) -> bool:
    """Return whether an object holds the recorded bytes."""
    data = read_if_present(objects, key)
    return data is not None and entry.is_of(data)


def resolve_conflict(objects: Objects, prefix: str, commit: Commit, kept: Mapping[str, str] | None = None) -> None:
    """Put back, or else take back, what this writer's chunks made false of another writer's commit record or seal.

    Equal bytes are harmless. Where they differ and the bytes that were replaced were kept, they get their name back:
    the first commit stands. Otherwise the commit record is removed and the range is missing again; raises DamageError
    when the array is sealed already.

    Args:
        objects: Storage of the store.
        prefix: Folder of the set.
        commit: What this writer has committed, or has tried to.
        kept: Partial names of the objects that it replaced, by their key.
    """
    recorded, sealed = _recorded_and_sealed(objects, prefix, commit)
    record = f"{prefix}/{COMMITS}/{commit.name}"
    own, is_put_back = commit.objects, False
    for name, expected in (recorded | sealed).items():
        for chunk, written in own[name].items():
            key = f"{prefix}/{name}/{chunk}"
            if chunk not in expected or expected[chunk] == written or is_stored(objects, key, expected[chunk]):
                continue
            ticket = (kept or {}).get(key)
            if ticket is not None and is_stored(objects, ticket, expected[chunk]):
                with contextlib.suppress(MissingError):  # what is partial may be removed at any moment
                    objects.publish(ticket, key)
                    is_put_back = True
                    continue
            objects.delete(record)
            objects.sync(f"{prefix}/{COMMITS}")
            # A torn seal is no seal: sealing replaces it, and until then the commit records are all there is.
            if read_seal(objects, prefix, name) is not None:
                raise DamageError(
                    f"{objects.url}/{key} was sealed while another writer replaced it with other bytes: "
                    "run `patchbank verify`, and let one command at a time make a set"
                )
            return
    present = read_commit(objects, record) if is_put_back else None
    is_false = present is not None and present.arrays == commit.arrays
    if is_false or sealed.keys() == commit.arrays.keys():
        objects.delete(record)  # the seals came first: they list the same objects, or those that were put back
