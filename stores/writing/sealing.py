"""Sealing: read every byte of a complete array back, compare it with its commit records and write its seal."""

import hashlib
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool

from stores.canonical import checksummed
from stores.errors import DamageError, MissingError, UserError
from stores.format.chunks import array_metadata, decode_chunk
from stores.format.commits import Seal, StoredObject, remove_commit, write_seal
from stores.format.layout import chunk_name
from stores.format.paths import COMMITS, GROUP, SEALS, SPEC, seal_path
from stores.format.records import record_bytes, replace
from stores.format.summary import list_unsealed
from stores.sets import ZarrSet
from stores.specs import ArraySpec, FeatureSpec
from stores.storage.base import PARTIAL
from stores.writing.conflicts import is_stored
from stores.writing.dead_channels import DeadFeatures, describe_channels, has_channels, valid_rows

THREADS = 8
"""Arrays that are read back at the same time, at most one a core."""


@dataclass(frozen=True)
class SealOutcome:
    """The outcome of sealing one array: it is sealed where all three are empty, and unsealed otherwise."""

    missing: tuple[int, ...] = ()
    """Ranges that are not committed."""
    damaged: tuple[int, ...] = ()
    """Ranges whose stored bytes differ from their commit records, which were removed: the ranges are missing again."""
    dead: tuple[int, ...] = ()
    """Dead channels, for which the array was refused."""


def seal(stored_set: ZarrSet, arrays: Iterable[str], *, refuse_dead: bool = False) -> dict[str, list[int]]:
    """Seal every array whose ranges are all committed; return the ranges that are missing, by array.

    Every object is read back and compared with its commit record. Where one differs (bytes of two writers mixed, a
    disk that lost what it acknowledged) the commit records of that range are removed, so that the next extraction
    makes it again. With ``refuse_dead`` an array with dead features is not sealed, and UserError is raised once the
    others are.
    """
    stored_set.refresh()
    names = [name for name in sorted(arrays) if not stored_set.sealed(name)]
    n_rows = stored_set.layout.n_rows
    has_features = any(has_channels(stored_set.arrays[name]) for name in names)
    valid = valid_rows(stored_set.objects, stored_set.prefix, n_rows) if has_features else np.ones(n_rows, dtype=bool)
    # Hashing is what takes the time, and it runs without the interpreter lock.
    with ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1)) as pool:
        made = pool.map(lambda name: _seal_array(stored_set, stored_set.arrays[name], valid, refuse_dead), names)
        outcomes = dict(zip(names, made, strict=True))
    stored_set.refresh()
    _remove_replaced_commits(stored_set)
    stored_set.summarise()
    dead = {name: outcome.dead for name, outcome in outcomes.items() if outcome.dead}
    if dead:
        _raise_dead(stored_set, dead, valid)
    absent = {name: list(outcome.missing or outcome.damaged) for name, outcome in outcomes.items()}
    return {name: ranges for name, ranges in absent.items() if ranges}


def _raise_dead(stored_set: ZarrSet, dead: Mapping[str, tuple[int, ...]], valid: Bool[np.ndarray, " sample"]) -> None:
    first = min(dead, key=lambda name: (stored_set.arrays[name].layer or 0, name))
    channels = describe_channels(dead[first], stored_set.arrays[first].row_shape[-1])
    sample = stored_set.samples["sample"].iloc[int(valid.argmax())]
    more = f" ({len(dead) - 1} more arrays have some)" if len(dead) > 1 else ""
    model = stored_set.spec.model.name if isinstance(stored_set.spec, FeatureSpec) else stored_set.digest[:12]
    raise UserError(
        f"{model}, {first} has {channels}, the same in all {int(valid.sum())} valid samples as in {sample}{more}: "
        'check weights and images, or set dead_features = "count" in [features] to keep the array as it is'
    )


def _seal_array(
    stored_set: ZarrSet, array: ArraySpec, valid: Bool[np.ndarray, " sample"], refuse_dead: bool
) -> SealOutcome:
    """Seal an array whose ranges are all committed and whose bytes are those that were committed."""
    missing = sorted(set(range(stored_set.layout.n_ranges)) - stored_set.committed(array.name))
    if missing:
        return SealOutcome(missing=tuple(missing))
    read = _read_and_compare(stored_set, array, valid)
    if read.damaged:
        return _take_back(stored_set, array.name, read.damaged)
    if refuse_dead and read.dead:
        return SealOutcome(dead=read.dead)
    metadata = _write_metadata(stored_set, array)
    _delete_partial_files(stored_set, array.name)
    objects, prefix = stored_set.objects, stored_set.prefix
    sealed = read.chunks | metadata
    write_seal(
        objects, prefix, Seal(set=stored_set.digest, array=array, content=read.content, objects=sealed, dead=read.dead)
    )
    damaged = _replaced_since(stored_set, array, read)
    if damaged:
        list_unsealed(objects, prefix, {array.name: array})
        objects.delete(f"{prefix}/{seal_path(array.name)}")
        objects.sync(f"{prefix}/{SEALS}")
        return _take_back(stored_set, array.name, damaged)
    return SealOutcome()


@dataclass
class _ReadBack:
    """What reading every chunk of an array found; ``content`` and ``dead`` are valid only where nothing is damaged."""

    chunks: dict[str, StoredObject] = field(default_factory=dict)
    """Size and sha256 of the chunks that are as committed."""
    stamps: dict[str, str | None] = field(default_factory=dict)
    """The storage's stamp of every chunk, from before it was read."""
    damaged: set[int] = field(default_factory=set)
    """Ranges with a chunk that is gone or differs from its commit record."""
    content: str = ""
    dead: tuple[int, ...] = ()


def _read_and_compare(stored_set: ZarrSet, array: ArraySpec, valid: Bool[np.ndarray, " sample"]) -> _ReadBack:
    """Read every chunk of an array and compare it with its commit records."""
    recorded: dict[str, list[StoredObject]] = {}
    for commit in stored_set.commits.values():
        for chunk, entry in commit.objects.get(array.name, {}).items():
            recorded.setdefault(chunk, []).append(entry)
    reader = _ChunkReader(stored_set, array, valid)
    read = _ReadBack()
    for index in range(stored_set.layout.n_objects(array)):
        chunk = chunk_name(index, array)
        key = f"{stored_set.prefix}/{array.name}/{chunk}"
        try:
            read.stamps[chunk] = stored_set.objects.stamp(key)
            # Before it is opened: reading a pipe in place of a chunk would wait for ever.
            is_file = stored_set.objects.size(key) in {entry.size for entry in recorded.get(chunk, [])}
            actual = reader.read(key, index) if is_file else None
        except (DamageError, MissingError):
            actual = None
        if actual is None or any(entry != actual for entry in recorded[chunk]):
            read.damaged.add(stored_set.layout.range_of_chunk(index, array))
        else:
            read.chunks[chunk] = actual
    read.content, read.dead = reader.content.hexdigest(), reader.dead.channels
    return read


def _write_metadata(stored_set: ZarrSet, array: ArraySpec) -> dict[str, StoredObject]:
    """Write an array's ``zarr.json`` and ``spec.json`` where they are missing or differ from its record."""
    written = {}
    records = {GROUP: array_metadata(array, stored_set.layout), SPEC: checksummed(array.canonical())}
    for name, expected in records.items():
        key = f"{stored_set.prefix}/{array.name}/{name}"
        if record_bytes(stored_set.objects, key) != expected:
            replace(stored_set.objects, key, [expected])
        written[name] = StoredObject.of(expected)
    return written


def _delete_partial_files(stored_set: ZarrSet, name: str) -> None:
    folder = f"{stored_set.prefix}/{name}"
    for child in stored_set.objects.children(folder):
        if child.endswith(PARTIAL):
            stored_set.objects.delete(f"{folder}/{child}")


def _replaced_since(stored_set: ZarrSet, array: ArraySpec, read: _ReadBack) -> set[int]:
    """Return the ranges with a chunk that another writer has replaced with other bytes since it was read.

    A writer that looked for commits and seals before this seal was there may have published its chunk only now.
    """
    damaged = set()
    for index in range(stored_set.layout.n_objects(array)):
        chunk = chunk_name(index, array)
        key = f"{stored_set.prefix}/{array.name}/{chunk}"
        replaced = stored_set.objects.stamp(key) != read.stamps[chunk]
        if replaced and not is_stored(stored_set.objects, key, read.chunks[chunk]):
            damaged.add(stored_set.layout.range_of_chunk(index, array))
    return damaged


def _take_back(stored_set: ZarrSet, name: str, damaged: set[int]) -> SealOutcome:
    """Remove the commit records of the damaged ranges of an array, durably, so that they are missing again."""
    for commit in stored_set.commits.values():
        if commit.range in damaged and name in commit.objects:
            remove_commit(stored_set.objects, stored_set.prefix, commit, name)
    return SealOutcome(damaged=tuple(sorted(damaged)))


class _Hashes:
    """Updates both hashes with a piece of a chunk while it is in the processor's cache; rows are ``left`` bytes."""

    def __init__(self, content: Any, left: int) -> None:
        self.content, self.left = content, left
        self.stored = hashlib.sha256()

    def __call__(self, piece: memoryview) -> None:
        self.stored.update(piece)
        self.content.update(piece[: self.left])
        self.left -= min(self.left, len(piece))


class _ChunkReader:
    """Reads the chunks of one array in order, for its content digest and its dead channels."""

    def __init__(self, stored_set: ZarrSet, array: ArraySpec, valid: Bool[np.ndarray, " sample"]) -> None:
        self.objects, self.layout, self.array = stored_set.objects, stored_set.layout, array
        self.content = hashlib.sha256()
        self.dead = DeadFeatures(array, valid)
        size = self.layout.chunk_rows(array) * array.row_bytes + 4
        self.buffer = bytearray(size if self.layout.compression == "none" else 0)

    def read(self, key: str, index: int) -> StoredObject:
        """Return size and sha256 of a chunk, and add its rows to the content digest and the dead channels.

        After a chunk that is not what was committed both are meaningless, and the caller drops them.
        """
        array, start = self.array, index * self.layout.chunk_rows(self.array)
        rows = min(self.layout.chunk_rows(array), self.layout.n_rows - start)
        if self.layout.compression != "none":
            data = self.objects.read(key)
            decoded = decode_chunk(data, array, self.layout, key)[:rows]
            self.content.update(decoded.data)
            self.dead.take(start, decoded)
            return StoredObject.of(data)
        hashes = _Hashes(self.content, rows * array.row_bytes)
        # The chunk's CRC32C is not tested: its sha256 is the one of the bytes that it was computed for.
        size = self.objects.read_into(key, [memoryview(self.buffer)], hashes)
        if self.dead.left.size:
            dtype = np.dtype(array.dtype).newbyteorder("<")
            values = np.frombuffer(self.buffer, dtype, rows * array.row_bytes // dtype.itemsize)
            self.dead.take(start, values.reshape(rows, *array.row_shape))
        return StoredObject(size=size, sha256=hashes.stored.hexdigest())


def _remove_replaced_commits(stored_set: ZarrSet) -> None:
    """Remove commit records whose arrays are all sealed, once those seals are durable."""
    replaced = [
        file_name
        for file_name, commit in stored_set.commits.items()
        if all(stored_set.sealed(name) for name in commit.objects)
    ]
    if replaced:
        # Another process may have written the seals a moment ago: no record goes before they are durable.
        stored_set.objects.sync(f"{stored_set.prefix}/{SEALS}")
    for file_name in replaced:
        stored_set.objects.delete(f"{stored_set.prefix}/{COMMITS}/{file_name}")
