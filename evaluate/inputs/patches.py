"""Tokens and labels of the patches of selected rows, read a chunk at a time."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64, UInt8, UInt32

from evaluate.inputs.model_sets import PIXELS, ModelSets
from evaluate.inputs.rows import RowSelection
from evaluate.kernels.confusion import patch_histograms
from evaluate.kernels.moments import Moments
from stores.arrays import ZarrArray
from stores.specs import VOID


def chunkwise(stored: ZarrArray, rows: Int64[np.ndarray, " row"]) -> Iterator[np.ndarray]:
    """Yield the rows, which increase, those of one chunk at a time: no chunk is read twice, and one is held."""
    borders = np.flatnonzero(np.diff(rows // stored.layout.chunk_rows(stored.spec))) + 1
    for part in np.split(rows, borders):
        yield stored[part]


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
    n_channels = stored.shape[-1]
    if kept is None:
        return stored[selection.rows].reshape(-1, n_channels)
    # Filled in place: a copy of what is kept beside the whole would need both in memory.
    values = np.empty((np.count_nonzero(kept), n_channels), stored.dtype)
    seen = filled = 0
    for block in chunkwise(stored, selection.rows):
        patches = block.reshape(-1, n_channels)
        part = patches[kept[seen : seen + len(patches)]]
        values[filled : filled + len(part)] = part
        seen, filled = seen + len(patches), filled + len(part)
    return values


def token_variance(model: ModelSets, array: str, selection: RowSelection) -> Float64[np.ndarray, " channel"]:
    """Return each feature's variance over the patch tokens of the selected rows: one pass, float64.

    Rows are merged one by one, so that the bits do not depend on how a set is cut into chunks.
    """
    return Moments.of(row for block in chunkwise(model.features[array], selection.rows) for row in block).variance


def _owned_boxes(model: ModelSets, selection: RowSelection) -> Int64[np.ndarray, "sample 4"]:
    """Return (left, top, right, bottom) of what each row is scored on, in input pixels."""
    columns = ["owned_left", "owned_top", "owned_right", "owned_bottom"]
    return model.samples[columns].to_numpy(dtype=np.int64)[selection.rows]


def owned_patches(model: ModelSets, array: str, selection: RowSelection) -> Bool[np.ndarray, " patch"]:
    """Return which patches have their centre in the part their tile is scored on."""
    rows, columns = model.grid(array)
    size = model.spec.frame.input
    y = (np.arange(rows) + 0.5) * size.height / rows
    x = (np.arange(columns) + 0.5) * size.width / columns
    left, top, right, bottom = (_owned_boxes(model, selection)[:, axis, None] for axis in range(4))
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
    boxes = _owned_boxes(model, selection)
    n_classes = len(model.classes)
    rows, columns = model.grid(array)
    histograms = np.empty((len(selection.rows), rows * columns, n_classes + 1), np.uint32)
    done = 0
    for block in chunkwise(model.labels[PIXELS], selection.rows):
        here = slice(done, done + len(block))
        histograms[here] = patch_histograms(block, (rows, columns), n_classes, boxes[here])
        done += len(block)
    return histograms.reshape(-1, n_classes + 1)
