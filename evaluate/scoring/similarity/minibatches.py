"""Minibatches of rows, and their Gram matrices as they are stored.

Stored Gram matrices are of minibatches of consecutive rows of the set (pipeline/captures/grams.py), of which rows that
are invalid or not selected are left out; vectors are cut into minibatches of shuffled rows. Where a data set lists its
images class by class or frame by frame, a minibatch of consecutive rows shows few classes or scenes, and CKA tells how
alike differences *within* these are; shuffled minibatches differ in more.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from evaluate.inputs.memory import reading_bytes
from evaluate.inputs.model_sets import ModelSets
from evaluate.kernels.similarity.cka import FEWEST_ROWS
from evaluate.scoring.similarity.representations import Representation


def shuffled_minibatches(n_rows: int, size: int, seed: int) -> list[Int64[np.ndarray, " _"]]:
    """Return minibatches of shuffled rows, 0 .. ``n_rows - 1``; a last one of fewer than four rows is left out."""
    order = np.random.Generator(np.random.PCG64(seed)).permutation(n_rows)
    cut = (np.sort(order[start : start + size]) for start in range(0, n_rows, size))
    return [rows for rows in cut if len(rows) >= FEWEST_ROWS]


def stored_minibatches(rows: Int64[np.ndarray, " row"], size: int) -> list[Int64[np.ndarray, " _"]]:
    """Return the rows of every minibatch of consecutive rows of a set that keeps four at least.

    Args:
        rows: rows that are kept, increasing.
        size: rows of a minibatch; the first begins with row 0.
    """
    borders = np.flatnonzero(np.diff(rows // size)) + 1
    return [part for part in np.split(rows, borders) if len(part) >= FEWEST_ROWS]


@dataclass(frozen=True, eq=False)
class StoredGrams:
    """The Gram matrices of some layers of one model."""

    model: ModelSets
    representations: Sequence[Representation]
    n_rows: int
    """Rows of a minibatch."""

    @property
    def block_rows(self) -> int:
        """Rows that are read together: a chunk of any of the arrays, and whole minibatches."""
        arrays = [self.model.features[address] for one in self.representations for address in one.addresses]
        largest = max(array.layout.chunk_rows(array.spec) for array in arrays)
        return -(-largest // self.n_rows) * self.n_rows

    def block(self, start: int, stop: int) -> Float64[np.ndarray, "layer row minibatch"]:
        """Return the products of rows ``start`` up to ``stop`` with those of their minibatches, as stored."""
        products = np.empty((len(self.representations), stop - start, self.n_rows))
        for layer, one in enumerate(self.representations):
            first, *others = one.addresses
            products[layer] = self.model.features[first][start:stop]
            for address in others:
                products[layer] += self.model.features[address][start:stop]
        return products

    def held_bytes(self, block_rows: int) -> int:
        """Return what a block of all layers holds, and reading one array of it."""
        n_rows, first = min(block_rows, len(self.model.samples)), self.representations[0].addresses[0]
        return 8 * n_rows * self.n_rows * (len(self.representations) + 1) + reading_bytes(self.model, first)


def gram_minibatches(
    one: StoredGrams, other: StoredGrams, minibatches: Sequence[Int64[np.ndarray, " _"]]
) -> Iterator[tuple[Float64[np.ndarray, "layer row row"], Float64[np.ndarray, "other row row"]]]:
    """Yield the Gram matrices of both models minibatch by minibatch; only a block of chunks is in memory at a time.

    Args:
        one: matrices of the one model.
        other: those of the other; the same object for a model with itself.
        minibatches: rows that are kept of every minibatch.
    """
    size, n_rows = one.n_rows, len(one.model.samples)
    step = max(one.block_rows, other.block_rows)
    start, blocks = -1, [np.empty((0, 0, 0))]
    for rows in minibatches:
        if (first := int(rows[0]) // step * step) != start:
            start, stop = first, min(first + step, n_rows)
            blocks = [grams.block(start, stop) for grams in ((one,) if other is one else (one, other))]
        begin = int(rows[0]) // size * size
        pair = [_mirrored(block[:, begin - start :][:, :size], rows - begin) for block in blocks]
        yield pair[0], pair[-1]


def _mirrored(
    lower: Float64[np.ndarray, "layer minibatch size"], places: Int64[np.ndarray, " row"]
) -> Float64[np.ndarray, "layer row row"]:
    """Return the whole matrices of some places of a minibatch, of which the lower triangles are stored."""
    kept = np.tril(lower[:, places][:, :, places])
    return kept + np.tril(kept, -1).transpose(0, 2, 1)
