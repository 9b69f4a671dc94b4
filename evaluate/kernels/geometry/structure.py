"""Spatial structure: whether near patches look alike more than far ones (iREPA, arXiv 2512.10794).

Of each input, from the cosines of all pairs of its patches by Manhattan distance ``d`` on the grid:

* LDS (local against distant similarity): mean at ``d = 1`` less mean at ``d >= 6``;
* CDS (correlation decay slope): minus the slope of the mean at ``d`` against ``d = 1 .. 8``;
* RMSC (root mean square contrast): ``sqrt(mean |x - mean x|^2)`` of the tokens scaled to length 1;
* SRSS (semantic region self-similarity): a patch's mean cosine with neighbours of its own class less that with far
  patches of another class, mean over patches that have both. The paper has one foreground mask; here every class is
  one.

Means of all pairs are ordered pairs', as in the paper's code. A grid on which nothing is as far has no LDS.
"""

import numpy as np
from jaxtyping import Float32, Float64, UInt8

from evaluate.kernels.geometry.grid import FAR, FARTHEST_FITTED, NEAR, PatchGrid

VOID = 255


def mean_cosines(sums: Float64[np.ndarray, "row distance"], grid: PatchGrid) -> Float64[np.ndarray, "row distance"]:
    """Return every row's mean cosine of pairs at each distance."""
    return sums / grid.pair_counts


def local_contrast(sums: Float64[np.ndarray, "row distance"], grid: PatchGrid) -> Float64[np.ndarray, " row"]:
    """Return LDS of every row; nan where no pair of patches is far."""
    if grid.n_distances <= FAR:
        return np.full(len(sums), np.nan)
    far = sums[:, FAR:].sum(axis=1) / grid.pair_counts[FAR:].sum()
    return sums[:, NEAR] / grid.pair_counts[NEAR] - far


def decay_slope(sums: Float64[np.ndarray, "row distance"], grid: PatchGrid) -> Float64[np.ndarray, " row"]:
    """Return CDS of every row, a cosine a patch; nan on a grid of fewer than two distances."""
    means = mean_cosines(sums, grid)[:, 1 : FARTHEST_FITTED + 1]
    if means.shape[1] < 2:
        return np.full(len(sums), np.nan)
    apart = np.arange(1.0, means.shape[1] + 1.0)
    apart -= apart.mean()
    return -(means @ apart) / (apart @ apart)


def contrast(
    unit_sums: Float64[np.ndarray, "row channel"], n_units: Float64[np.ndarray, " row"], n_patches: int
) -> Float64[np.ndarray, " row"]:
    """Return RMSC of every row: with ``m`` the mean of the scaled tokens, ``sqrt(share of tokens not 0 - |m|^2)``."""
    means = unit_sums / n_patches
    return np.sqrt(np.maximum(n_units / n_patches - (means**2).sum(axis=1), 0.0))


def region_contrast(
    cosines: Float32[np.ndarray, "patch patch"],
    labels: UInt8[np.ndarray, " patch"],
    near: Float32[np.ndarray, "patch patch"],
    far: Float32[np.ndarray, "patch patch"],
) -> float:
    """Return SRSS of one row; nan where no patch has a near one of its class and a far one of another.

    Args:
        cosines: of all pairs of patches.
        labels: class of every patch, 255 for void.
        near: 1 where two patches are neighbours, else 0.
        far: 1 where two patches are far, else 0.
    """
    known = labels != VOID
    classes, of_patch = np.unique(labels[known], return_inverse=True)
    if len(classes) < 2:
        return float("nan")
    member = np.zeros((len(labels), len(classes)), dtype=np.float32)
    member[np.flatnonzero(known), of_patch] = 1.0
    own = np.flatnonzero(known), of_patch

    def by_class(pairs: Float32[np.ndarray, "patch patch"]) -> Float32[np.ndarray, "patch classes"]:
        return pairs @ member

    n_near, n_far = by_class(near)[own], by_class(far)
    sum_near, sum_far = by_class(cosines * near)[own], by_class(cosines * far)
    n_other, sum_other = n_far.sum(axis=1)[known] - n_far[own], sum_far.sum(axis=1)[known] - sum_far[own]
    both = (n_near > 0.5) & (n_other > 0.5)
    if not both.any():
        return float("nan")
    return float(np.mean(sum_near[both] / n_near[both] - sum_other[both] / n_other[both], dtype=np.float64))
