"""Sealing: the last look at every byte of an array before it counts as complete."""

import hashlib
from collections.abc import Iterable

from stores.canonical import checksummed
from stores.chunks import array_metadata, decode_chunk
from stores.commits import COMMITS, SEALS, Seal, StoredObject, seal_name, write_seal
from stores.errors import DamageError, MissingError
from stores.geometry import chunk_name
from stores.objects import PARTIAL
from stores.sets import GROUP, SPEC, ZarrSet


def seal(stored_set: ZarrSet, arrays: Iterable[str]) -> dict[str, list[int]]:
    """Seal every array whose ranges are all committed; return the ranges that are missing, by array.

    Every object is read back and compared with its commit record. Where one differs (two writers mixed, a disk
    that lied) the commit records of that range are removed, so that the next extraction makes it again.
    """
    stored_set.refresh()
    missing: dict[str, list[int]] = {}
    for name in sorted(arrays):
        if stored_set.sealed(name):
            continue
        absent = sorted(set(range(stored_set.layout.n_ranges)) - stored_set.committed(name))
        if not absent:
            absent = _seal_array(stored_set, name)
        if absent:
            missing[name] = absent
    _forget_commits(stored_set)
    stored_set.refresh()
    return missing


def _seal_array(stored_set: ZarrSet, name: str) -> list[int]:
    objects, prefix, layout = stored_set.objects, stored_set.prefix, stored_set.layout
    array = stored_set.arrays[name]
    recorded: dict[str, list[StoredObject]] = {}
    for commit in stored_set.commits.values():
        for chunk, entry in commit.objects.get(name, {}).items():
            recorded.setdefault(chunk, []).append(entry)
    content = hashlib.sha256()
    found: dict[str, StoredObject] = {}
    damaged: set[int] = set()
    chunk_rows = layout.chunk_rows(array)
    for index in range(layout.n_objects(array)):
        chunk = chunk_name(index, array)
        key = f"{prefix}/{name}/{chunk}"
        try:
            data = objects.read(key)
            actual = StoredObject(size=len(data), sha256=hashlib.sha256(data).hexdigest())
            if any(entry != actual for entry in recorded.get(chunk, [])) or chunk not in recorded:
                raise DamageError(f"{key} is not what was committed")
            rows = decode_chunk(data, array, layout, key)
        except (DamageError, MissingError):
            damaged.add(index * chunk_rows // layout.range_rows)
            continue
        content.update(rows[: layout.n_rows - index * chunk_rows].data)
        found[chunk] = actual
    if damaged:
        for file_name, commit in stored_set.commits.items():
            if commit.range in damaged and name in commit.objects:
                objects.delete(f"{prefix}/{COMMITS}/{file_name}")
        return sorted(damaged)
    # Metadata is ours to write: a wrong copy is replaced before it is vouched for.
    records = {GROUP: array_metadata(array, layout), SPEC: checksummed(array.canonical())}
    for file_name, expected in records.items():
        key = f"{prefix}/{name}/{file_name}"
        if objects.size(key) is None or objects.read(key) != expected:
            objects.put(key, [expected])
        found[file_name] = StoredObject(size=len(expected), sha256=hashlib.sha256(expected).hexdigest())
    for child in objects.children(f"{prefix}/{name}"):
        if child.endswith(PARTIAL):
            objects.delete(f"{prefix}/{name}/{child}")
    write_seal(objects, prefix, Seal(set=stored_set.digest, array=array, content=content.hexdigest(), objects=found))
    return []


def _forget_commits(stored_set: ZarrSet) -> None:
    """Remove commit records that seals have replaced, once those seals are on disk."""
    for file_name, commit in stored_set.commits.items():
        if all(
            stored_set.objects.size(f"{stored_set.prefix}/{SEALS}/{seal_name(name)}") is not None
            for name in commit.objects
        ):
            stored_set.objects.delete(f"{stored_set.prefix}/{COMMITS}/{file_name}")
