"""Commit records and seals: the files that say which stored bytes are valid.

A *commit record* lists, for one range of rows, the chunks of some arrays with their sizes, sha256 and CRC32C. A *seal*
does so for a whole array, with its content digest. Both hold their own checksum; a torn one is read as absent.
"""

import base64
from collections import ChainMap
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar, cast

from pydantic import Field, ValidationError, field_validator

from stores.canonical import checksummed, digest, read_checksummed, sha256_hex
from stores.format.chunk_table import ChunkTable, StoredObject
from stores.format.paths import COMMITS, SEALS, seal_path
from stores.format.records import read_many, record_bytes, set_aside, write_once
from stores.specs import ArraySpec, Digest, Record
from stores.storage.base import Objects

R = TypeVar("R", bound=Record)


class CommittedChunks(Record):
    """The chunks of one array in one range."""

    first: int = Field(ge=0)
    """Number of the first chunk."""
    axes: int = Field(ge=1, le=32)
    """Axes of the array."""
    content: Digest
    """Content digest of the range."""
    chunks: str
    """`ChunkTable` as base64."""

    @classmethod
    def of(cls, table: ChunkTable, content: str) -> "CommittedChunks":
        """Return the record of a table of chunks."""
        return cls(first=table.first, axes=table.n_axes, content=content, chunks=table.text)

    @field_validator("chunks")
    @classmethod
    def _is_table(cls, text: str) -> str:
        ChunkTable.from_text(0, 1, text)
        return text

    @property
    def table(self) -> ChunkTable:
        """Size, sha256 and CRC32C of every chunk."""
        return ChunkTable.from_text(self.first, self.axes, self.chunks)


class Commit(Record):
    """Record that one range of some arrays is on disk."""

    set: Digest
    range: int = Field(ge=0)
    start: int = Field(ge=0)
    stop: int = Field(ge=1)
    arrays: dict[str, CommittedChunks]
    """The chunks of the range, by array."""

    @property
    def objects(self) -> dict[str, ChunkTable]:
        """Size and sha256 of every chunk by name, by array."""
        return {name: chunks.table for name, chunks in self.arrays.items()}

    @property
    def name(self) -> str:
        """File name, made from the range and the arrays, so that commits of different arrays have different names."""
        arrays = sha256_hex("\n".join(sorted(self.arrays)).encode())[:12]
        return f"{self.range:08d}-{arrays}.json"


class Seal(Record):
    """Record that one array is complete; from then on it is read-only."""

    set: Digest
    array: ArraySpec
    content: Digest
    """Content digest of all rows (`stores.format.content`): equal in every container."""
    ranges: str
    """Content digests of the ranges, 32 bytes each, as base64."""
    metadata: dict[str, StoredObject]
    """``zarr.json`` and ``spec.json`` of the array."""
    chunks: str
    """`ChunkTable` of all chunks, as base64."""
    dead: tuple[int, ...] = ()
    """Channels that have one and the same value in every position of every valid row."""

    @field_validator("chunks")
    @classmethod
    def _is_table(cls, text: str) -> str:
        ChunkTable.from_text(0, 1, text)
        return text

    @field_validator("ranges")
    @classmethod
    def _are_digests(cls, text: str) -> str:
        if len(base64.b64decode(text, validate=True)) % 32:
            raise ValueError("no digests")
        return text

    def canonical(self) -> dict[str, Any]:
        """Return the record as plain JSON values; ``dead`` is left out where it is empty."""
        return self.model_dump(mode="json", exclude=None if self.dead else {"dead"})

    @property
    def table(self) -> ChunkTable:
        """Size, sha256 and CRC32C of every chunk."""
        return ChunkTable.from_text(0, 1 + len(self.array.row_shape), self.chunks)

    @property
    def range_contents(self) -> list[str]:
        """Content digest of every range, in order."""
        data = base64.b64decode(self.ranges)
        return [data[start : start + 32].hex() for start in range(0, len(data), 32)]

    @property
    def objects(self) -> Mapping[str, StoredObject]:
        """Every object of the array, ``zarr.json`` included, by name inside the array's folder."""
        return ChainMap(self.metadata, cast("dict[str, StoredObject]", self.table))

    @property
    def stored(self) -> str:
        """Digest of the names, sizes, CRC32C and sha256 of all stored objects."""
        metadata = {name: entry.canonical() for name, entry in self.metadata.items()}
        return digest({"metadata": metadata, "chunks": self.table.digest})

    @property
    def n_bytes(self) -> int:
        """Size of all objects, in bytes."""
        return sum(entry.size for entry in self.metadata.values()) + self.table.n_bytes


def packed(contents: Iterable[str]) -> str:
    """Return content digests as base64 of 32 bytes each."""
    return base64.b64encode(b"".join(map(bytes.fromhex, contents))).decode("ascii")


def write_commit(objects: Objects, prefix: str, commit: Commit) -> bool:
    """Write a commit record durably; return False when there is one of the same range and arrays already.

    A damaged record, or one that belongs under another name, is replaced.
    """
    return write_once(
        objects,
        f"{prefix}/{COMMITS}/{commit.name}",
        checksummed(commit.canonical()),
        lambda data: _is_commit(data, commit.set, commit.name),
    )


def remove_commit(
    objects: Objects, prefix: str, commit: Commit, array: str, is_good: Callable[[], bool] = lambda: False
) -> bool:
    """Remove a commit record durably because of one array; its other arrays get a record of their own first.

    Args:
        objects: Storage of the store.
        prefix: Folder of the set.
        commit: The record.
        array: The array whose rows of this range are damaged.
        is_good: Returns whether the record can stay after all; called when it has no longer its name.

    Returns:
        Whether it was removed.
    """
    others = {name: chunks for name, chunks in commit.arrays.items() if name != array}
    # Where it is gone already, who removed it wrote what of the rest is good.
    if others and read_commit(objects, f"{prefix}/{COMMITS}/{commit.name}") is not None:
        write_commit(objects, prefix, commit.model_copy(update={"arrays": others}))
    removed = set_aside(objects, f"{prefix}/{COMMITS}/{commit.name}", lambda data: is_good())
    objects.sync(f"{prefix}/{COMMITS}")
    return removed


def remove_torn(objects: Objects, prefix: str, name: str) -> bool:
    """Remove what is not a record of this set from ``commits/`` or ``seals/``; return whether something was removed.

    A record that belongs to the set under another name is written there.
    """
    folder, _, file_name = name.partition("/")
    set_digest = prefix.rpartition("/")[2]
    is_own = _is_commit if folder == COMMITS else _is_seal
    data = record_bytes(objects, f"{prefix}/{name}")
    if not set_aside(objects, f"{prefix}/{name}", lambda data: is_own(data, set_digest, file_name)):
        return False
    record = read_checksummed(data)
    commit, seal = (parse(Commit, record), None) if folder == COMMITS else (None, parse(Seal, record))
    if commit is not None and commit.set == set_digest:
        write_commit(objects, prefix, commit)
    if seal is not None and seal.set == set_digest:
        write_seal(objects, prefix, seal)
    return True


def read_commit(objects: Objects, key: str) -> Commit | None:
    """Return a commit record, or None when there is none or it is torn."""
    return parse(Commit, read_checksummed(record_bytes(objects, key)))


def _is_commit(data: bytes, set_digest: str, name: str) -> bool:
    commit = parse(Commit, read_checksummed(data))
    return commit is not None and commit.set == set_digest and commit.name == name


def read_commits(
    objects: Objects, prefix: str, set_digest: str, names: Iterable[str] | None = None
) -> dict[str, Commit]:
    """Return the valid commit records of a set by file name, without torn ones and those of another set.

    ``names`` are the names in ``commits/`` where they have just been listed.
    """
    if names is None:
        names = objects.children(f"{prefix}/{COMMITS}")
    names = [name for name in names if name.endswith(".json")]
    commits = {}
    records = read_many(objects, (f"{prefix}/{COMMITS}/{name}" for name in names))
    for name, data in zip(names, records, strict=True):
        # None also when it was removed a moment ago because its arrays are sealed: seals are read after the commits.
        commit = parse(Commit, read_checksummed(data))
        if commit is not None and commit.set == set_digest and commit.name == name:
            commits[name] = commit
    return commits


def write_seal(objects: Objects, prefix: str, seal: Seal) -> bool:
    """Write a seal durably; return False when there is a valid one already. A damaged one is replaced."""
    path = seal_path(seal.array.name)
    return write_once(
        objects,
        f"{prefix}/{path}",
        checksummed(seal.canonical()),
        lambda data: _is_seal(data, seal.set, path.rpartition("/")[2]),
    )


def read_seal(objects: Objects, prefix: str, array: str) -> Seal | None:
    """Return the valid seal of an array, None when there is none, it is torn, or belongs to another array or set."""
    seal = parse(Seal, read_checksummed(record_bytes(objects, f"{prefix}/{seal_path(array)}")))
    return seal if seal is not None and seal.set == prefix.rpartition("/")[2] and seal.array.name == array else None


def _is_seal(data: bytes, set_digest: str, name: str) -> bool:
    seal = parse(Seal, read_checksummed(data))
    return seal is not None and seal.set == set_digest and seal_path(seal.array.name) == f"{SEALS}/{name}"


def read_seals(
    objects: Objects,
    prefix: str,
    set_digest: str,
    arrays: Iterable[str] | None = None,
    names: Iterable[str] | None = None,
) -> dict[str, Seal]:
    """Return the valid seals of a set by array name, of all arrays or of some.

    ``names`` are the names in ``seals/`` where they have just been listed.
    """
    if names is None:
        names = objects.children(f"{prefix}/{SEALS}")
    wanted = None if arrays is None else {seal_path(array) for array in arrays}
    paths = [f"{SEALS}/{name}" for name in names if name.endswith(".json")]
    paths = [path for path in paths if wanted is None or path in wanted]
    seals = {}
    for path, data in zip(paths, read_many(objects, (f"{prefix}/{path}" for path in paths)), strict=True):
        seal = parse(Seal, read_checksummed(data))
        if seal is not None and seal.set == set_digest and seal_path(seal.array.name) == path:
            seals[seal.array.name] = seal
    return seals


def parse(kind: type[R], record: Mapping[str, Any] | None) -> R | None:
    """Return JSON values as a record of type ``kind``, None when they are not one."""
    if record is None:
        return None
    try:
        return kind.model_validate(record, strict=False)
    except ValidationError:
        return None
