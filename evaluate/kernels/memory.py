"""What an analysis will hold, stated before it reads: a refusal costs seconds, running out of memory costs the night.

Every cell states the most it holds at once above the process (`evaluate.task.Task.peak_bytes`), as a sum of the parts
below, each of which counts the large arrays of one step and rounds up. What streams states a sum that does not grow
with the number of patches. Not counted: the tables of samples and objects, and the weights of a decoder.
"""

import math
from collections.abc import Iterable, Sequence

from evaluate.inputs.model_sets import PIXELS, ModelSets
from evaluate.inputs.rows import RowSelection
from evaluate.kernels.bootstrap import FEWEST_UNITS, RESAMPLED_ELEMENTS
from evaluate.kernels.probes import head_bytes, side_by_side
from evaluate.kernels.treatments import BLOCK_ROWS
from evaluate.task import Task
from stores.errors import UserError
from stores.units import format_bytes

SEARCH_BYTES = 64 << 20
"""What a neighbour search is given at least, beside its inputs and its result: less makes it crawl."""
_WORK_BYTES = 8 << 20  # pieces of fixed size in which moments, products and scores are computed
PATCH_BYTES = 64
"""Labels, images and other numbers of one patch, most of them eight bytes wide."""
_PRODUCT_ROWS = 2048  # `evaluate.kernels.lbfgs`: rows in one product of a probe


def refuse(cells: Iterable[Task], memory_bytes: int) -> None:
    """Raise UserError when a cell holds more than it may, with both numbers; the cell that holds most is named."""
    held, worst = max(((cell.peak_bytes(), cell) for cell in cells), key=lambda pair: pair[0], default=(0, None))
    if worst is None or held <= memory_bytes:
        return
    raise UserError(
        f"{worst.asked.analysis} holds {format_bytes(held)} of memory and may use {format_bytes(memory_bytes)} "
        f"({worst.names['data_set']}, {worst.title}: {worst.what}): run with --memory "
        f"{math.ceil(held / 1e7) / 100:g}, or choose fewer images (per_group in [selection])"
    )


def search_memory(memory_bytes: int, held_bytes: int, reserved: int = SEARCH_BYTES) -> int:
    """Return what a neighbour search may use beside its inputs: what is ``reserved`` for it, and what is left over."""
    return max(reserved, memory_bytes - held_bytes + reserved)


def rows_bytes(model: ModelSets, array: str, n_rows: int) -> int:
    """Return the size of rows of a token array."""
    return n_rows * model.features.arrays[array].row_bytes


def reading_bytes(model: ModelSets, array: str) -> int:
    """Return what reading an array chunk by chunk holds: the chunk before, this one, its bytes and a copy."""
    stored = model.features[array]
    return 4 * stored.layout.chunk_rows(stored.spec) * stored.spec.row_bytes + _WORK_BYTES


def task_bytes(model: ModelSets, array: str, train: RowSelection, validation: RowSelection) -> int:
    """Return what `patch_classifiers.task` holds: all training and validation patches, as if all were labelled."""
    n_rows = len(train.rows) + len(validation.rows)
    return (
        rows_bytes(model, array, n_rows) + n_patches(model, array, n_rows) * PATCH_BYTES + reading_bytes(model, array)
    )


def treated_bytes(model: ModelSets, array: str, n_rows: int) -> int:
    """Return the size of a float32 copy of rows of a token array, with a block in float64 that is being treated."""
    return 4 * model.n_channels(array) * (n_patches(model, array, n_rows) + 6 * BLOCK_ROWS)


def n_patches(model: ModelSets, array: str, n_rows: int) -> int:
    """Return the number of patches of rows of a token array."""
    rows, columns = model.grid(array)
    return n_rows * rows * columns


def neighbours_bytes(n_queries: int, k: int, levels: int, votes: int) -> int:
    """Return what a search needs and returns: indices, distances and marks of every level, and predicted classes."""
    return SEARCH_BYTES + n_queries * (levels * (16 * k + 1) + 8 * votes + 40 * k)


def faiss_bytes(model: ModelSets, array: str, validation: RowSelection, k: int) -> int:
    """Return what FAISS is given at least: its float32 queries and answers come on top of an exact search's memory."""
    n_channels = model.n_channels(array)
    return SEARCH_BYTES + n_patches(model, array, len(validation.rows)) * (12 * n_channels + 64 * k)


def searched_bytes(
    model: ModelSets,
    array: str,
    train: RowSelection,
    validation: RowSelection,
    levels: int,
    k: Sequence[int],
    search: str,
) -> int:
    """Return what predicting by neighbours holds (`patch_classifiers`), for several m and k from one search."""
    n_queries = n_patches(model, array, len(validation.rows))
    held = task_bytes(model, array, train, validation) + neighbours_bytes(n_queries, max(k), levels, levels * len(k))
    if search == "exact":
        return held
    copies = rows_bytes(model, array, len(train.rows) + len(validation.rows))  # FAISS takes no choice of columns
    return held + copies + faiss_bytes(model, array, validation, max(k)) - SEARCH_BYTES


def probed_bytes(
    model: ModelSets, array: str, train: RowSelection, validation: RowSelection, kept: int, penalties: int
) -> int:
    """Return what predicting by probes holds (`patch_classifiers`), for several choices of features side by side."""
    n_channels = model.n_channels(array)
    n_images = len(train.sources)
    held_out = n_patches(model, array, len(train.rows)) * max(1, round(0.2 * n_images)) // n_images
    predicted = max(held_out * kept * penalties, n_patches(model, array, len(validation.rows)) * kept)
    return (
        task_bytes(model, array, train, validation)
        + probes_bytes(len(model.classes), n_channels, kept * penalties)
        + 2 * 8 * predicted  # once more while they are put together
    )


def probes_bytes(n_classes: int, n_channels: int, heads: int) -> int:
    """Return what fitting probes and predicting with them holds: descents, products, weights and covariances."""
    together = min(heads, side_by_side(n_classes, n_channels))
    products = 3 * 4 * _PRODUCT_ROWS * together * n_classes
    weights = 5 * 8 * heads * n_classes * n_channels
    return together * head_bytes(n_classes, n_channels) + products + weights + 3 * 8 * n_channels**2 + _WORK_BYTES


def scoring_bytes(model: ModelSets, array: str, validation: RowSelection, resamples: int, answers: int) -> int:
    """Return what scoring holds: pixels of every class in every patch, matrices of every image, and resamples.

    ``answers`` counts the confusion matrices an image that are kept.
    """
    columns = len(model.classes) + 1
    pixels = model.labels[PIXELS]
    reading = pixels.layout.chunk_rows(pixels.spec) * (
        4 * pixels.spec.row_bytes + n_patches(model, array, 1) * 4 * columns
    )
    histograms = n_patches(model, array, len(validation.rows)) * (4 * columns + PATCH_BYTES)
    matrices = 8 * columns**2 * len(validation.sources) * (5 + answers)
    return reading + histograms + matrices + _resampled_bytes(len(validation.sources), columns**2, resamples)


def _resampled_bytes(n_units: int, n_elements: int, resamples: int) -> int:
    if n_units < FEWEST_UNITS:
        return 0
    return 2 * 8 * min(resamples * n_elements, RESAMPLED_ELEMENTS) + 3 * 8 * resamples * n_units


def spectrum_bytes(model: ModelSets, array: str, chosen: RowSelection, resamples: int) -> int:
    """Return what the moments of every image hold, and the variances of every resample with their order."""
    n_images, n_channels = len(chosen.sources), model.n_channels(array)
    drawn = resamples if n_images >= FEWEST_UNITS else 0
    return reading_bytes(model, array) + 8 * 6 * (n_images * n_channels + drawn * (n_images + n_channels))
