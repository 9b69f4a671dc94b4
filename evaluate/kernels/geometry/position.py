"""Positional leakage: how well a token tells where its patch lies on the grid.

``R^2`` of a ridge regression from token to row and column, on images that it was not fitted on. Images are cut into
three folds of consecutive names: one fits every penalty of a grid, the second chooses among them, both fit again and
the third is predicted, three times round; the residuals of all three are added up. Everything is computed from each
fold's moments. Features are standardised by the fitting folds' variances.

The share of variance that position explains needs no regression: with ``n`` rows (inputs) of ``P`` patches,
``(SS_position - SS_rest / (n - 1)) / SS_total``, where ``SS_rest`` is what neither the mean of a position nor that of
an input explains. It is unbiased however the patches of one input depend on each other, if inputs are independent.

Both also see what the data has at fixed places, such as the sky at the top of street scenes; random weights show how
much.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from evaluate.kernels.probing.ridge import PENALTIES

FOLDS = 3


@dataclass(frozen=True, eq=False)
class FoldMoments:
    """Sums over the tokens ``x`` of some images; their places ``y`` (row and column) have mean 0."""

    count: int
    total: Float64[np.ndarray, " channel"]
    """``sum x``."""
    second: Float64[np.ndarray, "channel channel"]
    """``sum x x^T``."""
    cross: Float64[np.ndarray, "channel 2"]
    """``sum x y^T``."""
    places: Float64[np.ndarray, " 2"]
    """``sum y^2``."""

    def __add__(self, other: "FoldMoments") -> "FoldMoments":
        return FoldMoments(
            self.count + other.count,
            self.total + other.total,
            self.second + other.second,
            self.cross + other.cross,
            self.places + other.places,
        )


@dataclass(frozen=True, eq=False)
class _Ridge:
    """Coefficients of every penalty, on features less the fitted mean."""

    mean: Float64[np.ndarray, " channel"]
    weights: Float64[np.ndarray, "penalty channel 2"]

    def residuals(self, held: FoldMoments) -> Float64[np.ndarray, "penalty 2"]:
        """Return the sums of squared errors of every penalty on other tokens."""
        centred = held.second - np.outer(held.total, self.mean) - np.outer(self.mean, held.total)
        centred += held.count * np.outer(self.mean, self.mean)
        # The places have mean 0 on every input, so centring x changes no product with them.
        explained = 2.0 * np.einsum("pcy,cy->py", self.weights, held.cross)
        squares = np.einsum("pcy,pcy->py", self.weights, np.einsum("cd,pdy->pcy", centred, self.weights, optimize=True))
        return held.places - explained + squares


def _fit(moments: FoldMoments, penalties: Float64[np.ndarray, " penalty"]) -> _Ridge:
    mean = moments.total / moments.count
    covariance = moments.second / moments.count - np.outer(mean, mean)
    deviation = np.sqrt(np.maximum(np.diag(covariance), 0.0))
    scale = np.divide(
        1.0, deviation, out=np.zeros(len(deviation)), where=deviation > 1e-9 * max(deviation.max(), 1e-300)
    )
    values, vectors = np.linalg.eigh(moments.count * covariance * np.outer(scale, scale))
    turned = vectors.T @ (scale[:, None] * moments.cross)
    shrunk = turned / (np.maximum(values, 0.0)[None, :, None] + penalties[:, None, None])
    return _Ridge(mean, scale[None, :, None] * np.einsum("cv,pvy->pcy", vectors, shrunk, optimize=True))


def position_r2(folds: Sequence[FoldMoments]) -> Float64[np.ndarray, " 2"]:
    """Return R² of row and column on held-out images; nan where a fold is empty or the grid has one row or column."""
    used = [fold for fold in folds if fold.count]
    if len(used) < FOLDS:
        return np.full(2, np.nan)
    residuals, places = np.zeros(2), np.zeros(2)
    for number in range(FOLDS):
        first, second, held = (used[(number + step) % FOLDS] for step in range(FOLDS))
        chosen = _fit(first, PENALTIES).residuals(second).argmin(axis=0)
        errors = _fit(first + second, PENALTIES[np.unique(chosen)]).residuals(held)
        residuals += errors[np.searchsorted(np.unique(chosen), chosen), [0, 1]]
        places += held.places
    return np.where(places > 0, 1.0 - residuals / np.where(places > 0, places, 1.0), np.nan)


def position_share(
    of_positions: Float64[np.ndarray, "patch channel"], of_rows: Float64[np.ndarray, "row channel"], squares: float
) -> float:
    """Return the share of the tokens' variance that position explains; nan below two rows or without variance.

    It may be a little below 0 where position explains nothing.

    Args:
        of_positions: sum of the tokens at each position.
        of_rows: sum of the tokens of each row.
        squares: sum of the tokens' squared lengths.
    """
    n_rows, n_patches = len(of_rows), len(of_positions)
    total = of_rows.sum(axis=0)
    offset = float(total @ total) / (n_rows * n_patches)
    everything = squares - offset
    between_positions = float((of_positions**2).sum()) / n_rows - offset
    between_rows = float((of_rows**2).sum()) / n_patches - offset
    if n_rows < 2 or everything <= 0.0:
        return float("nan")
    rest = everything - between_positions - between_rows
    return (between_positions - rest / (n_rows - 1)) / everything
