"""Reads model inputs from the label set that keeps them, so that images need not be decoded for every model.

The stored pixels are what a model is given, 8 bits a colour, and the label set's record names the images, tiles and
frame they are of: rows read from it are equal to rows that are decoded by the same version of Pillow.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from jaxtyping import Float32, UInt8

from pipeline.frame_recipe import Interpolation
from pipeline.labels.input_pixels import are_of_this_decoder, input_array
from pipeline.labels.label_set import label_spec
from pipeline.rows.pixels import read_tiles
from pipeline.rows.samples import Samples
from pipeline.views import CLEAN
from stores import Store, ZarrSet
from stores.errors import PatchbankError
from stores.specs import ArraySpec
from stores.writing.known_rows import CheckedRows

_CHUNKS = 2
"""Chunks that are kept, so that threads at the border of two do not read both again and again."""


class StoredInputs:
    """Reads rows of a sealed array of inputs, for several threads; every chunk is compared with its seal.

    Rows of bad images and of bad labels, which a label set does not hold, and rows of damaged chunks are decoded.

    Args:
        samples: The rows in the clean view.
        stored: The label set.
        array: Its array of inputs.
    """

    def __init__(self, samples: Samples, stored: ZarrSet, array: ArraySpec) -> None:
        self.samples = samples
        self.interpolation: Interpolation = array.attributes["interpolation"]  # type: ignore[assignment]
        self.chunk_rows = stored.layout.chunk_rows(array)
        self.row_bytes = array.row_bytes
        self._readers = [CheckedRows(stored, array) for _ in range(_CHUNKS)]
        self._locks = [threading.Lock() for _ in range(_CHUNKS)]
        self._damaged: set[int] = set()

    @property
    def n_bytes(self) -> int:
        """Memory of the chunks that are kept, in bytes; a chunk that is read is there twice."""
        return (_CHUNKS + 1) * self.chunk_rows * self.row_bytes

    def read(
        self, start: int, stop: int
    ) -> tuple[UInt8[np.ndarray, "sample height width 3"], dict[str, Float32[np.ndarray, " sample"]]]:
        """Return what `read_tiles` does for rows ``start`` to ``stop`` of one source; raises as it does."""
        if self.samples.tiles[start][0] not in self.samples.bad:
            parts = [self._of_chunk(*part) for part in self._parts(start, stop)]
            if all(part is not None for part in parts):
                return np.concatenate([part for part in parts if part is not None]), {}
        return read_tiles(self.samples, self.interpolation, start, stop)

    def _parts(self, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
        """Yield the chunks of some rows, each with its first row and the row after its last."""
        while start < stop:
            index = start // self.chunk_rows
            end = min(stop, (index + 1) * self.chunk_rows)
            yield index, start, end
            start = end

    def _of_chunk(self, index: int, start: int, stop: int) -> UInt8[np.ndarray, "sample height width 3"] | None:
        with self._reading(index) as reader:
            if index not in self._damaged:
                try:
                    return reader[np.arange(start, stop)]
                except PatchbankError:  # damaged or removed: `verify` says so, the images give the same
                    self._damaged.add(index)
        return None

    @contextmanager
    def _reading(self, index: int) -> Iterator[CheckedRows]:
        with self._locks[index % _CHUNKS]:
            yield self._readers[index % _CHUNKS]


def stored_inputs(samples: Samples, interpolation: Interpolation, store: Store) -> StoredInputs | None:
    """Return what reads the inputs of some rows from the store, None where it does not hold them, sealed."""
    if samples.view is not CLEAN:
        return None
    array, spec = input_array(samples, interpolation), label_spec(samples)
    try:
        stored = store.open(spec) if store.has(spec) else None
    except PatchbankError:
        return None
    if stored is None or not stored.sealed(array.name) or stored.arrays[array.name] != array:
        return None
    return StoredInputs(samples, stored, array) if are_of_this_decoder(stored, array) else None
