"""Commit records and seals: the files that say which stored bytes are valid.

A *commit record* lists, for one range of rows, the chunk objects of some arrays with their sizes and sha256. A *seal*
does so for a whole array, with its content digest. Both hold their own checksum; a torn one is read as absent.
"""

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import Field, ValidationError

from stores.canonical import checksummed, digest, read_checksummed, sha256_hex
from stores.format.paths import COMMITS, SEALS, seal_path
from stores.specs import ArraySpec, Digest, Record
from stores.storage.base import Objects, read_if_present

R = TypeVar("R", bound=Record)


class StoredObject(Record):
    """Size and sha256 of one object's bytes."""

    size: int = Field(ge=0)
    """In bytes."""
    sha256: Digest

    @classmethod
    def of(cls, data: bytes) -> "StoredObject":
        """Return the record of some bytes."""
        return cls(size=len(data), sha256=sha256_hex(data))


class Commit(Record):
    """Record that one range of some arrays is on disk."""

    set: Digest
    range: int = Field(ge=0)
    start: int = Field(ge=0)
    stop: int = Field(ge=1)
    objects: dict[str, dict[str, StoredObject]]
    """Array name to chunk name to stored object."""

    @property
    def name(self) -> str:
        """File name, made from the range and the arrays, so that commits of different arrays have different names."""
        arrays = sha256_hex("\n".join(sorted(self.objects)).encode())[:12]
        return f"{self.range:08d}-{arrays}.json"


class Seal(Record):
    """Record that one array is complete; from then on it is read-only."""

    set: Digest
    array: ArraySpec
    content: Digest
    """sha256 of all rows as little-endian C-order bytes: equal in every container."""
    objects: dict[str, StoredObject]
    """Every object of the array, ``zarr.json`` included, by name inside the array's folder."""
    dead: tuple[int, ...] = ()
    """Channels that have one and the same value in every position of every valid row."""

    def canonical(self) -> dict[str, Any]:
        """Return the record as plain JSON values; ``dead`` is left out where it is empty."""
        return self.model_dump(mode="json", exclude=None if self.dead else {"dead"})

    @property
    def stored(self) -> str:
        """Digest of the names, sizes and sha256 of all stored objects."""
        return digest({name: entry.canonical() for name, entry in self.objects.items()})

    @property
    def n_bytes(self) -> int:
        """Size of all objects, in bytes."""
        return sum(entry.size for entry in self.objects.values())


def write_commit(objects: Objects, prefix: str, commit: Commit) -> bool:
    """Write a commit record durably; return False when there is one of the same range and arrays already."""
    key = f"{prefix}/{COMMITS}/{commit.name}"
    data = [checksummed(commit.canonical())]
    if objects.put_new(key, data):
        return True
    if read_commit(objects, key) is not None:
        return False
    objects.put(key, data)  # a torn record counts as absent and is replaced
    return True


def read_commit(objects: Objects, key: str) -> Commit | None:
    """Return a commit record, or None when there is none or it is torn."""
    return parse(Commit, read_checksummed(read_if_present(objects, key)))


def read_commits(objects: Objects, prefix: str, set_digest: str) -> dict[str, Commit]:
    """Return the valid commit records of a set by file name, without torn ones and those of another set."""
    commits = {}
    for name in objects.children(f"{prefix}/{COMMITS}"):
        if not name.endswith(".json"):
            continue
        # None also when it was removed a moment ago because its arrays are sealed: seals are read after the commits.
        commit = read_commit(objects, f"{prefix}/{COMMITS}/{name}")
        if commit is not None and commit.set == set_digest and commit.name == name:
            commits[name] = commit
    return commits


def write_seal(objects: Objects, prefix: str, seal: Seal) -> None:
    """Write a seal durably, unless there is a valid one already."""
    key = f"{prefix}/{seal_path(seal.array.name)}"
    if not objects.put_new(key, [checksummed(seal.canonical())]) and read_seal(objects, key) is None:
        objects.put(key, [checksummed(seal.canonical())])  # a torn seal counts as absent


def read_seal(objects: Objects, key: str) -> Seal | None:
    """Return a seal, or None when there is none or it is torn."""
    return parse(Seal, read_checksummed(read_if_present(objects, key)))


def read_seals(objects: Objects, prefix: str, set_digest: str) -> dict[str, Seal]:
    """Return the valid seals of a set by array name."""
    seals = {}
    for name in objects.children(f"{prefix}/{SEALS}"):
        if not name.endswith(".json"):
            continue
        seal = read_seal(objects, f"{prefix}/{SEALS}/{name}")
        if seal is not None and seal.set == set_digest and seal_path(seal.array.name) == f"{SEALS}/{name}":
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
