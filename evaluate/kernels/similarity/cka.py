"""Unbiased CKA from minibatches: how alike two representations are, up to rotation, isotropic scale and offset.

Nguyen, Raghu and Kornblith, "Do Wide and Deep Networks Learn the Same Things?" (ICLR 2021), equation 3: ::

    CKA = mean_b HSIC1(K_b, L_b) / sqrt(mean_b HSIC1(K_b, K_b) * mean_b HSIC1(L_b, L_b))
    HSIC1(K, L) = [tr(K~ L~) + (1'K~1)(1'L~1) / ((n-1)(n-2)) - 2/(n-2) 1'K~L~1] / (n(n-3))

``K_b`` and ``L_b`` are Gram matrices of the n rows of minibatch b, and ``K~`` is K with a zero diagonal. HSIC1 is the
unbiased estimator of Song et al. ("Feature Selection via Dependence Maximization", JMLR 2012). It is computed here as
the inner product of U-centred matrices over n(n-3), which is the same number (Szekely and Rizzo, "Partial distance
correlation", Annals of Statistics 2014): every matrix is centred once, and the HSIC of all pairs of layers is one
product. A minibatch counts by its number of rows, which is equation 3 where all have as many.

Being unbiased, it is about 0 for independent representations of any width, and may be *below* 0: that is defined and
kept. It is undefined (nan) where a representation does not vary.

The code of Walmer et al. (CVPR 2023; mwalmer-umd/vit_analysis, cka/cka_main.py) subtracts the smallest entry of every
Gram matrix before HSIC1 and then divides by the largest. The first changes nothing, because HSIC1 does not see a
constant that is added. The second gives every minibatch another scale, so that minibatches with large entries count
less than in equation 3; its numbers deviate where minibatches differ in scale, and agree where they do not.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from evaluate.kernels.bootstrap import FEWEST_UNITS, draw_units

FEWEST_ROWS = 4
"""Rows of a minibatch at least: HSIC1 divides by n - 3."""
ROUNDING = 1e-13
"""Share of the largest product below which all that centring leaves is rounding, and the rows do not vary."""

DIVERGED = 0.5
"""Models have diverged where CKA of corresponding layers is below this."""


def centred(grams: Float64[np.ndarray, "layer row row"]) -> Float64[np.ndarray, "layer row row"]:
    """Return Gram matrices U-centred: zero diagonals, and off them row means taken away without bias.

    A representation that is constant but for rounding becomes zero.
    """
    n_rows = grams.shape[-1]
    kept = grams * (1.0 - np.eye(n_rows))
    sums = kept.sum(axis=2)
    total = sums.sum(axis=1)[:, None, None] / ((n_rows - 1) * (n_rows - 2))
    left = kept - (sums[:, :, None] + sums[:, None, :]) / (n_rows - 2) + total
    left *= 1.0 - np.eye(n_rows)
    varies = np.abs(left).max(axis=(1, 2)) > ROUNDING * np.abs(kept).max(axis=(1, 2))
    return left * varies[:, None, None]


@dataclass(frozen=True)
class MinibatchHsic:
    """HSIC1 of every minibatch, times its number of rows, of all pairs of layers of two models."""

    cross: Float64[np.ndarray, "minibatch layer other"]
    own: Float64[np.ndarray, "minibatch layer"]
    """Of every layer of the one model with itself."""
    others: Float64[np.ndarray, "minibatch other"]
    """Of every layer of the other model with itself."""

    @classmethod
    def of(cls, minibatches: Iterable[tuple[np.ndarray, np.ndarray]]) -> "MinibatchHsic":
        """Return HSIC1 of minibatches, each the Gram matrices of both models (``layer row row``), uncentred."""
        cross, own, others = [], [], []
        for grams, other_grams in minibatches:
            n_rows = grams.shape[-1]
            one = centred(grams).reshape(len(grams), -1)
            two = one if other_grams is grams else centred(other_grams).reshape(len(other_grams), -1)
            scale = 1.0 / (n_rows - 3)  # n(n-3) below, times n rows
            cross.append(one @ two.T * scale)
            own.append((one * one).sum(axis=1) * scale)
            others.append((two * two).sum(axis=1) * scale)
        return cls(np.stack(cross), np.stack(own), np.stack(others))

    def cka(self) -> Float64[np.ndarray, "layer other"]:
        """Return CKA of every pair of layers, nan where one does not vary."""
        return _cka(self.cross.sum(axis=0), self.own.sum(axis=0), self.others.sum(axis=0))

    def resampled(self, *, seed: int, resamples: int) -> Float64[np.ndarray, "resample layer other"] | None:
        """Return CKA in every resample of the minibatches; None below ten minibatches or without resamples."""
        n_minibatches = len(self.cross)
        if n_minibatches < FEWEST_UNITS or not resamples:
            return None
        drawn = draw_units(n_minibatches, seed, resamples)
        times = np.stack([np.bincount(units, minlength=n_minibatches) for units in drawn]).astype(np.float64)
        cross = (times @ self.cross.reshape(n_minibatches, -1)).reshape(resamples, *self.cross.shape[1:])
        return _cka(cross, times @ self.own, times @ self.others)


def _cka(
    cross: Float64[np.ndarray, "*resample layer other"],
    own: Float64[np.ndarray, "*resample layer"],
    others: Float64[np.ndarray, "*resample other"],
) -> Float64[np.ndarray, "*resample layer other"]:
    scale = np.sqrt(own)[..., :, None] * np.sqrt(others)[..., None, :]
    return np.divide(cross, scale, out=np.full(cross.shape, np.nan), where=scale > 0)


def divergence_depth(
    values: Float64[np.ndarray, "resample layer"], depths: Float64[np.ndarray, " layer"]
) -> Float64[np.ndarray, " resample"]:
    """Return the first depth at which CKA is below `DIVERGED`, infinite where it never is."""
    below = values < DIVERGED
    return np.where(below.any(axis=1), depths[below.argmax(axis=1)], np.inf)


def peak_bytes(n_layers: int, n_others: int, n_rows: int, n_minibatches: int, resamples: int) -> int:
    """Return the bytes of Gram matrices of one minibatch, HSIC1 of all minibatches and CKA of all resamples.

    Args:
        n_layers: layers of the one model.
        n_others: layers of the other model.
        n_rows: rows of a minibatch.
        n_minibatches: minibatches.
        resamples: bootstrap resamples.
    """
    n_pairs = n_layers * n_others
    centring = 6 * 8 * n_rows**2 * (n_layers + n_others)
    sums = 2 * 8 * n_minibatches * (n_pairs + n_layers + n_others)
    drawn = resamples if n_minibatches >= FEWEST_UNITS else 0
    return centring + sums + drawn * 8 * (3 * n_minibatches + 6 * n_pairs)
