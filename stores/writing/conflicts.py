"""Two writers of one range, by mistake: the first commit stands, and no mixture of their bytes counts.

Nothing is locked, so that nothing is left locked by a crash. A writer looks before it publishes, and again after
it committed; sealing looks at every byte and, once the seal is there, at every object again. Whatever the order,
one of them comes second and sees the other.
"""

from stores.errors import DamageError
from stores.format.commits import Commit, StoredObject, read_commit, read_seal
from stores.format.paths import COMMITS, seal_path
from stores.storage.base import Objects, read_if_present


def existing_commit(objects: Objects, prefix: str, commit: Commit) -> dict[str, dict[str, StoredObject]]:
    """Return what counts of a commit's range already, by array: the first commit record, or seals.

    The record is looked at first, because it is removed only after the seals are there.
    """
    first = read_commit(objects, f"{prefix}/{COMMITS}/{commit.name}")
    found = {} if first is None else dict(first.objects)
    for name in commit.objects:
        seal = read_seal(objects, f"{prefix}/{seal_path(name)}")
        if seal is not None:
            found[name] = seal.objects
    return found


def is_stored(objects: Objects, key: str, entry: StoredObject) -> bool:
    """Return whether an object holds the recorded bytes."""
    data = read_if_present(objects, key)
    return data is not None and StoredObject.of(data) == entry


def resolve_conflict(objects: Objects, prefix: str, commit: Commit) -> None:
    """After committing: take back what no longer tells the truth because a rival was at the same range.

    Equal bytes are harmless. Where they are not, the commit record is removed and the range is missing again;
    raises DamageError when the array is sealed already.
    """
    counts = existing_commit(objects, prefix, commit)
    record = f"{prefix}/{COMMITS}/{commit.name}"
    sealed = {name for name in counts if objects.size(f"{prefix}/{seal_path(name)}") is not None}
    for name, theirs in counts.items():
        for chunk, ours in commit.objects[name].items():
            key = f"{prefix}/{name}/{chunk}"
            if chunk not in theirs or theirs[chunk] == ours or is_stored(objects, key, theirs[chunk]):
                continue
            objects.delete(record)
            objects.sync(f"{prefix}/{COMMITS}")
            if name in sealed:
                raise DamageError(
                    f"{objects.url}/{key} was sealed while a second writer with other bytes was at it: "
                    "run `patchbank verify`, and let one command at a time make a set"
                )
            return
    if sealed == set(commit.objects):
        objects.delete(record)  # the seals came first and say it all
