"""Reading arrays: the base class of arrays, the interface of sets, and arrays in the Zarr format."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from functools import partial
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pandas as pd
from jaxtyping import Int64

from stores.errors import DamageError, MissingError
from stores.format.chunks import crc32c, decode_chunk
from stores.format.layout import Layout, chunk_name
from stores.specs import ArraySpec, FeatureSpec, LabelSpec
from stores.storage.base import Objects

Rows = int | slice | Sequence[int] | Int64[np.ndarray, " row"]
"""Selects rows: one number, a slice, or row numbers in any order."""

BLOCK_BYTES = 64 << 20
"""Default size of the blocks that `blocks` yields, in bytes."""

MOST_CHUNK_BYTES = 2 << 30
"""Size of the largest chunk that is read, in bytes."""


class StoredArray(ABC):
    """An array of a set, read by rows. Rows that are not committed read as NaN (labels: void)."""

    spec: ArraySpec
    layout: Layout

    @abstractmethod
    def __getitem__(self, rows: Rows) -> np.ndarray:
        """Return the chosen rows in the given order; one number gives one row without the row axis."""

    @abstractmethod
    def _identity(self) -> str:
        """Return a text that is equal for equal values: arrays with equal texts get equal dask names and share work."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows first."""
        return (self.layout.n_rows, *self.spec.row_shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Stored dtype."""
        return np.dtype(self.spec.dtype)

    def __len__(self) -> int:
        return self.layout.n_rows

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        whole = self[:]
        return whole if dtype is None else whole.astype(dtype)

    def blocks(
        self, rows: Int64[np.ndarray, " row"] | None = None, max_bytes: int = BLOCK_BYTES
    ) -> Iterator[tuple[Int64[np.ndarray, " row"], np.ndarray]]:
        """Yield ``(row numbers, rows)`` in increasing row order, each block at most ``max_bytes`` (or one row)."""
        chosen = np.arange(len(self), dtype=np.int64) if rows is None else np.sort(rows)
        step = max(1, max_bytes // self.spec.row_bytes)
        for start in range(0, len(chosen), step):
            numbers = chosen[start : start + step]
            yield numbers, self[numbers]

    def as_dask(self) -> Any:
        """Return a dask array whose chunks are the ranges, so that no stored chunk is read twice.

        Nothing is read before the dask array is computed; dask cannot write through it.
        """
        import dask.array
        from dask.base import tokenize

        array = self._single_threaded()

        def rows_of(block_info: Any = None) -> np.ndarray:
            start, stop = block_info[None]["array-location"][0]
            return array[int(start) : int(stop)]

        ranges = tuple(row_range.stop - row_range.start for row_range in self.layout.ranges())
        return dask.array.map_blocks(
            rows_of,
            name=f"{self.spec.name.replace('/', '-')}-{tokenize(self._identity())}",
            chunks=(ranges, *((extent,) for extent in self.spec.row_shape)),
            dtype=self.dtype,
            meta=np.empty((0,) * (1 + len(self.spec.row_shape)), self.dtype),
        )

    def _single_threaded(self) -> "StoredArray":
        """Return the array without threads of its own, for callers that schedule reads themselves."""
        return self


@runtime_checkable
class StoredSet(Protocol):
    """A set that can be read: in a Zarr folder, an HDF5 file or memory."""

    digest: str
    layout: Layout

    @property
    def spec(self) -> FeatureSpec | LabelSpec:
        """The record that names the set."""
        ...

    @property
    def arrays(self) -> dict[str, ArraySpec]:
        """Array records by address."""
        ...

    @property
    def content(self) -> dict[str, str]:
        """Content digest of every sealed array, by address."""
        ...

    def table(self, name: str) -> pd.DataFrame:
        """Return one of the set's tables; ``samples`` has one line for each row of the arrays, in the same order."""
        ...

    def committed(self, array: str) -> frozenset[int]:
        """Return the numbers of the committed ranges of an array."""
        ...

    def sealed(self, array: str) -> bool:
        """Return whether an array is complete and read-only."""
        ...

    def __getitem__(self, name: str) -> StoredArray:
        """Return an array by its address; without a group ``tokens/`` is meant."""
        ...


def row_numbers(rows: Rows, n_rows: int) -> Int64[np.ndarray, " row"]:
    """Return the selected row numbers; raises IndexError outside 0..n_rows-1."""
    if isinstance(rows, slice):
        return np.arange(*rows.indices(n_rows), dtype=np.int64)
    numbers = np.atleast_1d(np.asarray(rows, dtype=np.int64))
    if numbers.size and (numbers.min() < -n_rows or numbers.max() >= n_rows):
        raise IndexError(f"row {numbers.max() if numbers.max() >= n_rows else numbers.min()} of {n_rows} rows")
    return np.where(numbers < 0, numbers + n_rows, numbers)


class _Checksum:
    """CRC32C of the first ``n_bytes`` bytes that are read, updated piece by piece; a piece ends where they end."""

    def __init__(self, n_bytes: int) -> None:
        self.left = n_bytes
        self.value = 0

    def __call__(self, piece: memoryview) -> None:
        if self.left > 0:
            self.value = crc32c(piece, self.value)
        self.left -= len(piece)


def _is_run(numbers: np.ndarray) -> bool:
    return bool((np.diff(numbers) == 1).all())


class ZarrArray(StoredArray):
    """An array in a store. Every chunk that is read has its checksum tested, and none is kept in memory.

    Args:
        objects: Storage of the store.
        folder: Folder of the array, relative to the store.
        spec: Record of the array.
        layout: Layout of its set.
        committed: Numbers of the committed ranges; rows of others read as the fill value.
        executor: Reads chunks in parallel; without one they are read one after another.
    """

    def __init__(
        self,
        objects: Objects,
        folder: str,
        spec: ArraySpec,
        layout: Layout,
        committed: frozenset[int],
        executor: Executor | None = None,
    ) -> None:
        if layout.chunk_rows(spec) * spec.row_bytes > MOST_CHUNK_BYTES:
            raise DamageError(
                f"{objects.url}/{folder} declares chunks of {layout.chunk_rows(spec)} rows of {spec.row_bytes} bytes, "
                "larger than any that is written: run `patchbank verify`"
            )
        self.objects = objects
        self.folder = folder
        self.spec = spec
        self.layout = layout
        self.committed = committed
        self.executor = executor

    def __repr__(self) -> str:
        done = f"{len(self.committed)}/{self.layout.n_ranges} ranges"
        return f"<array {self.spec.name} {self.shape} {self.spec.dtype}, {done}>"

    def chunk(self, index: int) -> np.ndarray:
        """Return one chunk's rows, read-only; raises DamageError when its bytes are not what was committed."""
        name = f"{self.folder}/{chunk_name(index, self.spec)}"
        try:
            data = self.objects.read(name)
        except MissingError as error:
            raise self._gone(name) from error
        return decode_chunk(data, self.spec, self.layout, f"{self.objects.url}/{name}")

    def _gone(self, name: str) -> DamageError:
        return DamageError(f"{self.objects.url}/{name} was committed and is gone: run `patchbank verify`")

    def _read_whole(self, index: int, out: np.ndarray) -> None:
        """Read one whole chunk into ``out`` without a copy, and test its checksum there."""
        if self.layout.compression != "none" or not out.dtype.isnative:
            out[:] = self.chunk(index)
            return
        name = f"{self.folder}/{chunk_name(index, self.spec)}"
        rows, tail = out.reshape(-1).view(np.uint8).data, bytearray(4)
        checksum = _Checksum(len(rows))
        try:
            size = self.objects.read_into(name, [rows, memoryview(tail)], checksum)
        except MissingError as error:
            raise self._gone(name) from error
        if size != len(rows) + 4 or checksum.value != int.from_bytes(tail, "little"):
            raise DamageError(f"{self.objects.url}/{name} is not what was committed: run `patchbank verify`")

    def __getitem__(self, rows: Rows) -> np.ndarray:
        """Return the chosen rows in the given order; one number gives one row without the row axis."""
        numbers = row_numbers(rows, self.layout.n_rows)
        out = np.empty((len(numbers), *self.spec.row_shape), self.dtype)
        chunk_of = numbers // self.layout.chunk_rows(self.spec)
        fill = partial(self._fill, out, numbers, chunk_of)
        needed = [int(index) for index in np.unique(chunk_of)]
        if self.executor is not None and len(needed) > 1:
            list(self.executor.map(fill, needed))
        else:
            for index in needed:
                fill(index)
        return out[0] if isinstance(rows, int | np.integer) else out

    def _fill(self, out: np.ndarray, numbers: np.ndarray, chunk_of: np.ndarray, index: int) -> None:
        """Copy the rows of one chunk to their positions in ``out``, which holds the rows ``numbers``."""
        chunk_rows = self.layout.chunk_rows(self.spec)
        positions = np.flatnonzero(chunk_of == index)
        if self.layout.range_of_chunk(index, self.spec) not in self.committed:
            out[positions] = self.spec.fill
            return
        inside = numbers[positions] - index * chunk_rows
        if not (_is_run(positions) and _is_run(inside)):
            out[positions] = self.chunk(index)[inside]
            return
        run = out[positions[0] : positions[0] + len(positions)]
        if len(positions) == chunk_rows:
            self._read_whole(index, run)
        else:  # one memcpy
            run[:] = self.chunk(index)[inside[0] : inside[0] + len(inside)]

    def _identity(self) -> str:
        return f"{self.objects.url}/{self.folder} {sorted(self.committed)}"

    def _single_threaded(self) -> "ZarrArray":
        return ZarrArray(self.objects, self.folder, self.spec, self.layout, self.committed)
