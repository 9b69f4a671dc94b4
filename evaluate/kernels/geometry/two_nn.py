"""Intrinsic dimension by the two nearest neighbours of every point (TwoNN; Facco et al., Scientific Reports 2017).

With ``mu`` the distance to the second neighbour over that to the first, ``-log(1 - F(mu))`` grows with ``log mu`` along
a line through the origin whose slope is the dimension, where the density is nearly constant up to the second neighbour.
``F`` is the empirical distribution, ``F(mu_i) = i / N`` of the sorted ratios, and the largest ratios are left out of
the fit because they are noisy: 10 % in the paper.
"""

import numpy as np
from jaxtyping import Float64


def neighbour_ratios(squared_distances: Float64[np.ndarray, "point 2"]) -> Float64[np.ndarray, " point"]:
    """Return the ratio of second to first distance of every point; nan where the first is 0, as of equal points."""
    first, second = squared_distances[:, 0], squared_distances[:, 1]
    return np.sqrt(np.divide(second, first, out=np.full(len(first), np.nan), where=first > 0))


def two_nn_dimension(ratios: Float64[np.ndarray, " point"], trimmed: float) -> float:
    """Return the dimension by the least-squares line through the origin; nan where no ratio is above 1.

    Args:
        ratios: second over first distance of every point, all at least 1.
        trimmed: share of the points, those with the largest ratios, that is left out of the fit.
    """
    n = len(ratios)
    kept = int(np.floor(n * (1.0 - trimmed)))
    kept = min(kept, n - 1)  # the last point has F = 1, whose logarithm is infinite
    logs = np.log(np.sort(ratios)[:kept])
    heights = -np.log1p(-np.arange(1.0, kept + 1.0) / n)
    squares = float(logs @ logs)
    return float(logs @ heights) / squares if squares > 0.0 else float("nan")
