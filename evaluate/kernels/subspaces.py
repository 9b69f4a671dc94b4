"""Directions of features: principal ones, those that differ with the place of a patch, and how far two sets agree.

* `principal_directions`: eigenvectors of the covariance of tokens (PCA).
* `positional_directions`: with mu the mean of all tokens, mu_p that of the n_p of n tokens at place p of the grid, the
  right singular vectors of the matrix M with rows sqrt(n_p / n) (mu_p - mu). Of the first r those stay whose singular
  value is above the largest one of `FLIPS` matrices that are made alike after the tokens' deviations from mu have got a
  random sign an image (Hong, Sheng and Dobriban, "Selecting the number of components in PCA via random signflips",
  2020): where position does nothing, means of few tokens differ most along the directions of largest variance, whatever
  these are, and taking them out would be ``remove-first-components``. Of few images nothing may be found. INSID3
  (arXiv 2603.28480, visinf/INSID3 models/insid3.py, `_build_positional_basis`) takes the singular vectors of the tokens
  of one image without content instead, black in its code and called noise there, each token of unit length. Here the
  model runs on no further image, so that what is usual at a place in the bank (sky above) counts as positional.
* `overlap`: ||A' B||_F^2 / min(a, b) for orthonormal A and B of a and b columns, the mean squared cosine of the
  principal angles (Bjorck and Golub 1973); of random ones it is max(a, b) / D on average for D features.
* `Placement`: how much of the variance of features is positional.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64, Int64

SMALLEST_SHARE = 1e-6
"""Directions whose variance is below this share of the largest are rounding only."""

BLOCK_ROWS = 4096
"""Rows that are read at a time: fixed, because another number would change the last bits."""

FLIPS = 19
"""Random signs of images that singular values are compared with: chance exceeds all of them once in twenty times."""

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
    bank: Float[np.ndarray, "bank channel"], placement: "Placement", rank: int, seed: int
) -> Float64[np.ndarray, "channel direction"]:
    """Return the directions in which mean tokens of places differ most, the first one first.

    Args:
        bank: tokens.
        placement: image and place of each; places without a token have no mean.
        rank: number of directions; fewer are returned where fewer differ by more than chance.
        seed: seed of random signs.
    """
    counts = np.bincount(placement.places, minlength=placement.n_places)
    mean = group_sums(bank, placement.places, placement.n_places).sum(axis=0) / len(bank)

    def signed_sums(signs: Float64[np.ndarray, " image"]) -> Float64[np.ndarray, "place channel"]:
        sums = np.zeros((placement.n_places, bank.shape[1]))
        for start in range(0, len(bank), BLOCK_ROWS):
            here = slice(start, start + BLOCK_ROWS)
            centred = (bank[here].astype(np.float64) - mean) * signs[placement.images[here], None]
            sums += group_sums(centred, placement.places[here], placement.n_places)
        return sums

    signs = image_signs(placement.n_images, seed)
    return directions_of_places(map(signed_sums, signs), counts, rank)


def image_signs(n_images: int, seed: int) -> Float64[np.ndarray, "flip image"]:
    """Return a sign an image: all 1 first, then `FLIPS` random lines."""
    generator = np.random.Generator(np.random.PCG64(seed))
    return np.concatenate([np.ones((1, n_images)), generator.choice([-1.0, 1.0], (FLIPS, n_images))])


def directions_of_places(
    sums: Iterable[Float64[np.ndarray, "place channel"]], counts: Int64[np.ndarray, " place"], rank: int
) -> Float64[np.ndarray, "channel direction"]:
    """Return the directions of `positional_directions` from sums of centred tokens.

    Args:
        sums: of the tokens at each place, the tokens of every image times its sign, for each line of `image_signs`.
        counts: tokens at each place.
        rank: number of directions at most.
    """
    there, n_tokens = counts > 0, counts.sum()

    def differences(of_flip: Float64[np.ndarray, "place channel"]) -> Float64[np.ndarray, "place channel"]:
        weights = counts[there] / n_tokens
        means = of_flip[there] / counts[there, None]
        return np.sqrt(weights)[:, None] * (means - weights @ means)

    of_flips = map(differences, sums)
    _, values, vectors = np.linalg.svd(next(of_flips), full_matrices=False)
    by_chance = max(float(np.linalg.norm(of_flip, 2)) for of_flip in of_flips)
    n_found = int(np.count_nonzero(values > by_chance * (1.0 + SMALLEST_SHARE)))
    return vectors[: min(rank, n_found)].T.copy()


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
class Placement:
    """Which image and place each token is of, to say how much of the variance of features is positional.

    The positional variance of a feature is the mean over tokens of mu_p^2, less mu^2. Both squares are estimated from
    pairs of different images: with S_i the sum and n_i the number of the tokens of image i, at a place or at all, a
    square is sum_{i != j} S_i S_j / sum_{i != j} n_i n_j, of tokens about the mean of the bank. So chance adds nothing
    on average, whereas the plain mu_p^2 holds the variance of each mean as well; where position does nothing the
    estimate may be below 0. Places that one image alone has do not count. In a resample an image that is drawn w times
    has weight w, and is never paired with itself.
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
    twice = weights**2

    def squared(sums: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return squared means ``(draw, ..., channel)`` and which of them some pair of images has ``(draw, ...)``."""
        flat = sums.reshape(len(sums), -1)
        products = ((weights @ flat) ** 2 - twice @ flat**2).reshape(len(weights), *sums.shape[1:])
        pairs = (weights @ counts) ** 2 - twice @ counts**2
        used = pairs > 0.5  # of whole numbers
        return np.divide(products, pairs[..., None], out=np.zeros_like(products), where=used[..., None]), used

    of_places, used = squared(sums, counts)
    share = np.where(used, weights @ counts, 0.0)
    n_used, n_tokens = share.sum(axis=1, keepdims=True), weights @ counts.sum(axis=1)
    mean_square = np.einsum("dp,dpc->dc", share, of_places) / np.where(n_used > 0, n_used, np.nan)
    of_all, _ = squared(sums.sum(axis=1), counts.sum(axis=1))
    mean = (weights @ sums.sum(axis=1)) / n_tokens[:, None]
    return mean_square - of_all, weights @ squares / n_tokens[:, None] - mean**2
