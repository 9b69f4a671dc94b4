"""Estimated peak memory of what analyses do with a model's sets: reading, searching, fitting probes, scoring.

Each function counts the large arrays of one step, in bytes, and rounds up; `evaluate.task.Task.peak_bytes` adds them.
What streams counts a sum that does not grow with the number of patches. Not counted: the tables of samples and objects,
and the weights of a decoder.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evaluate.inputs.chunks import ahead, held_bytes, n_chunks, n_readers, readers
from evaluate.inputs.model_sets import PIXELS, ModelSets
from evaluate.inputs.rows import RowSelection
from evaluate.kernels import bootstrap, moments, treatments
from evaluate.kernels.probing import penalties
from evaluate.kernels.segmentation import confusion
from evaluate.neighbours import knn, voting
from evaluate.neighbours.knn import SEARCH_BYTES as SEARCH_BYTES

PATCH_BYTES = 64
"""Labels, images and other numbers of one patch, most of them eight bytes wide."""


def search_memory(memory_bytes: int, held_bytes: int, reserved: int = SEARCH_BYTES) -> int:
    """Return what a neighbour search may use beside its inputs: what is ``reserved`` for it, and what is left over."""
    return max(reserved, memory_bytes - held_bytes + reserved)


def rows_bytes(model: ModelSets, array: str, n_rows: int) -> int:
    """Return the size of rows of a token array."""
    return n_rows * model.features.arrays[array].row_bytes


def reading_bytes(model: ModelSets, array: str) -> int:
    """Return what reading an array chunk by chunk holds, and moments of the rows meanwhile."""
    stored = model.features[array]
    chunk_bytes = stored.layout.chunk_rows(stored.spec) * stored.spec.row_bytes
    return held_bytes(chunk_bytes) + moments.WORK_BYTES + readers() * moments.THREAD_BYTES


def n_patches(model: ModelSets, array: str, n_rows: int) -> int:
    """Return the number of patches of rows of a token array; one a row of an array without a grid."""
    rows, columns = model.features.arrays[array].grid or (1, 1)
    return n_rows * rows * columns


def reducing_bytes(model: ModelSets, array: str, rows: np.ndarray, of_row: int = 0) -> int:
    """Return what reading rows chunk by chunk holds where the thread that reads makes something small of each chunk.

    A thread holds a chunk and once more its bytes, as stored or of the rows of which only some are read; of compressed
    chunks it may hold both. What threads give back stays with the allocator, at least in part (measured: 16 to 20 MB of
    chunks of 5 MB), so callers add this to what comes after reading.

    Args:
        model: stored sets of the model.
        array: address of the array.
        rows: rows to read, increasing.
        of_row: bytes that are made of a row, which wait in order.
    """
    stored = model.features[array]
    chunk_rows = stored.layout.chunk_rows(stored.spec)
    copies = 2 if stored.layout.compression == "none" else 3
    of_thread = copies * chunk_rows * stored.spec.row_bytes
    waiting = min(len(rows), (1 + ahead(chunk_rows * stored.spec.row_bytes)) * chunk_rows) * of_row
    return n_readers(stored, rows) * of_thread + waiting + moments.WORK_BYTES


def neighbours_bytes(
    n_queries: int, k: int, levels: int, votes: int, bank: tuple[int, int] | None = None, device: str | None = None
) -> int:
    """Return what a search and votes of its neighbours hold beside their inputs.

    Args:
        n_queries: rows whose neighbours are searched.
        k: neighbours of each query.
        levels: sets of removed features of one search.
        votes: predictions that are kept.
        bank: number and width of the rows that are searched, where the search is not read from stored neighbours.
        device: where products are computed; the host's part of a search on a device does not depend on the bank.
    """
    counted = bank if device is None else None
    return knn.peak_bytes(n_queries, k, levels, counted) + voting.peak_bytes(n_queries, k, votes)


def spectrum_bytes(model: ModelSets, array: str, n_images: int, resamples: int) -> int:
    """Return what moments of every image, and the variances of every resample with their order, hold.

    Args:
        model: stored sets of the model.
        array: token array whose variances are computed.
        n_images: images whose patches are read.
        resamples: bootstrap resamples.
    """
    return reading_bytes(model, array) + moments.peak_bytes(n_images, model.n_channels(array), resamples)


@dataclass(frozen=True)
class ClassifierMemory:
    """Memory of classifying the patches of one array (`evaluate.scoring.patch_classifiers`)."""

    model: ModelSets
    array: str
    train: RowSelection
    validation: RowSelection

    def reading(self) -> int:
        """Return what `read_patches` holds: all patches of both selections, as if all were labelled."""
        n_rows = len(self.train.rows) + len(self.validation.rows)
        patches = PATCH_BYTES * n_patches(self.model, self.array, n_rows)
        return rows_bytes(self.model, self.array, n_rows) + patches + reading_bytes(self.model, self.array)

    def treating(self) -> int:
        """Return what treated copies of the patches of both selections hold beside them."""
        n_treated = n_patches(self.model, self.array, len(self.train.rows) + len(self.validation.rows))
        return treatments.peak_bytes(n_treated, self.model.n_channels(self.array))

    def faiss(self, k: int) -> int:
        """Return what a search of k neighbours by FAISS is given at least, beside the stored rows and its result."""
        return knn.faiss_peak_bytes(self._n_queries, self.model.n_channels(self.array), k)

    def searching(self, levels: int, k: Sequence[int] = (1,), search: str = "exact") -> int:
        """Return what reading patches and predicting by k neighbours holds, for several ``levels`` of removed features.

        ``search`` is ``exact`` or ``faiss``.
        """
        held = self.reading() + neighbours_bytes(self._n_queries, max(k), levels, levels * len(k))
        if search == "exact":
            return held
        n_rows = len(self.train.rows) + len(self.validation.rows)
        copies = rows_bytes(self.model, self.array, n_rows)  # FAISS takes no subset of columns
        return held + copies + self.faiss(max(k)) - SEARCH_BYTES

    def probing(self, n_subsets: int, n_penalties: int) -> int:
        """Return what reading patches and predicting by probes holds, for several sets of kept features together."""
        return self.reading() + penalties.peak_bytes(
            n_train=n_patches(self.model, self.array, len(self.train.rows)),
            n_queries=self._n_queries,
            n_images=len(self.train.sources),
            n_classes=len(self.model.classes),
            n_channels=self.model.n_channels(self.array),
            n_subsets=n_subsets,
            n_penalties=n_penalties,
        )

    def scoring(self, resamples: int, n_matrices: int) -> int:
        """Return what scoring holds: pixels of every class in every patch, ``n_matrices`` an image, and resamples."""
        n_classes, n_images = len(self.model.classes), len(self.validation.sources)
        pixels = self.model.labels[PIXELS]
        chunk_rows, rows = pixels.layout.chunk_rows(pixels.spec), self.validation.rows
        of_row = confusion.histogram_bytes(n_patches(self.model, self.array, 1), n_classes)
        return (
            held_bytes(chunk_rows * pixels.spec.row_bytes, n_chunks(pixels, rows))
            + n_readers(pixels, rows) * min(chunk_rows, len(rows)) * of_row
            + confusion.histogram_bytes(self._n_queries, n_classes)
            + PATCH_BYTES * self._n_queries
            + confusion.matrix_bytes(n_images, n_classes, n_matrices)
            + bootstrap.peak_bytes(n_images, (n_classes + 1) ** 2, resamples)
        )

    @property
    def _n_queries(self) -> int:
        return n_patches(self.model, self.array, len(self.validation.rows))
