"""Scores of predicted patch classes: patch labels, confusion matrices, IoU, intervals over images.

Everything starts from one confusion matrix an image (rows: true class, columns: predicted class), so that any
score of any set of images is a function of their sum. Void (255) is never scored.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64, Integer, Num, UInt8, UInt32
from scipy.special import entr

from stores.errors import UserError
from stores.specs import VOID

Statistic = Callable[[Num[np.ndarray, "*unit classes classes"], Bool[np.ndarray, " classes"] | None], np.ndarray]
"""A score of confusion matrices, one value a unit (nan: undefined there), given the mask of counted classes."""

FEWEST_UNITS = 10
"""Below this number of units no interval is given."""
_RESAMPLED_ELEMENTS = 2**22  # float64 elements of resampled confusion matrices held at a time


def patch_histograms(
    pixel_classes: UInt8[np.ndarray, "sample height width"],
    grid: tuple[int, int],
    n_classes: int,
    owned: Int64[np.ndarray, "sample 4"] | None = None,
) -> UInt32[np.ndarray, "sample patch classes_and_void"]:
    """Count the pixels of every class, and of void in the last column, in every cell of the patch grid.

    ``grid`` is (rows, columns); patches are in row-major order. ``owned`` gives one box a sample, (left, top,
    right, bottom) in input pixels: pixels outside do not count at all, so that pixels which two overlapping
    tiles share are scored once. Raises UserError when the grid does not divide the size, an id is neither a
    class nor void, or a box leaves the sample.
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


def majority_labels(
    histograms: UInt32[np.ndarray, "sample patch classes_and_void"],
) -> UInt8[np.ndarray, "sample patch"]:
    """Return the most common id of every patch: void is a candidate, ties go to the lowest id, void last.

    The patch label rule of paper A, section 3.1. A patch without any counted pixel is void.
    """
    n_classes = histograms.shape[2] - 1
    winner = histograms.argmax(axis=2)
    void = (winner == n_classes) | (histograms.max(axis=2) == 0)
    return np.where(void, VOID, winner).astype(np.uint8)


def confusion(
    truth: Integer[np.ndarray, " row"],
    predicted: Integer[np.ndarray, " row"],
    images: Integer[np.ndarray, " row"],
    n_images: int,
    n_classes: int,
) -> Int64[np.ndarray, "image classes classes"]:
    """Return one confusion matrix an image, patches counted; rows whose truth is void are left out.

    ``images`` numbers each row's source image, 0..n_images. Raises UserError on ids outside the class table.
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

    One row a patch: every pixel of its cell has the patch's predicted class (nearest up-sampling).
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
    """Return the share of pixels (or patches) whose class is right, all classes alike; nan where there is none."""
    return _ratio(np.diagonal(confusion, axis1=-2, axis2=-1).sum(axis=-1), confusion.sum(axis=(-2, -1)))


def predicted_entropy(
    confusion: Num[np.ndarray, "*unit classes classes"], counted: Bool[np.ndarray, " classes"] | None = None
) -> Float64[np.ndarray, "*unit"]:
    """Return the entropy of the predicted class histogram, in nats; nan where nothing was predicted.

    0 means that all predictions fell on one class (collapse), ``log(classes)`` that all are equally frequent.
    """
    histogram = confusion.sum(axis=-2)
    return np.asarray(entr(_ratio(histogram, histogram.sum(axis=-1)[..., None])).sum(axis=-1), dtype=np.float64)


def _ratio(numerator: np.ndarray | np.number, denominator: np.ndarray | np.number) -> Float64[np.ndarray, "*unit"]:
    """Return the quotient as float64, nan where the denominator is 0."""
    shape = np.broadcast_shapes(numerator.shape, denominator.shape)
    quotient = np.full(shape, np.nan, dtype=np.float64)
    np.divide(numerator, denominator, out=quotient, where=denominator > 0)
    return quotient


@dataclass(frozen=True)
class Interval:
    """A percentile bootstrap interval over units (images, or groups of images), never over patches."""

    low: float
    high: float
    n_units: int
    resamples: int
    seed: int


def bootstrap(
    confusions: Int64[np.ndarray, "image classes classes"],
    statistic: Statistic,
    *,
    seed: int,
    resamples: int = 1000,
    confidence: float = 0.95,
    groups: Integer[np.ndarray, " image"] | None = None,
) -> Interval | None:
    """Return the percentile interval of ``statistic`` when images, or whole ``groups`` of them, are resampled.

    Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), section 13.3. The counted classes are those of
    the full evaluation (in truth or prediction). None below ten units, where such an interval means little, and
    where the statistic is undefined in every resample.
    """
    return _interval([_grouped(confusions, groups)], statistic, seed, resamples, confidence)


def paired_bootstrap(
    a: Int64[np.ndarray, "image classes classes"],
    b: Int64[np.ndarray, "image classes classes"],
    statistic: Statistic,
    *,
    seed: int,
    resamples: int = 1000,
    confidence: float = 0.95,
    groups: Integer[np.ndarray, " image"] | None = None,
) -> Interval | None:
    """Return the interval of ``statistic(a) - statistic(b)``, the same units drawn for both in every resample.

    ``a`` and ``b`` score the same images in the same order; otherwise as `bootstrap`.
    """
    return _interval([_grouped(a, groups), _grouped(b, groups)], statistic, seed, resamples, confidence)


def _grouped(
    confusions: Int64[np.ndarray, "image classes classes"], groups: Integer[np.ndarray, " image"] | None
) -> Int64[np.ndarray, "unit classes classes"]:
    if groups is None:
        return confusions
    numbers, unit = np.unique(groups, return_inverse=True)
    summed = np.zeros((len(numbers), *confusions.shape[1:]), dtype=np.int64)
    np.add.at(summed, unit, confusions)
    return summed


def _interval(
    sides: list[Int64[np.ndarray, "unit classes classes"]],
    statistic: Statistic,
    seed: int,
    resamples: int,
    confidence: float,
) -> Interval | None:
    """Return the interval of the statistic of one side, or of the first side's minus the second's."""
    n_units, n_classes, _ = sides[0].shape
    if n_units < FEWEST_UNITS:
        return None
    drawn = np.random.Generator(np.random.PCG64(seed)).integers(0, n_units, size=(resamples, n_units))
    values = np.zeros(resamples)
    chunk = max(1, _RESAMPLED_ELEMENTS // n_classes**2)
    for side, sign in zip(sides, (1.0, -1.0), strict=False):
        full = side.sum(axis=0)
        counted = (full.sum(axis=0) + full.sum(axis=1)) > 0
        flat = side.reshape(n_units, -1).astype(np.float64)  # products of counts are exact up to 2^53
        for start in range(0, resamples, chunk):
            times = np.stack([np.bincount(units, minlength=n_units) for units in drawn[start : start + chunk]])
            resampled = (times.astype(np.float64) @ flat).reshape(-1, n_classes, n_classes)
            values[start : start + chunk] += sign * statistic(resampled, counted)
    values = values[~np.isnan(values)]
    if not len(values):
        return None
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(values, [tail, 1.0 - tail])
    return Interval(float(low), float(high), n_units, resamples, seed)
