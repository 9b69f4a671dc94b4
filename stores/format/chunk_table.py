"""Tables of chunks: size, sha256 and CRC32C of consecutive chunks of an array as flat binary, 40 bytes a chunk."""

import base64
import binascii
import itertools
import re
from array import array as Numbers
from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Any

import numpy as np
from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from stores.canonical import sha256_hex
from stores.specs import Digest, Record

_CHUNK = re.compile(r"c\.(0|[1-9]\d{0,17})(?:\.0)*")
_LINE = np.dtype([("sha256", "V32"), ("crc32c", "<u4"), ("size", "<u4")])


class StoredObject(Record):
    """Size and sha256 of one object's bytes, and of a chunk the CRC32C that it ends with."""

    size: int = Field(ge=0)
    """In bytes."""
    sha256: Digest
    crc32c: int | None = None
    """Of the bytes before the last four, which repeat it; None for objects that are no chunks."""

    @classmethod
    def of(cls, data: bytes) -> "StoredObject":
        """Return the record of some bytes that are no chunk."""
        return cls(size=len(data), sha256=sha256_hex(data))

    def is_of(self, data: bytes) -> bool:
        """Return whether these are the recorded bytes."""
        return self.size == len(data) and self.sha256 == sha256_hex(data)

    @model_serializer(mode="wrap")
    def _without_none(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in handler(self).items() if value is not None}


class ChunkTable(Mapping[str, StoredObject]):
    """The records of consecutive chunks by name, made from text only when they are asked for.

    Args:
        first: Number of the first chunk.
        n_axes: Axes of the array, whose number its chunks' names show.
        lines: One line of `_LINE` a chunk.
    """

    def __init__(self, first: int, n_axes: int, lines: np.ndarray) -> None:
        self.first, self.n_axes, self.lines = first, n_axes, lines
        self._suffix = ".0" * (n_axes - 1)

    @classmethod
    def of(cls, first: int, n_axes: int, chunks: Sequence[StoredObject]) -> "ChunkTable":
        """Return the table of chunks from the ``first``-th on."""
        lines = np.zeros(len(chunks), _LINE)
        lines["sha256"] = np.frombuffer(b"".join(bytes.fromhex(chunk.sha256) for chunk in chunks), "V32")
        lines["crc32c"] = [chunk.crc32c for chunk in chunks]
        lines["size"] = [chunk.size for chunk in chunks]
        return cls(first, n_axes, lines)

    @classmethod
    def joined(cls, tables: Sequence["ChunkTable"]) -> "ChunkTable":
        """Return one table from tables of consecutive chunks."""
        return cls(tables[0].first, tables[0].n_axes, np.concatenate([table.lines for table in tables]))

    @classmethod
    def from_text(cls, first: int, n_axes: int, text: str) -> "ChunkTable":
        """Return the table that `text` gave; raises ValueError when the text is none."""
        try:
            data = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError) as error:
            raise ValueError("no base64") from error
        if len(data) % _LINE.itemsize or not 1 <= n_axes <= 32:
            raise ValueError("no table of chunks")
        return cls(first, n_axes, np.frombuffer(data, _LINE))

    @property
    def text(self) -> str:
        """The lines as base64, for records in JSON."""
        return base64.b64encode(self.lines.tobytes()).decode("ascii")

    @property
    def digest(self) -> str:
        """sha256 of the lines."""
        return sha256_hex(self.lines.tobytes())

    @property
    def n_bytes(self) -> int:
        """Size of all chunks, in bytes."""
        return int(self.lines["size"].sum(dtype=np.int64))

    def rows(self, start: int, stop: int) -> "ChunkTable":
        """Return the table of the chunks ``start`` to ``stop - 1``, counted in the array."""
        return ChunkTable(start, self.n_axes, self.lines[start - self.first : stop - self.first])

    def at(self, number: int) -> StoredObject:
        """Return the record of one chunk, counted in the array."""
        line = self.lines[number - self.first]
        return StoredObject(size=int(line["size"]), sha256=line["sha256"].tobytes().hex(), crc32c=int(line["crc32c"]))

    def number(self, name: object, *, bounded: bool = True) -> int:
        """Return the number of the chunk of this name; raises KeyError for another name.

        With ``bounded`` also for that of a chunk which is not in the table.
        """
        parts = name.split(".") if isinstance(name, str) else []
        if len(parts) < 2 or not parts[1].isdecimal() or name != f"c.{int(parts[1])}{self._suffix}":
            raise KeyError(name)
        if bounded and not 0 <= int(parts[1]) - self.first < len(self.lines):
            raise KeyError(name)
        return int(parts[1])

    def __getitem__(self, name: str) -> StoredObject:
        return self.at(self.number(name))

    def __contains__(self, name: object) -> bool:
        try:
            return self.number(name) >= 0
        except KeyError:
            return False

    def __iter__(self) -> Iterator[str]:
        return (f"c.{self.first + index}{self._suffix}" for index in range(len(self.lines)))

    def __len__(self) -> int:
        return len(self.lines)


class ObjectTables(Mapping[str, StoredObject]):
    """The records of all objects of some arrays by ``<array>/<object>``, made only when they are asked for."""

    def __init__(self) -> None:
        self._metadata: dict[str, Mapping[str, StoredObject]] = {}
        self._sealed: dict[str, ChunkTable] = {}
        self._committed: dict[str, dict[int, ChunkTable]] = {}

    def add_seal(self, array: str, metadata: Mapping[str, StoredObject], table: ChunkTable) -> None:
        """Add the objects of a sealed array."""
        self._metadata[array], self._sealed[array] = metadata, table

    def add_commit(self, array: str, table: ChunkTable) -> None:
        """Add the chunks of a committed range; those of a sealed array, or of a range that was added, are left out."""
        if array not in self._sealed:
            self._committed.setdefault(array, {}).setdefault(table.first, table)

    @property
    def n_bytes(self) -> int:
        """Size of all objects, in bytes."""
        metadata = sum(entry.size for entries in self._metadata.values() for entry in entries.values())
        return metadata + sum(table.n_bytes for _, table in self._tables())

    def _tables(self) -> Iterator[tuple[str, ChunkTable]]:
        yield from self._sealed.items()
        for array, tables in self._committed.items():
            yield from ((array, table) for table in tables.values())

    def __getitem__(self, key: str) -> StoredObject:
        array, _, name = key.rpartition("/")
        entry = self._metadata.get(array, {}).get(name)
        if entry is not None:
            return entry
        if array in self._sealed:
            return self._sealed[array][name]
        tables = self._committed.get(array)
        if not tables:
            raise KeyError(key)
        # All ranges but the last hold the same number of chunks.
        n_chunks = max(1, *map(len, itertools.islice(tables.values(), 2)))
        number = next(iter(tables.values())).number(name, bounded=False)
        return tables[number // n_chunks * n_chunks][name]

    def __contains__(self, key: object) -> bool:
        array, _, name = str(key).rpartition("/")
        if array in self._sealed and name not in self._metadata[array]:
            return name in self._sealed[array]
        return super().__contains__(key)

    def __iter__(self) -> Iterator[str]:
        for array, entries in self._metadata.items():
            yield from (f"{array}/{name}" for name in entries)
        for array, table in self._tables():
            yield from (f"{array}/{name}" for name in table)

    def __len__(self) -> int:
        return sum(map(len, self._metadata.values())) + sum(len(table) for _, table in self._tables())


class ObjectNames(Set[str]):
    """Names of the objects of a set, those of chunks as numbers: a set may have millions."""

    def __init__(self) -> None:
        self._chunks: dict[tuple[str, int], Numbers[int]] = {}
        self._others: set[str] = set()

    def add(self, name: str) -> None:
        """Add a name that was not added before."""
        folder, _, leaf = name.rpartition("/")
        match = _CHUNK.fullmatch(leaf) if folder else None
        if match is None:
            self._others.add(name)
        else:
            self._chunks.setdefault((folder, leaf.count(".")), Numbers("Q")).append(int(match[1]))

    def __contains__(self, name: object) -> bool:
        folder, _, leaf = str(name).rpartition("/")
        match = _CHUNK.fullmatch(leaf) if folder else None
        if match is None:
            return name in self._others
        return int(match[1]) in self._chunks.get((folder, leaf.count(".")), ())

    def __iter__(self) -> Iterator[str]:
        yield from self._others
        for (folder, n_axes), numbers in self._chunks.items():
            yield from (f"{folder}/c.{number}" + ".0" * (n_axes - 1) for number in numbers)

    def __len__(self) -> int:
        return len(self._others) + sum(map(len, self._chunks.values()))
