"""The layout of a set: how its rows are cut into ranges, and ranges into chunks.

A *range* is what one process extracts and commits at a time; a *chunk* is one stored object of one array. Sizes in
bytes decide both, once, when the set is created. Ranges hold a power of two of rows and chunks divide ranges, so that
arrays added later fit the same ranges whatever their row size.
"""

from typing import Literal, NamedTuple

from pydantic import Field

from stores.specs import ArraySpec, Record

RANGE_BYTES = 64 << 20
"""Largest size of a range of the largest array, in bytes; a range is larger than half of it, or holds all rows."""
CHUNK_BYTES = 8 << 20
"""Default of `Layout.chunk_bytes`."""

MOST_RANGES = 10_000_000
"""Largest number of ranges of a set that is opened; their numbers are held in memory."""


class RowRange(NamedTuple):
    """Rows ``start`` up to ``stop`` of a set; ``number`` counts ranges from 0."""

    number: int
    start: int
    stop: int


class Layout(Record):
    """How a set's rows are cut into ranges; written once when the set is created."""

    n_rows: int = Field(ge=1)
    range_rows: int = Field(ge=1)
    """Rows of a range; the last one may be shorter."""
    compression: Literal["none", "zstd"] = "none"
    """Codec between the little-endian bytes and the checksum of every chunk."""

    chunk_bytes: int = Field(default=CHUNK_BYTES, ge=1)
    """Largest size of a chunk that is smaller than its range, in bytes; a single row may be larger."""

    @property
    def n_ranges(self) -> int:
        """Number of ranges."""
        return -(-self.n_rows // self.range_rows)

    def range(self, number: int) -> RowRange:
        """Return one range; raises IndexError when there is no such range."""
        if not 0 <= number < self.n_ranges:
            raise IndexError(f"range {number} of a set with {self.n_ranges} ranges")
        start = number * self.range_rows
        return RowRange(number, start, min(start + self.range_rows, self.n_rows))

    def ranges(self) -> tuple[RowRange, ...]:
        """Return all ranges in order."""
        return tuple(self.range(number) for number in range(self.n_ranges))

    def chunk_rows(self, array: ArraySpec, max_bytes: int | None = None) -> int:
        """Return the rows of one chunk of ``array``: a divisor of the range, of ``max_bytes`` bytes or one row."""
        rows, most = self.range_rows, self.chunk_bytes if max_bytes is None else max_bytes
        while rows % 2 == 0 and rows * array.row_bytes > most:
            rows //= 2
        return rows

    def range_of_chunk(self, index: int, array: ArraySpec) -> int:
        """Return the number of the range that the ``index``-th chunk of ``array`` belongs to."""
        return index * self.chunk_rows(array) // self.range_rows

    def n_objects(self, array: ArraySpec) -> int:
        """Return the number of chunk objects of ``array`` when it is complete."""
        return -(-self.n_rows // self.chunk_rows(array))

    def stored_bytes(self, array: ArraySpec, row_range: RowRange) -> int:
        """Return the bytes of a range's chunks of ``array`` without compression; the last one is padded to a whole."""
        rows = self.chunk_rows(array)
        return -(-(row_range.stop - row_range.start) // rows) * rows * array.row_bytes


def plan_layout(
    n_rows: int,
    largest_row_bytes: int,
    *,
    range_bytes: int = RANGE_BYTES,
    chunk_bytes: int = CHUNK_BYTES,
    compression: Literal["none", "zstd"] = "none",
) -> Layout:
    """Return the layout of a new set.

    Args:
        n_rows: Number of rows.
        largest_row_bytes: Size of one row of the largest array, in bytes.
        range_bytes: Largest size of a range of that array, in bytes.
        chunk_bytes: Largest size of a chunk of any array, in bytes.
        compression: Codec of the chunks.
    """
    rows = 1
    while rows < n_rows and 2 * rows * largest_row_bytes <= range_bytes:
        rows *= 2
    return Layout(n_rows=n_rows, range_rows=rows, compression=compression, chunk_bytes=chunk_bytes)


def chunk_name(index: int, array: ArraySpec) -> str:
    """Return the object name of the ``index``-th chunk: Zarr's default key encoding with "." as separator."""
    return ".".join(["c", str(index), *("0" for _ in array.row_shape)])
