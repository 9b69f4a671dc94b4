"""Sealing: the last look at every byte of an array before it counts as complete."""

import hashlib
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from jaxtyping import Bool

from stores.canonical import checksummed
from stores.errors import DamageError, MissingError, UserError
from stores.format.chunks import array_metadata, decode_chunk
from stores.format.commits import Seal, StoredObject, seal_name, write_seal
from stores.format.layout import Layout, chunk_name
from stores.format.paths import COMMITS, GROUP, SEALS, SPEC
from stores.sets import ZarrSet
from stores.specs import ArraySpec, FeatureSpec
from stores.storage.base import PARTIAL, Objects
from stores.writing.conflicts import is_stored
from stores.writing.dead_channels import DeadFeatures, has_channels, in_words, valid_rows

THREADS = 8
"""Arrays that are read back at the same time, at most one a core."""


def seal(stored_set: ZarrSet, arrays: Iterable[str], *, refuse_dead: bool = False) -> dict[str, list[int]]:
    """Seal every array whose ranges are all committed; return the ranges that are missing, by array.

    Every object is read back and compared with its commit record. Where one differs (two writers mixed, a disk
    that lied) the commit records of that range are removed, so that the next extraction makes it again. With
    ``refuse_dead`` an array with dead features is left as it is, and UserError raised once the others are sealed.
    """
    stored_set.refresh()
    names = [name for name in sorted(arrays) if not stored_set.sealed(name)]
    n_rows = stored_set.layout.n_rows
    has_features = any(has_channels(stored_set.arrays[name]) for name in names)
    valid = valid_rows(stored_set.objects, stored_set.prefix, n_rows) if has_features else np.ones(n_rows, dtype=bool)
    refused: dict[str, tuple[int, ...]] = {}
    # Hashing is what takes the time, and it runs without the interpreter lock.
    with ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1)) as pool:
        sealed = pool.map(lambda name: _seal_array(stored_set, name, valid, refused if refuse_dead else None), names)
        missing = {name: absent for name, absent in zip(names, sealed, strict=True) if absent}
    stored_set.refresh()
    _forget_commits(stored_set)
    stored_set.summarise()
    if refused:
        _raise_dead(stored_set, refused, valid)
    return missing


def _raise_dead(
    stored_set: ZarrSet, refused: Mapping[str, tuple[int, ...]], valid: Bool[np.ndarray, " sample"]
) -> None:
    first = min(refused, key=lambda name: (int(stored_set.arrays[name].attributes.get("layer") or 0), name))
    dead = in_words(refused[first], stored_set.arrays[first].row_shape[-1])
    sample = stored_set.samples["sample"].iloc[int(valid.argmax())]
    more = f" ({len(refused) - 1} more arrays have some)" if len(refused) > 1 else ""
    model = stored_set.spec.model.name if isinstance(stored_set.spec, FeatureSpec) else stored_set.digest[:12]
    raise UserError(
        f"{model}, {first} has {dead}, the same in all {int(valid.sum())} valid samples as in {sample}{more}: check "
        'weights and images, or set dead_features = "count" in [features] to keep the array as it is'
    )


def _seal_array(
    stored_set: ZarrSet, name: str, valid: Bool[np.ndarray, " sample"], refused: dict[str, tuple[int, ...]] | None
) -> list[int]:
    """Seal an array; return the ranges that are missing, or were found to be damaged and are again."""
    absent = sorted(set(range(stored_set.layout.n_ranges)) - stored_set.committed(name))
    if absent:
        return absent
    objects, prefix, layout = stored_set.objects, stored_set.prefix, stored_set.layout
    array = stored_set.arrays[name]
    dead = DeadFeatures(array, valid)
    recorded: dict[str, list[StoredObject]] = {}
    for commit in stored_set.commits.values():
        for chunk, entry in commit.objects.get(name, {}).items():
            recorded.setdefault(chunk, []).append(entry)
    content = hashlib.sha256()
    found: dict[str, StoredObject] = {}
    stamps: dict[str, str | None] = {}
    damaged: set[int] = set()
    chunk_rows = layout.chunk_rows(array)
    buffer = bytearray(chunk_rows * array.row_bytes + 4 if layout.compression == "none" else 0)
    for index in range(layout.n_objects(array)):
        chunk = chunk_name(index, array)
        key = f"{prefix}/{name}/{chunk}"
        try:
            stamps[chunk] = objects.stamp(key)
            actual = _hash_chunk(objects, key, array, layout, index, content, buffer, dead)
            if any(entry != actual for entry in recorded.get(chunk, [])) or chunk not in recorded:
                raise DamageError(f"{key} is not what was committed")
        except (DamageError, MissingError):
            damaged.add(index * chunk_rows // layout.range_rows)
            continue
        found[chunk] = actual
    if damaged:
        _take_back(stored_set, name, damaged)
        return sorted(damaged)
    if refused is not None and dead.channels:
        refused[name] = dead.channels
        return []
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
    made = Seal(set=stored_set.digest, array=array, content=content.hexdigest(), objects=found, dead=dead.channels)
    write_seal(objects, prefix, made)
    # A rival that looked for commits and seals before this one was there may have published since its chunk was read.
    for index in range(layout.n_objects(array)):
        chunk = chunk_name(index, array)
        key = f"{prefix}/{name}/{chunk}"
        if objects.stamp(key) != stamps[chunk] and not is_stored(objects, key, found[chunk]):
            damaged.add(index * chunk_rows // layout.range_rows)
    if damaged:
        objects.delete(f"{prefix}/{SEALS}/{seal_name(name)}")
        objects.sync(f"{prefix}/{SEALS}")
        _take_back(stored_set, name, damaged)
    return sorted(damaged)


def _take_back(stored_set: ZarrSet, name: str, damaged: set[int]) -> None:
    """Remove the commit records of some ranges of an array, durably, so that they are missing again."""
    for file_name, commit in stored_set.commits.items():
        if commit.range in damaged and name in commit.objects:
            stored_set.objects.delete(f"{stored_set.prefix}/{COMMITS}/{file_name}")
    if stored_set.objects.children(f"{stored_set.prefix}/{COMMITS}"):
        stored_set.objects.sync(f"{stored_set.prefix}/{COMMITS}")


class _Hashes:
    """Both hashes see a piece of a chunk while it is in the processor's cache; its rows end after ``left`` bytes."""

    def __init__(self, content: Any, left: int) -> None:
        self.content, self.left = content, left
        self.stored = hashlib.sha256()

    def __call__(self, piece: memoryview) -> None:
        self.stored.update(piece)
        self.content.update(piece[: self.left])
        self.left -= min(self.left, len(piece))


def _hash_chunk(
    objects: Objects,
    key: str,
    array: ArraySpec,
    layout: Layout,
    index: int,
    content: Any,
    buffer: bytearray,
    dead: DeadFeatures,
) -> StoredObject:
    """Return size and sha256 of a chunk, add its rows to ``content``, the array's sha256, and show them to ``dead``.

    A chunk that is not what was committed spoils both, and the caller then has no use for them.
    """
    start = index * layout.chunk_rows(array)
    rows = min(layout.chunk_rows(array), layout.n_rows - start)
    if layout.compression != "none":
        data = objects.read(key)
        decoded = decode_chunk(data, array, layout, key)[:rows]
        content.update(decoded.data)
        dead.take(start, decoded)
        return StoredObject(size=len(data), sha256=hashlib.sha256(data).hexdigest())
    hashes = _Hashes(content, rows * array.row_bytes)
    # The chunk's CRC32C is not tested: its sha256 is the one of the bytes that it was computed for.
    size = objects.read_into(key, [memoryview(buffer)], hashes)
    if dead.left.size:
        dtype = np.dtype(array.dtype).newbyteorder("<")
        values = np.frombuffer(buffer, dtype, rows * array.row_bytes // dtype.itemsize)
        dead.take(start, values.reshape(rows, *array.row_shape))
    return StoredObject(size=size, sha256=hashes.stored.hexdigest())


def _forget_commits(stored_set: ZarrSet) -> None:
    """Remove commit records that seals have replaced, once those seals are on disk."""
    replaced = [
        file_name
        for file_name, commit in stored_set.commits.items()
        if all(stored_set.sealed(name) for name in commit.objects)
    ]
    if replaced:
        # The seals may be somebody else's, a moment old: no record goes before they are durable.
        stored_set.objects.sync(f"{stored_set.prefix}/{SEALS}")
    for file_name in replaced:
        stored_set.objects.delete(f"{stored_set.prefix}/{COMMITS}/{file_name}")
