"""Content digests: what values an array holds, whatever container it is in.

A chunk has the sha256 of its rows as little-endian C-order bytes, without padding; a range has the sha256 of those of
its chunks one after another, and an array that of those of its ranges. So chunks can be hashed in any order and by
several writers, each byte once. Equal in a Zarr folder, an HDF5 file and memory, for sets with an equal layout.
"""

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np

from stores.format.layout import Layout
from stores.specs import ArraySpec


def range_content(chunks: Iterable[bytes]) -> str:
    """Return the content digest of a range from the sha256 (32 bytes each) of its chunks' rows, in order."""
    return hashlib.sha256(b"".join(chunks)).hexdigest()


def array_content(ranges: Iterable[str]) -> str:
    """Return the content digest of an array from those of its ranges, in order."""
    return hashlib.sha256(b"".join(map(bytes.fromhex, ranges))).hexdigest()


class ContentDigest:
    """The content digest of an array, from rows that are added in order in blocks of any size.

    Args:
        layout: Layout of the set, which says where chunks and ranges end.
        array: Record of the array.
    """

    def __init__(self, layout: Layout, array: ArraySpec) -> None:
        self._layout, self._array = layout, array
        self._chunk_rows = layout.chunk_rows(array)
        self._row = 0
        self._sha256 = hashlib.sha256()
        self._chunks: list[bytes] = []
        self._ranges: list[str] = []

    def update(self, rows: np.ndarray) -> None:
        """Add the next rows."""
        if not rows.flags.c_contiguous or rows.dtype.byteorder == ">":
            rows = np.ascontiguousarray(rows, dtype=rows.dtype.newbyteorder("<"))
        done = 0
        while done < len(rows):
            take = min(len(rows) - done, self._chunk_rows - self._row % self._chunk_rows)
            self._sha256.update(rows[done : done + take].reshape(-1).view(np.uint8).data)
            done, self._row = done + take, self._row + take
            if self._row % self._chunk_rows == 0 or self._row == self._layout.n_rows:
                self._chunks.append(self._sha256.digest())
                self._sha256 = hashlib.sha256()
            if self._row % self._layout.range_rows == 0 or self._row == self._layout.n_rows:
                self._ranges.append(range_content(self._chunks))
                self._chunks = []

    def hexdigest(self) -> str:
        """Return the digest once all rows were added; raises ValueError before."""
        if self._row != self._layout.n_rows:
            raise ValueError(f"{self._row} of {self._layout.n_rows} rows of {self._array.name} were added")
        return array_content(self._ranges)


def content_of(array: Any, layout: Layout) -> str:
    """Return the content digest that a stored array has under a layout, by reading all its rows."""
    content = ContentDigest(layout, array.spec)
    for _, rows in array.blocks():
        content.update(rows)
    return content.hexdigest()
