"""What a store remembers of the files of a data set, as columns: a million files take seconds and some 200 MB."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet
from jaxtyping import Int64

from stores.canonical import with_sha256, without_sha256
from stores.errors import DamageError
from stores.format.tables import read_arrow

STATUS = ("size", "modified_ns", "changed_ns", "inode")
"""Numbers by which a changed file is noticed, see `pipeline.datasets.reading.files.file_status`."""
HEADER = ("height", "width", "revision")
"""Numbers that the header of an image tells, see `pipeline.datasets.reading.images.Header`."""
UNKNOWN = -1
"""In place of the numbers of a header that was not read."""

_LONGEST_SIDE = 65_536  # pixels, as in stores.specs.Size
_SCHEMA = pa.schema(
    [
        ("name", pa.large_string()),
        *((name, pa.int64()) for name in (*STATUS, *HEADER)),
        ("sha256", pa.large_string()),
    ]
)


@dataclass(frozen=True)
class FileNotes:
    """Files in any order, each once."""

    names: Any
    """Paths below the root, an Arrow array of texts."""
    status: Int64[np.ndarray, "file 4"]
    """`STATUS` of each file when it was read."""
    headers: Int64[np.ndarray, "file 3"]
    """`HEADER` of each image, `UNKNOWN` where it was not read."""
    sha256: Any
    """sha256 in hexadecimal digits, an Arrow array of texts; empty where the file was not hashed."""

    @classmethod
    def empty(cls) -> "FileNotes":
        """Return notes of no file."""
        return cls(texts([]), np.empty((0, len(STATUS)), np.int64), np.empty((0, len(HEADER)), np.int64), texts([]))

    def find(self, names: Any) -> Int64[np.ndarray, " file"]:
        """Return the numbers of some files in these notes, -1 for those that are not noted."""
        found = pc.fill_null(pc.index_in(names, value_set=self.names), -1)
        return found.to_numpy(zero_copy_only=False).astype(np.int64)

    def updated(self, newer: "FileNotes") -> "FileNotes":
        """Return these notes with others added, which take the place of notes of the same files."""
        others = newer.find(self.names) < 0
        kept = self if others.all() else self.taken(np.flatnonzero(others))
        return FileNotes(
            pa.concat_arrays([kept.names, newer.names]),
            np.concatenate([kept.status, newer.status]),
            np.concatenate([kept.headers, newer.headers]),
            pa.concat_arrays([kept.sha256, newer.sha256]),
        )

    def taken(self, numbers: Int64[np.ndarray, " chosen"]) -> "FileNotes":
        """Return the notes of the files with these numbers."""
        return FileNotes(
            self.names.take(pa.array(numbers)),
            self.status[numbers],
            self.headers[numbers],
            self.sha256.take(pa.array(numbers)),
        )

    def without(self, name: str) -> "FileNotes":
        """Return the notes without those of one file."""
        found = self.find(texts([name]))
        return self if found[0] < 0 else self.taken(np.delete(np.arange(len(self.names)), found))

    def to_bytes(self) -> bytes:
        """Return the notes as Parquet, followed by the sha256 of it."""
        numbers = np.concatenate([self.status, self.headers], axis=1)
        table = pa.Table.from_arrays([self.names, *map(pa.array, numbers.T), self.sha256], schema=_SCHEMA)
        sink = io.BytesIO()
        pyarrow.parquet.write_table(table, sink, compression="zstd", use_dictionary=False, store_schema=False)
        return with_sha256(sink.getvalue())

    @classmethod
    def from_bytes(cls, data: bytes) -> "FileNotes | None":
        """Return notes written by `to_bytes`, None where the bytes are damaged."""
        content = without_sha256(data)
        try:
            table = read_arrow(content or b"", "notes on files")
        except DamageError:
            return None
        kinds = {name: str(table.schema.field(name).type).removeprefix("large_") for name in table.column_names}
        if kinds != {one.name: str(one.type).removeprefix("large_") for one in _SCHEMA}:
            return None
        table = table.select(_SCHEMA.names)
        if any(column.null_count for column in table.columns):
            return None
        table = table.cast(_SCHEMA).combine_chunks()
        columns = {name: _one_array(table[name]) for name in table.column_names}
        status, headers = (np.stack([columns[name].to_numpy() for name in names], axis=1) for names in (STATUS, HEADER))
        known = headers[(headers != UNKNOWN).any(axis=1)]
        if ((known[:, :2] < 1) | (known[:, :2] > _LONGEST_SIDE)).any():
            return None
        return cls(columns["name"], status, headers, columns["sha256"])


def texts(values: Sequence[str]) -> Any:
    """Return texts as an Arrow array."""
    return pa.array(values, pa.large_string())


def _one_array(column: Any) -> Any:
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks or [texts([])])
