"""Reading arrays: the base class of arrays, the interface of sets, and arrays in the Zarr format."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from concurrent.futures import Executor
from copy import copy
from functools import partial
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pandas as pd
from jaxtyping import Int64

from stores.errors import DamageError, MissingError
from stores.format.chunks import Checksum, decode_chunk
from stores.format.layout import Layout, chunk_name
from stores.format.seal_checks import ChunkCheck, SealChecks
from stores.indexing import AxisIndex, Index, Selection, row_numbers, select
from stores.notebook import html_table
from stores.specs import ArraySpec, FeatureSpec, LabelSpec
from stores.storage.base import Objects

BLOCK_BYTES = 64 << 20
"""Default size of the blocks that `blocks` yields, in bytes."""

MOST_CHUNK_BYTES = 2 << 30
"""Size of the largest chunk that is read, in bytes."""


class StoredArray(ABC):
    """An array of a set, read by rows. Rows that are not committed read as NaN (labels: void)."""

    spec: ArraySpec
    layout: Layout

    def __getitem__(self, index: Index) -> Any:
        """Return the selected rows, or parts of rows, in the given order; raises IndexError as `select` does.

        Integers, slices, lists, masks and ``...`` may be given for several axes at once; each axis is selected on its
        own, as with ``oindex`` of Zarr. An integer removes its axis.
        """
        selection = select(index, self.shape, self.spec.dimension_names)
        return selection.result(self._read(selection))

    @abstractmethod
    def _read(self, selection: Selection) -> np.ndarray:
        """Return the selected entries, with the axes that an integer selected (of extent 1)."""

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

    def __repr__(self) -> str:
        return f"<array {self.spec.name} {self.shape} {self.spec.dtype}>"

    def _repr_html_(self) -> str:
        facts = [(name, value) for name, value in self.spec.attributes.items() if value is not None]
        axes = [*zip(self.spec.dimension_names, self.shape, strict=True)]
        return html_table(repr(self), ("axis or fact", "value"), [*axes, *facts])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        whole = self[:]
        return whole if dtype is None else whole.astype(dtype)

    def blocks(
        self, rows: AxisIndex | None = None, max_bytes: int = BLOCK_BYTES
    ) -> Iterator[tuple[Int64[np.ndarray, " row"], np.ndarray]]:
        """Yield ``(row numbers, rows)`` in increasing row order, each block at most ``max_bytes`` (or one row).

        ``rows`` chooses rows by number, slice or mask, all by default; a row that is named twice comes twice.
        """
        chosen = np.sort(row_numbers(slice(None) if rows is None else rows, len(self)))
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
        executor: Reads chunks in parallel; without one the storage is asked for as many as it answers at once.
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
        self.checks: SealChecks | None = None
        """Compares every chunk with the array's seal; without it only checksums are tested."""

    def __repr__(self) -> str:
        done = f"{len(self.committed)}/{self.layout.n_ranges} ranges"
        return f"<array {self.spec.name} {self.shape} {self.spec.dtype}, {done}>"

    def chunk(self, index: int) -> np.ndarray:
        """Return one chunk's rows, read-only; raises DamageError when its bytes are not what was committed."""
        name, check = self._about_to_read(index)
        try:
            data = self.objects.read(name)
        except MissingError as error:
            raise self._gone(name) from error
        if check is not None:
            check(data)
            check.finish(len(data))
        return decode_chunk(data, self.spec, self.layout, f"{self.objects.url}/{name}")

    def _about_to_read(self, index: int) -> tuple[str, ChunkCheck | None]:
        chunk = chunk_name(index, self.spec)
        return f"{self.folder}/{chunk}", None if self.checks is None else self.checks.first_read(chunk)

    def _gone(self, name: str) -> DamageError:
        return DamageError(f"{self.objects.url}/{name} was committed and is gone: run `patchbank verify`")

    def _read_whole(self, index: int, out: np.ndarray) -> None:
        """Read one whole chunk into ``out`` without a copy, and test its checksum, or its sha256, there."""
        if self.layout.compression != "none" or not out.dtype.isnative:
            out[:] = self.chunk(index)
            return
        name, check = self._about_to_read(index)
        rows, tail = out.reshape(-1).view(np.uint8).data, bytearray(4)
        checksum = Checksum(len(rows))
        try:
            size = self.objects.read_into(name, [rows, memoryview(tail)], check or checksum)
        except MissingError as error:
            raise self._gone(name) from error
        if check is not None:
            check.finish(size)
        elif size != len(rows) + 4 or checksum.value != int.from_bytes(tail, "little"):
            raise DamageError(f"{self.objects.url}/{name} is not what was committed: run `patchbank verify`")

    def _read(self, selection: Selection) -> np.ndarray:
        out = np.empty((len(selection.rows), *selection.row_shape), self.dtype)
        chunk_of = selection.rows // self.layout.chunk_rows(self.spec)
        fill = partial(self._fill, out, selection, chunk_of)
        needed = [int(index) for index in np.unique(chunk_of)]
        if self.executor is not None and len(needed) > 1:
            list(self.executor.map(fill, needed))
        else:
            for _ in self.objects.together(partial(fill, index) for index in needed):
                pass
        return out

    def _fill(self, out: np.ndarray, selection: Selection, chunk_of: np.ndarray, index: int) -> None:
        """Copy the selected entries of one chunk to their positions in ``out``."""
        chunk_rows = self.layout.chunk_rows(self.spec)
        positions = np.flatnonzero(chunk_of == index)
        if self.layout.range_of_chunk(index, self.spec) not in self.committed:
            out[positions] = self.spec.fill
            return
        inside = selection.rows[positions] - index * chunk_rows
        if not (_is_run(positions) and _is_run(inside)):
            out[positions] = selection.of_rows(self.chunk(index)[inside])
            return
        run = out[positions[0] : positions[0] + len(positions)]
        if len(positions) == chunk_rows and selection.whole_rows:
            self._read_whole(index, run)
        else:  # one memcpy
            run[:] = selection.of_rows(self.chunk(index)[inside[0] : inside[0] + len(inside)])

    def _identity(self) -> str:
        return f"{self.objects.url}/{self.folder} {sorted(self.committed)}"

    def _single_threaded(self) -> "ZarrArray":
        array = copy(self)
        array.executor = None
        return array
