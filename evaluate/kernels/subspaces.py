"""Directions of features: principal ones, those that differ with the place of a patch, and how far two sets agree.

* `principal_directions`: eigenvectors of the covariance of tokens (PCA).
* `positional_directions`: with mu the mean of all tokens, mu_p that of the n_p of n tokens at place p of the grid, the
  right singular vectors of the matrix with rows sqrt(n_p / n) (mu_p - mu). INSID3 (arXiv 2603.28480, visinf/INSID3
  models/insid3.py, `_build_positional_basis`) takes the singular vectors of the tokens of one image without content
  instead, black in its code and called noise there, each token of unit length. Here the model runs on no further image,
  so that what is usual at a place in the bank (sky above, road below) counts as positional.
* `overlap`: ||A' B||_F^2 / min(a, b) for orthonormal A and B of a and b columns, the mean squared cosine of the
  principal angles (Bjorck and Golub 1973); of random ones it is max(a, b) / D on average for D features.
* `PositionSums`: how much of the variance of features is positional.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64, Int64

SMALLEST_SHARE = 1e-6
"""Directions whose variance is below this share of the largest are rounding only."""

BLOCK_ROWS = 4096
"""Rows that are read at a time: fixed, because another number would change the last bits."""

BLOCK_CHANNELS = 16
"""Channels whose sums by image and place are held at a time."""

BLOCK_RESAMPLES = 64
"""Resamples whose sums by place are held at a time."""


def covariance(
    bank: Float[np.ndarray, "bank channel"], mean: Float[np.ndarray, " channel"]
) -> Float64[np.ndarray, "channel channel"]:
    """Return the covariance of tokens, divided by their number, in float64."""
    squares = np.zeros((bank.shape[1], bank.shape[1]))
    for start in range(0, len(bank), BLOCK_ROWS):
        centred = bank[start : start + BLOCK_ROWS].astype(np.float64) - mean
        squares += centred.T @ centred
    return squares / len(bank)


def principal_directions(
    bank: Float[np.ndarray, "bank channel"], mean: Float[np.ndarray, " channel"]
) -> tuple[Float64[np.ndarray, " direction"], Float64[np.ndarray, "channel direction"]]:
    """Return variances, increasing, and the directions that have them."""
    variances, vectors = np.linalg.eigh(covariance(bank, mean))
    return variances, vectors


def positional_directions(
    bank: Float[np.ndarray, "bank channel"], places: Int64[np.ndarray, " bank"], rank: int
) -> Float64[np.ndarray, "channel direction"]:
    """Return the directions in which mean tokens of places differ most, the first one first.

    Args:
        bank: tokens.
        places: number of each token's place on the grid, from 0; places without a token have no mean.
        rank: number of directions; fewer are returned where the means span fewer.
    """
    sums = group_sums(bank, places, int(places.max()) + 1)
    counts = np.bincount(places)
    there = counts > 0
    means = sums[there] / counts[there, None]
    weights = counts[there] / len(bank)
    scaled = np.sqrt(weights)[:, None] * (means - weights @ means)
    _, values, vectors = np.linalg.svd(scaled, full_matrices=False)
    n_used = int(np.count_nonzero(values**2 > SMALLEST_SHARE * values[0] ** 2))
    return vectors[: min(rank, n_used)].T.copy()


def group_sums(
    rows: Float[np.ndarray, "row channel"], groups: Int64[np.ndarray, " row"], n_groups: int
) -> Float64[np.ndarray, "group channel"]:
    """Return the sum of the rows of every group, in float64 and in the order of rows."""
    sums = np.zeros((n_groups, rows.shape[1]))
    for start in range(0, len(rows), BLOCK_ROWS):
        of_rows = groups[start : start + BLOCK_ROWS]
        order = np.argsort(of_rows, kind="stable")
        present, first = np.unique(of_rows[order], return_index=True)
        block = rows[start : start + BLOCK_ROWS].astype(np.float64)[order]
        sums[present] += np.add.reduceat(block, first, axis=0)
    return sums


def overlap(
    one: Float64[np.ndarray, "channel direction"], other: Float64[np.ndarray, "channel direction2"]
) -> float | None:
    """Return the overlap of two sets of orthonormal directions, 0..1; None where one of them is empty."""
    fewer = min(one.shape[1], other.shape[1])
    return float(((one.T @ other) ** 2).sum() / fewer) if fewer else None


@dataclass(frozen=True)
class PositionSums:
    """Which image and place each token is of, to say how much of the variance of features is positional.

    With d = x - mu, S_ip the sum of d over the n_ip tokens of image i at place p, the squared mean of a place is
    estimated from pairs of different images, sum_{i != j} S_ip S_jp / sum_{i != j} n_ip n_jp, so that chance adds
    nothing to it on average; the plain square of mu_p - mu holds the variance of each mean as well. The share is the
    mean of these over tokens, summed over features, over the summed variance. It may be below 0 by chance where place
    does nothing. Places that one image alone has do not count. In a resample an image that is drawn w times has weight
    w, and is never paired with itself.
    """

    images: Int64[np.ndarray, " bank"]
    places: Int64[np.ndarray, " bank"]
    n_images: int
    n_places: int

    def variances(
        self, tokens: Float[np.ndarray, "bank channel"], weights: Float64[np.ndarray, "draw image"]
    ) -> tuple[Float64[np.ndarray, "draw channel"], Float64[np.ndarray, "draw channel"]]:
        """Return the positional and the whole variance of every feature, for every weighting of the images."""
        positional = np.empty((len(weights), tokens.shape[1]))
        whole = np.empty_like(positional)
        groups = self.images * self.n_places + self.places
        shape = (self.n_images, self.n_places)
        counts = np.bincount(groups, minlength=self.n_images * self.n_places).reshape(shape).astype(np.float64)
        for start in range(0, tokens.shape[1], BLOCK_CHANNELS):
            channels = slice(start, start + BLOCK_CHANNELS)
            some = tokens[:, channels].astype(np.float64)
            some -= some.mean(axis=0)
            sums = group_sums(some, groups, counts.size).reshape(*shape, -1)
            squares = group_sums(some**2, self.images, self.n_images)
            for first in range(0, len(weights), BLOCK_RESAMPLES):
                draws = slice(first, first + BLOCK_RESAMPLES)
                positional[draws, channels], whole[draws, channels] = _of_draws(weights[draws], counts, sums, squares)
        return positional, whole


def _of_draws(
    weights: Float64[np.ndarray, "draw image"],
    counts: Float64[np.ndarray, "image place"],
    sums: Float64[np.ndarray, "image place channel"],
    squares: Float64[np.ndarray, "image channel"],
) -> tuple[Float64[np.ndarray, "draw channel"], Float64[np.ndarray, "draw channel"]]:
    n_images, n_places, n_channels = sums.shape
    twice = weights**2

    def summed(by: Float64[np.ndarray, "draw image"], values: np.ndarray) -> np.ndarray:
        return (by @ values.reshape(n_images, -1)).reshape(len(by), n_places, n_channels)

    n_tokens = weights @ counts.sum(axis=1)
    mean = (weights @ sums.sum(axis=1)) / n_tokens[:, None]
    count, count_twice = weights @ counts, twice @ counts**2
    shift = mean[:, None]
    total = summed(weights, sums) - count[..., None] * shift
    own = (
        summed(twice, sums**2)
        - 2.0 * shift * summed(twice, sums * counts[..., None])
        + shift**2 * count_twice[..., None]
    )
    pairs = count**2 - count_twice
    used = pairs > 0.5  # of whole numbers
    squared = np.divide(total**2 - own, pairs[..., None], out=np.zeros_like(total), where=used[..., None])
    share = np.where(used, count, 0.0)
    n_used = share.sum(axis=1, keepdims=True)
    positional = np.einsum("dp,dpc->dc", share, squared) / np.where(n_used > 0, n_used, np.nan)
    return positional, weights @ squares / n_tokens[:, None] - mean**2
