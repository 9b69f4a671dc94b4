"""Patch labels, confusion matrices, and the scores made from them: IoU, accuracy, entropy of predictions.

Every score is a function of confusion matrices (rows: true class, columns: predicted class). There is one an image,
so that a score of any set of images is that of their sum. Void (255) is never scored.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float64, Int64, Integer, Num, UInt8, UInt32
from scipy.special import entr

from stores.errors import UserError
from stores.specs import VOID

Statistic = Callable[[Num[np.ndarray, "*unit classes classes"], Bool[np.ndarray, " classes"] | None], np.ndarray]
"""A score of confusion matrices, one value a unit (nan: undefined there), given the mask of counted classes."""


def patch_histograms(
    pixel_classes: UInt8[np.ndarray, "sample height width"],
    grid: tuple[int, int],
    n_classes: int,
    owned: Int64[np.ndarray, "sample 4"] | None = None,
) -> UInt32[np.ndarray, "sample patch classes_and_void"]:
    """Count the pixels of every class, and of void in the last column, in every cell of the patch grid.

    Raises UserError when the grid does not divide the size, an id is neither a class nor void, or a box leaves the
    sample.

    Args:
        pixel_classes: class id of every pixel, 255 for void.
        grid: rows and columns of patches; patches are in row-major order.
        n_classes: classes of the class table.
        owned: one box a sample, (left, top, right, bottom) in input pixels. Pixels outside do not count, so that
            pixels which two overlapping tiles share are scored once. None counts all.
    """
    n_samples, height, width = pixel_classes.shape
    rows, columns = grid
    if height % rows or width % columns:
        raise UserError(
            f"a grid of {rows}x{columns} patches does not divide {height}x{width} pixels; use labels at the "
            "model's input size"
        )
    column_of_id = np.full(256, -1, dtype=np.int64)
    column_of_id[:n_classes] = np.arange(n_classes)
    column_of_id[VOID] = n_classes
    cell_row = np.arange(height) // (height // rows)
    cell_column = np.arange(width) // (width // columns)
    first_bin = (cell_row[:, None] * columns + cell_column) * (n_classes + 1)
    n_bins = rows * columns * (n_classes + 1)
    histograms = np.zeros((n_samples, n_bins), dtype=np.uint32)
    for sample in range(n_samples):
        left, top, right, bottom = (0, 0, width, height) if owned is None else owned[sample].tolist()
        if not (0 <= left <= right <= width and 0 <= top <= bottom <= height):
            raise UserError(f"sample {sample} owns the box {left, top, right, bottom} outside {width}x{height} pixels")
        box = (slice(top, bottom), slice(left, right))
        column = column_of_id[pixel_classes[sample][box]]
        if column.size and column.min() < 0:
            unknown = int(pixel_classes[sample][box][column < 0].max())
            raise UserError(
                f"sample {sample} holds class id {unknown}, but the class table has {n_classes} classes; check the "
                "label map"
            )
        histograms[sample] = np.bincount((first_bin[box] + column).ravel(), minlength=n_bins)
    return histograms.reshape(n_samples, rows * columns, n_classes + 1)


def confusion(
    truth: Integer[np.ndarray, " row"],
    predicted: Integer[np.ndarray, " row"],
    images: Integer[np.ndarray, " row"],
    n_images: int,
    n_classes: int,
) -> Int64[np.ndarray, "image classes classes"]:
    """Return one confusion matrix an image, patches counted; rows whose truth is void are left out.

    Raises UserError on ids outside the class table.

    Args:
        truth: true class of every row, 255 for void.
        predicted: predicted class of every row.
        images: source image of every row, 0..n_images.
        n_images: number of source images.
        n_classes: classes of the class table.
    """
    scored = truth != VOID
    _check_ids(truth[scored], n_classes, "true")
    _check_ids(predicted, n_classes, "predicted")
    _check_ids(images, n_images, "image")
    image, true, guess = (ids[scored].astype(np.int64) for ids in (images, truth, predicted))
    counts = np.bincount((image * n_classes + true) * n_classes + guess, minlength=n_images * n_classes**2)
    return counts.reshape(n_images, n_classes, n_classes).astype(np.int64)


def pixel_confusion(
    histograms: UInt32[np.ndarray, "row classes_and_void"],
    predicted: Integer[np.ndarray, " row"],
    images: Integer[np.ndarray, " row"],
    n_images: int,
) -> Int64[np.ndarray, "image classes classes"]:
    """Return one confusion matrix an image, pixels counted, void left out.

    Every pixel of a patch has the patch's predicted class (nearest up-sampling).

    Args:
        histograms: pixels of every class and of void in each patch, one row a patch (`patch_histograms`).
        predicted: predicted class of every patch.
        images: source image of every patch, 0..n_images.
        n_images: number of source images.
    """
    n_classes = histograms.shape[1] - 1
    _check_ids(predicted, n_classes, "predicted")
    _check_ids(images, n_images, "image")
    cell = images.astype(np.int64) * n_classes + predicted.astype(np.int64)
    matrices = np.empty((n_images, n_classes, n_classes), dtype=np.int64)
    for true in range(n_classes):
        # float64 weights: counts stay exact up to 2^53 pixels.
        counts = np.bincount(cell, weights=histograms[:, true], minlength=n_images * n_classes)
        matrices[:, true] = counts.reshape(n_images, n_classes)
    return matrices


def _check_ids(ids: Integer[np.ndarray, " row"], limit: int, what: str) -> None:
    if ids.size and not 0 <= int(ids.min()) <= int(ids.max()) < limit:
        raise UserError(f"the {what} ids span {ids.min()}..{ids.max()}, but must be below {limit}")


def histogram_bytes(n_patches: int, n_classes: int) -> int:
    """Return the bytes of `patch_histograms`: uint32 pixels of every class, and of void, in every patch."""
    return 4 * (n_classes + 1) * n_patches


def matrix_bytes(n_images: int, n_classes: int, n_kept: int) -> int:
    """Return the bytes of ``n_kept`` int64 matrices an image, and of five more while two of them are scored.

    Counted with one class more than there is, as `patch_histograms` have for void.
    """
    return 8 * (n_classes + 1) ** 2 * n_images * (5 + n_kept)


def iou(
    confusion: Num[np.ndarray, "*unit classes classes"], counted: Bool[np.ndarray, " classes"] | None = None
) -> Float64[np.ndarray, "*unit classes"]:
    """Return the intersection over union of every class, nan where TP + FP + FN = 0.

    As cityscapesScripts, evalPixelLevelSemanticLabeling.py, getIouScoreForLabel. Classes not ``counted`` are nan.
    """
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)
    scores = _ratio(hits, confusion.sum(axis=-1) + confusion.sum(axis=-2) - hits)
    return scores if counted is None else np.where(counted, scores, np.nan)


def miou_present(
    confusion: Num[np.ndarray, "*unit classes classes"], counted: Bool[np.ndarray, " classes"] | None = None
) -> Float64[np.ndarray, "*unit"]:
    """Return the mean IoU over the classes that the truth or the prediction holds; nan where there is none."""
    scores = iou(confusion, counted)
    return _ratio(np.nansum(scores, axis=-1), (~np.isnan(scores)).sum(axis=-1))


def miou_all(
    confusion: Num[np.ndarray, "*unit classes classes"], counted: Bool[np.ndarray, " classes"] | None = None
) -> Float64[np.ndarray, "*unit"]:
    """Return the mean IoU over all classes of the class table; a class that is absent counts 0.

    With ``counted``, the classes of a full evaluation, a counted class that a resample happens to miss is left
    out of that resample's mean; classes absent from the full evaluation still count 0.
    """
    scores = iou(confusion, counted)
    missed = 0 if counted is None else (np.isnan(scores) & counted).sum(axis=-1)
    return _ratio(np.nansum(scores, axis=-1), np.asarray(scores.shape[-1] - missed))


def pixel_accuracy(
    confusion: Num[np.ndarray, "*unit classes classes"], counted: Bool[np.ndarray, " classes"] | None = None
) -> Float64[np.ndarray, "*unit"]:
    """Return the share of pixels (or patches) whose class is right; nan where there is none."""
    return _ratio(np.diagonal(confusion, axis1=-2, axis2=-1).sum(axis=-1), confusion.sum(axis=(-2, -1)))


def predicted_entropy(
    confusion: Num[np.ndarray, "*unit classes classes"], counted: Bool[np.ndarray, " classes"] | None = None
) -> Float64[np.ndarray, "*unit"]:
    """Return the entropy of the predicted class histogram, in nats; nan where nothing was predicted.

    0 means that all predictions fell on one class (collapse), ``log(classes)`` that all are equally frequent.
    """
    histogram = confusion.sum(axis=-2)
    return np.asarray(entr(_ratio(histogram, histogram.sum(axis=-1)[..., None])).sum(axis=-1), dtype=np.float64)


def largest_predicted_share(
    confusion: Num[np.ndarray, "*unit classes classes"], counted: Bool[np.ndarray, " classes"] | None = None
) -> Float64[np.ndarray, "*unit"]:
    """Return the share of the class that is predicted most often; nan where nothing was predicted."""
    histogram = confusion.sum(axis=-2)
    return np.asarray(_ratio(histogram.max(axis=-1), histogram.sum(axis=-1)), dtype=np.float64)


def _ratio(numerator: np.ndarray | np.number, denominator: np.ndarray | np.number) -> Float64[np.ndarray, "*unit"]:
    """Return the quotient as float64, nan where the denominator is 0."""
    shape = np.broadcast_shapes(numerator.shape, denominator.shape)
    quotient = np.full(shape, np.nan, dtype=np.float64)
    np.divide(numerator, denominator, out=quotient, where=denominator > 0)
    return quotient
