"""Percentile bootstrap: resampled statistics and their intervals over images, or groups of images.

Patches and tiles are never resampled: those of one image are nearly copies of each other.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64, Integer

from evaluate.kernels.confusion import Statistic

FEWEST_UNITS = 10
"""Below this number of units no interval is given."""
TAIL = (1.0 - 0.95) / 2.0
"""Share on either side of a 95 % interval: 0.025 but for its last bits, which stored intervals depend on."""
RESAMPLED_ELEMENTS = 2**22
"""Elements of the float64 confusion matrices that are resampled at a time."""


@dataclass(frozen=True)
class Interval:
    """A percentile bootstrap interval over units (images, or groups of images), never over patches."""

    low: float
    high: float
    n_units: int
    resamples: int
    seed: int


def draw_units(n_units: int, seed: int, resamples: int) -> Int64[np.ndarray, "resample unit"]:
    """Return the numbers of the units, 0 .. ``n_units - 1``, that every resample draws with replacement.

    This is the one definition of a resample. Paired differences and claims compare two numbers draw by draw
    (`evaluate.results.draws`), which holds only while equal arguments draw equal units everywhere.
    """
    return np.random.Generator(np.random.PCG64(seed)).integers(0, n_units, size=(resamples, n_units))


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

    Args:
        confusions: one confusion matrix an image.
        statistic: score of summed matrices, such as `evaluate.kernels.confusion.miou_present`.
        seed: seed of `draw_units`.
        resamples: number of resamples.
        confidence: share of the resampled values inside the interval.
        groups: group number of every image; None resamples single images.
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

    Args:
        a: one confusion matrix an image.
        b: one confusion matrix an image, of the same images in the same order.
        statistic: score of summed matrices.
        seed: seed of `draw_units`.
        resamples: number of resamples.
        confidence: share of the resampled values inside the interval.
        groups: group number of every image; None resamples single images.
    """
    return _interval([_grouped(a, groups), _grouped(b, groups)], statistic, seed, resamples, confidence)


def ratio_interval(
    numerator: Float64[np.ndarray, " unit"],
    denominator: Float64[np.ndarray, " unit"],
    *,
    seed: int,
    resamples: int = 1000,
    confidence: float = 0.95,
) -> tuple[float | None, float | None]:
    """Return the percentile interval of ``sum(numerator) / sum(denominator)`` when units are resampled.

    (None, None) below ten units, or where nothing is counted in any resample.

    Args:
        numerator: sum of each unit, such as the right predictions of an image.
        denominator: count of each unit, such as the predictions of an image.
        seed: seed of `draw_units`.
        resamples: number of resamples.
        confidence: share of the resampled values inside the interval.
    """
    drawn = resampled_ratio(numerator, denominator, seed=seed, resamples=resamples)
    return quantiles(drawn, (1.0 - confidence) / 2.0)


def resampled_ratio(
    numerator: Float64[np.ndarray, " unit"],
    denominator: Float64[np.ndarray, " unit"],
    *,
    seed: int,
    resamples: int = 1000,
) -> Float64[np.ndarray, " resample"] | None:
    """Return ``sum(numerator) / sum(denominator)`` in every resample of the units, nan where nothing is counted.

    None below ten units.

    Args:
        numerator: sum of each unit.
        denominator: count of each unit.
        seed: seed of `draw_units`.
        resamples: number of resamples; 0 gives None.
    """
    n_units = len(numerator)
    if n_units < FEWEST_UNITS or not resamples:
        return None
    drawn = draw_units(n_units, seed, resamples)
    summed, total = numerator[drawn].sum(axis=1), denominator[drawn].sum(axis=1)
    return np.divide(summed, total, out=np.full(resamples, np.nan), where=total > 0)


def quantiles(drawn: Float64[np.ndarray, " resample"] | None, tail: float = TAIL) -> tuple[float | None, float | None]:
    """Return the percentile interval of resampled values, (None, None) where none is defined.

    A resample that does not define the value (nan) is left out. An infinite one counts, and bounds are then values
    that were drawn, because nothing lies between a number and infinity: to leave it out would make the interval
    narrower. ``tail`` is the share of the values below the interval and of those above it.
    """
    defined = None if drawn is None else drawn[~np.isnan(drawn)]
    if defined is None or not len(defined):
        return None, None
    method = "linear" if np.isfinite(defined).all() else "nearest"
    low, high = np.quantile(defined, [tail, 1.0 - tail], method=method)  # type: ignore[call-overload]
    return float(low), float(high)


def peak_bytes(n_units: int, n_elements: int, resamples: int) -> int:
    """Return the bytes of resampling confusion matrices of ``n_elements`` entries.

    Two float64 copies of the matrices that are resampled at a time, and for every resample the units drawn, how often
    each was, and that in float64.
    """
    if n_units < FEWEST_UNITS:
        return 0
    return 2 * 8 * min(resamples * n_elements, RESAMPLED_ELEMENTS) + 3 * 8 * resamples * n_units


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
    """Return the interval of the statistic of one side, or of that of the first side minus that of the second."""
    n_units = len(sides[0])
    if n_units < FEWEST_UNITS:
        return None
    values = np.zeros(resamples)
    for side, sign in zip(sides, (1.0, -1.0), strict=False):
        values += sign * resampled_statistic(side, statistic, seed=seed, resamples=resamples)
    low, high = quantiles(values, (1.0 - confidence) / 2.0)
    return None if low is None or high is None else Interval(low, high, n_units, resamples, seed)


def resampled_statistic(
    confusions: Int64[np.ndarray, "unit classes classes"], statistic: Statistic, *, seed: int, resamples: int = 1000
) -> Float64[np.ndarray, " resample"]:
    """Return the statistic of every resample of the units.

    Args:
        confusions: one confusion matrix a unit.
        statistic: score of summed matrices.
        seed: seed of `draw_units`.
        resamples: number of resamples.
    """
    n_units, n_classes, _ = confusions.shape
    drawn = draw_units(n_units, seed, resamples)
    values = np.zeros(resamples)
    chunk = max(1, RESAMPLED_ELEMENTS // n_classes**2)
    full = confusions.sum(axis=0)
    counted = (full.sum(axis=0) + full.sum(axis=1)) > 0
    flat = confusions.reshape(n_units, -1).astype(np.float64)  # products of counts are exact up to 2^53
    for start in range(0, resamples, chunk):
        times = np.stack([np.bincount(units, minlength=n_units) for units in drawn[start : start + chunk]])
        resampled = (times.astype(np.float64) @ flat).reshape(-1, n_classes, n_classes)
        values[start : start + chunk] = statistic(resampled, counted)
    return values
