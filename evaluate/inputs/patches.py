"""Tokens and labels of the patches of selected rows, read a chunk at a time."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64, UInt8, UInt32

from evaluate.inputs.chunks import of_chunks, whole
from evaluate.inputs.model_sets import PIXELS, ModelSets
from evaluate.inputs.rows import RowSelection, image_numbers
from evaluate.kernels.moments import Moments
from evaluate.kernels.segmentation.confusion import patch_histograms
from evaluate.kernels.subspaces import Placement
from stores.arrays import ZarrArray
from stores.specs import VOID


def tokens(
    model: ModelSets, array: str, selection: RowSelection, kept: Bool[np.ndarray, " read"] | None = None
) -> Float[np.ndarray, "patch channel"]:
    """Return the patch tokens of the selected rows as stored, row by row.

    Args:
        model: stored sets of the model.
        array: address of the token array.
        selection: rows to read.
        kept: which patches of these rows to return, all by default.
    """
    stored = model.features[array]
    if kept is None:
        return whole(stored, selection.rows).reshape(-1, stored.shape[-1])
    sink = _Sink(stored, kept)
    for _ in of_chunks(stored, selection.rows, sink.keep):
        pass
    return sink.values


def tokens_and_variance(
    model: ModelSets, array: str, selection: RowSelection, kept: Bool[np.ndarray, " read"]
) -> tuple[Float[np.ndarray, "patch channel"], Float64[np.ndarray, " channel"]]:
    """Return what `tokens` and `token_variance` return, of one pass over the stored rows.

    Args:
        model: stored sets of the model.
        array: address of the token array.
        selection: rows to read; all their patches count for the variance.
        kept: which patches of these rows to return.
    """
    stored = model.features[array]
    sink = _Sink(stored, kept)

    def keep(first: int, block: np.ndarray) -> list[Moments]:
        sink.keep(first, block)
        return Moments.from_blocks(block)

    variance = Moments.merged(one for some in of_chunks(stored, selection.rows, keep) for one in some).variance
    return sink.values, variance


def token_variance(model: ModelSets, array: str, selection: RowSelection) -> Float64[np.ndarray, " channel"]:
    """Return each feature's variance over the patch tokens of the selected rows: one pass, float64."""
    return Moments.merged(row_moments(model, array, selection)).variance


def row_moments(model: ModelSets, array: str, selection: RowSelection) -> Iterator[Moments]:
    """Yield the moments of the patch tokens of every selected row, computed by the threads that read.

    They are merged one by one, so that the bits do not depend on how a set is cut into chunks.
    """

    def moments(first: int, block: np.ndarray) -> list[Moments]:
        return Moments.from_blocks(block)

    for some in of_chunks(model.features[array], selection.rows, moments):
        yield from some


class _Sink:
    """The kept patches of rows, filled in place: a copy beside the rows as read would need both in memory."""

    def __init__(self, stored: ZarrArray, kept: Bool[np.ndarray, " read"]) -> None:
        self.kept = kept.reshape(-1, stored.shape[1])
        self.starts = np.cumsum([0, *np.count_nonzero(self.kept, axis=1)])
        self.values = np.empty((self.starts[-1], stored.shape[-1]), stored.dtype)

    def keep(self, first: int, block: np.ndarray) -> None:
        """Copy the kept patches of rows to their place."""
        last = first + len(block)
        patches, kept = block.reshape(-1, block.shape[-1]), self.kept[first:last].reshape(-1)
        np.compress(kept, patches, axis=0, out=self.values[self.starts[first] : self.starts[last]])


def placement(model: ModelSets, array: str, selection: RowSelection, kept: Bool[np.ndarray, " read"]) -> Placement:
    """Return the image of each kept patch of the selected rows, and its place on the grid, row by row from 0."""
    rows, columns = model.grid(array)
    read = np.flatnonzero(kept).astype(np.int64)
    images = image_numbers(model, selection)[read // (rows * columns)]
    return Placement(images, read % (rows * columns), len(selection.sources), rows * columns)


def owned_boxes(model: ModelSets, selection: RowSelection) -> Int64[np.ndarray, "sample 4"]:
    """Return (left, top, right, bottom) of what each row is scored on, in input pixels."""
    columns = ["owned_left", "owned_top", "owned_right", "owned_bottom"]
    return model.samples[columns].to_numpy(dtype=np.int64)[selection.rows]


def owned_patches(model: ModelSets, array: str, selection: RowSelection) -> Bool[np.ndarray, " patch"]:
    """Return which patches have their centre in the part their tile is scored on."""
    rows, columns = model.grid(array)
    size = model.spec.frame.input
    y = (np.arange(rows) + 0.5) * size.height / rows
    x = (np.arange(columns) + 0.5) * size.width / columns
    left, top, right, bottom = (owned_boxes(model, selection)[:, axis, None] for axis in range(4))
    inside_y = (y >= top) & (y < bottom)
    inside_x = (x >= left) & (x < right)
    return (inside_y[:, :, None] & inside_x[:, None, :]).reshape(-1)


def patch_labels(model: ModelSets, array: str, selection: RowSelection) -> UInt8[np.ndarray, " patch"]:
    """Return the patch labels on an array's grid, 255 for void."""
    return model.labels[model.label_array(model.grid(array))][selection.rows].reshape(-1)


def scored_labels(model: ModelSets, array: str, selection: RowSelection) -> UInt8[np.ndarray, " patch"]:
    """Return the patch labels with everything another tile is scored on set to void."""
    labels = patch_labels(model, array, selection).copy()
    labels[~owned_patches(model, array, selection)] = VOID
    return labels


def pixel_histograms(
    model: ModelSets, array: str, selection: RowSelection
) -> UInt32[np.ndarray, "patch classes_and_void"]:
    """Return how many pixels of each class every patch covers, counting only what its tile is scored on."""
    boxes = owned_boxes(model, selection)
    n_classes = len(model.classes)
    rows, columns = model.grid(array)
    histograms = np.empty((len(selection.rows), rows * columns, n_classes + 1), np.uint32)

    def count(first: int, block: np.ndarray) -> None:
        here = slice(first, first + len(block))
        histograms[here] = patch_histograms(block, (rows, columns), n_classes, boxes[here])

    for _ in of_chunks(model.labels[PIXELS], selection.rows, count):
        pass
    return histograms.reshape(-1, n_classes + 1)
