"""Estimated peak memory of what analyses do with a model's sets: reading, searching, fitting probes, scoring.

Each function counts the large arrays of one step and rounds up; `evaluate.task.Task.peak_bytes` adds them. What streams
counts a sum that does not grow with the number of patches. Not counted: the tables of samples and objects, and the
weights of a decoder.
"""

from collections.abc import Sequence

from evaluate.inputs.model_sets import PIXELS, ModelSets
from evaluate.inputs.rows import RowSelection
from evaluate.kernels import bootstrap, confusion, moments, penalties, treatments
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
    """Return what reading an array chunk by chunk holds: the chunk before, this one, its bytes and a copy."""
    stored = model.features[array]
    return 4 * stored.layout.chunk_rows(stored.spec) * stored.spec.row_bytes + moments.WORK_BYTES


def task_bytes(model: ModelSets, array: str, train: RowSelection, validation: RowSelection) -> int:
    """Return what `patch_classifiers.read_patches` holds: all patches of both selections, as if all were labelled."""
    n_rows = len(train.rows) + len(validation.rows)
    return (
        rows_bytes(model, array, n_rows) + n_patches(model, array, n_rows) * PATCH_BYTES + reading_bytes(model, array)
    )


def treated_bytes(model: ModelSets, array: str, n_rows: int) -> int:
    """Return what treating the patches of rows of a token array holds beside them."""
    return treatments.peak_bytes(n_patches(model, array, n_rows), model.n_channels(array))


def n_patches(model: ModelSets, array: str, n_rows: int) -> int:
    """Return the number of patches of rows of a token array."""
    rows, columns = model.grid(array)
    return n_rows * rows * columns


def neighbours_bytes(n_queries: int, k: int, levels: int, votes: int) -> int:
    """Return what a search and votes of its neighbours hold beside their inputs.

    Args:
        n_queries: rows whose neighbours are searched.
        k: neighbours of each query.
        levels: sets of removed features of one search.
        votes: predictions that are kept.
    """
    return knn.peak_bytes(n_queries, k, levels) + voting.peak_bytes(n_queries, k, votes)


def faiss_bytes(model: ModelSets, array: str, validation: RowSelection, k: int) -> int:
    """Return what a search by FAISS is given at least, beside the stored rows and its result.

    Args:
        model: stored sets of the model.
        array: token array whose patches are searched.
        validation: rows whose patches are the queries.
        k: neighbours of each query.
    """
    return knn.faiss_peak_bytes(n_patches(model, array, len(validation.rows)), model.n_channels(array), k)


def searched_bytes(
    model: ModelSets,
    array: str,
    train: RowSelection,
    validation: RowSelection,
    levels: int,
    k: Sequence[int],
    search: str,
) -> int:
    """Return what predicting by neighbours holds (`patch_classifiers`), for several m and k from one search.

    Args:
        model: stored sets of the model.
        array: token array whose patches are searched.
        train: rows whose patches are the bank.
        validation: rows whose patches are the queries.
        levels: numbers of removed features.
        k: numbers of neighbours that vote.
        search: ``exact`` or ``faiss``.
    """
    n_queries = n_patches(model, array, len(validation.rows))
    held = task_bytes(model, array, train, validation) + neighbours_bytes(n_queries, max(k), levels, levels * len(k))
    if search == "exact":
        return held
    copies = rows_bytes(model, array, len(train.rows) + len(validation.rows))  # FAISS takes no choice of columns
    return held + copies + faiss_bytes(model, array, validation, max(k)) - SEARCH_BYTES


def probed_bytes(
    model: ModelSets, array: str, train: RowSelection, validation: RowSelection, n_subsets: int, n_penalties: int
) -> int:
    """Return what predicting by probes holds (`patch_classifiers`), for several choices of features side by side.

    Args:
        model: stored sets of the model.
        array: token array whose patches are classified.
        train: rows whose patches train.
        validation: rows whose patches are predicted.
        n_subsets: sets of kept features.
        n_penalties: penalties to choose from.
    """
    return task_bytes(model, array, train, validation) + penalties.peak_bytes(
        n_train=n_patches(model, array, len(train.rows)),
        n_queries=n_patches(model, array, len(validation.rows)),
        n_images=len(train.sources),
        n_classes=len(model.classes),
        n_channels=model.n_channels(array),
        n_subsets=n_subsets,
        n_penalties=n_penalties,
    )


def scoring_bytes(model: ModelSets, array: str, validation: RowSelection, resamples: int, answers: int) -> int:
    """Return what scoring holds: pixels of every class in every patch, matrices of every image, and resamples.

    Args:
        model: stored sets of the model.
        array: token array whose patches are scored.
        validation: rows that are scored.
        resamples: bootstrap resamples.
        answers: confusion matrices of an image that are kept.
    """
    n_classes, n_images = len(model.classes), len(validation.sources)
    pixels = model.labels[PIXELS]
    sample = 4 * pixels.spec.row_bytes + confusion.histogram_bytes(n_patches(model, array, 1), n_classes)
    n_scored = n_patches(model, array, len(validation.rows))
    return (
        pixels.layout.chunk_rows(pixels.spec) * sample
        + confusion.histogram_bytes(n_scored, n_classes)
        + PATCH_BYTES * n_scored
        + confusion.matrix_bytes(n_images, n_classes, answers)
        + bootstrap.peak_bytes(n_images, (n_classes + 1) ** 2, resamples)
    )


def spectrum_bytes(model: ModelSets, array: str, chosen: RowSelection, resamples: int) -> int:
    """Return what moments of every image, and the variances of every resample with their order, hold.

    Args:
        model: stored sets of the model.
        array: token array whose variances are taken.
        chosen: rows that are read.
        resamples: bootstrap resamples.
    """
    return reading_bytes(model, array) + moments.peak_bytes(len(chosen.sources), model.n_channels(array), resamples)
