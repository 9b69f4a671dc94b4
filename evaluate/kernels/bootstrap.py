"""Percentile bootstrap over images or videos: resampled statistics and their intervals.

Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), section 13.3. Patches and tiles are never resampled:
those of one image are nearly copies of each other.
"""

import numpy as np
from jaxtyping import Float64, Int64

from evaluate.kernels.segmentation.confusion import Statistic

FEWEST_UNITS = 10
"""Below this number of units no interval is given."""
TAIL = (1.0 - 0.95) / 2.0
"""Share on either side of a 95 % interval: 0.025 but for its last bits, which stored intervals depend on."""
RESAMPLED_ELEMENTS = 2**22
"""Elements of the float64 confusion matrices that are resampled at a time."""


def draw_units(n_units: int, seed: int, resamples: int) -> Int64[np.ndarray, "resample unit"]:
    """Return the numbers of the units, 0 .. ``n_units - 1``, that every resample draws with replacement.

    This is the one definition of a resample. Paired differences and claims compare two numbers draw by draw
    (`evaluate.results.draws`), which holds only while equal arguments draw equal units everywhere.
    """
    return np.random.Generator(np.random.PCG64(seed)).integers(0, n_units, size=(resamples, n_units))


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


def quantiles(drawn: Float64[np.ndarray, " resample"] | None) -> tuple[float | None, float | None]:
    """Return the percentile interval of resampled values, (None, None) where none is defined.

    A resample that does not define the value (nan) is left out. An infinite one counts, and bounds are then values
    that were drawn, because nothing lies between a number and infinity: to leave it out would make the interval
    narrower.
    """
    defined = None if drawn is None else drawn[~np.isnan(drawn)]
    if defined is None or not len(defined):
        return None, None
    method = "linear" if np.isfinite(defined).all() else "nearest"
    low, high = np.quantile(defined, [TAIL, 1.0 - TAIL], method=method)  # type: ignore[call-overload]
    return float(low), float(high)


def peak_bytes(n_units: int, n_elements: int, resamples: int) -> int:
    """Return the bytes of resampling confusion matrices of ``n_elements`` entries.

    Two float64 copies of the matrices that are resampled at a time, and for every resample the units drawn, how often
    each was, and that in float64.
    """
    if n_units < FEWEST_UNITS:
        return 0
    return 2 * 8 * min(resamples * n_elements, RESAMPLED_ELEMENTS) + 3 * 8 * resamples * n_units


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
