"""How alike tokens and images are: variance within images, mean cosines, and uniformity.

* The share of the variance that lies within images: ``1 - variance of the images' means / total variance``.
* The mean cosine of pairs of tokens of one image, of two images, and of the mean tokens of two images. The part of each
  channel in the second is the product of its values in tokens of length 1, and adds up to the whole; which share a few
  channels make is the measure of Timkey and van Schijndel (EMNLP 2021, arXiv 2109.04404, section 3).
* Uniformity ``log mean exp(-2 |x - y|^2)`` over pairs of vectors of length 1 (Wang and Isola, ICML 2020, arXiv
  2005.10242): 0 where all are equal, about -4 where they spread evenly over many dimensions.

The first two are those of allenai/olmoearth_pretrain (evals/embedding_diagnostics.py), which samples pairs.

Resamples repeat images. Pairs of a repeated image with its copy are left out, for they would make everything more
alike.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64

PAIR_ROWS = 512
"""Vectors whose pairs with all others are computed at a time."""

Times = Float64[np.ndarray, "resample image"]


@dataclass(frozen=True, eq=False)
class ImageSums:
    """Sums over the tokens of each image."""

    counts: Float64[np.ndarray, " image"]
    totals: Float64[np.ndarray, "image channel"]
    """Sum of the tokens."""
    squares: Float64[np.ndarray, " image"]
    """Sum of their squared lengths."""
    unit_totals: Float64[np.ndarray, "image channel"]
    """Sum of the tokens, each scaled to length 1."""
    units: Float64[np.ndarray, " image"]
    """Tokens that are not 0."""


def share_within(sums: ImageSums, times: Times) -> Float64[np.ndarray, " resample"]:
    """Return the share of the variance within images in every resample; nan of one image, and where nothing varies.

    ``times`` says how often each image is drawn; a row of ones gives the value of all.
    """
    if len(sums.counts) < 2:
        return np.full(len(times), np.nan)
    within = sums.squares - (sums.totals**2).sum(axis=1) / sums.counts
    centre = sums.totals.sum(axis=0) / sums.counts.sum()
    offsets = sums.totals / sums.counts[:, None] - centre
    weights = times * sums.counts
    between = weights @ (offsets**2).sum(axis=1) - ((weights @ offsets) ** 2).sum(axis=1) / weights.sum(axis=1)
    inside = times @ within
    total = inside + np.maximum(between, 0.0)
    return np.divide(inside, total, out=np.full(len(times), np.nan), where=total > 0)


def cosine_parts(
    unit_totals: Float64[np.ndarray, "image channel"], units: Float64[np.ndarray, " image"], times: Times
) -> Float64[np.ndarray, "resample channel"]:
    """Return each channel's part of the mean cosine of pairs of two images, in every resample.

    Args:
        unit_totals: sum of the vectors of each image, each of length 1.
        units: their number.
        times: how often each image is drawn.
    """
    summed = (times @ unit_totals) ** 2 - times**2 @ unit_totals**2
    pairs = (times @ units) ** 2 - times**2 @ units**2
    return np.divide(summed, pairs[:, None], out=np.full(summed.shape, np.nan), where=pairs[:, None] > 0)


def leading_share(parts: Float64[np.ndarray, "resample channel"], m: int) -> Float64[np.ndarray, " resample"]:
    """Return the share of the mean cosine that the m channels with the largest parts make; above 1 where others lower
    it.

    nan where the mean cosine is not above 0.
    """
    total, largest = parts.sum(axis=1), -np.partition(-parts, m - 1, axis=1)[:, :m].sum(axis=1)
    return np.divide(largest, total, out=np.full(len(parts), np.nan), where=total > 0)


def cosine_within(sums: ImageSums) -> Float64[np.ndarray, " image"]:
    """Return the mean cosine of pairs of different tokens of each image; nan where it has one."""
    pairs = sums.units * (sums.units - 1.0)
    summed = (sums.unit_totals**2).sum(axis=1) - sums.units
    return np.divide(summed, pairs, out=np.full(len(pairs), np.nan), where=pairs > 0)


def unit_length(vectors: Float[np.ndarray, "vector channel"]) -> Float64[np.ndarray, "vector channel"]:
    """Return the vectors scaled to length 1; those of length 0 stay 0."""
    wide = vectors.astype(np.float64)
    lengths = np.sqrt((wide**2).sum(axis=1, keepdims=True))
    return wide / np.where(lengths > 0, lengths, 1.0)


def uniformity(units: Float64[np.ndarray, "vector channel"]) -> float:
    """Return ``log mean exp(-2 |x - y|^2)`` over pairs of different vectors of length 1; nan below two."""
    n = len(units)
    if n < 2:
        return float("nan")
    total = 0.0
    for start in range(0, n, PAIR_ROWS):
        some = units[start : start + PAIR_ROWS]
        powers = np.exp(4.0 * (some @ units.T) - 4.0)
        total += float(powers.sum()) - float(powers[np.arange(len(some)), start + np.arange(len(some))].sum())
    return float(np.log(total / (n * (n - 1.0))))
