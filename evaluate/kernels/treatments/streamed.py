"""Treatments fitted in one pass over tokens that are not all in memory, for vectors that are means of tokens.

``centre``, ``remove-first-components``, ``pca-k`` and ``remove-position`` are affine, x -> A x + b, and commute with
averages: what they do to an object's or image's vector is the mean of what they do to its tokens. Memory is that of a
covariance, or of one sum a place and random sign, however many tokens there are.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64

from evaluate.kernels.subspaces import FLIPS, directions_of_places, image_signs
from evaluate.kernels.treatments import AFFINE, Treatment


@dataclass(frozen=True, eq=False)
class AffineTreatment:
    """A fitted treatment: directions about a mean that are taken out, or alone kept."""

    mean: Float64[np.ndarray, " channel"]
    directions: Float64[np.ndarray, "channel direction"]
    """Orthonormal."""
    keeps: bool
    """Whether the coordinates along the directions are all that stays."""

    def apply(self, rows: Float[np.ndarray, "row channel"]) -> Float64[np.ndarray, "row feature"]:
        """Return rows treated."""
        centred = rows.astype(np.float64) - self.mean
        along = centred @ self.directions
        treated: np.ndarray = along if self.keeps else centred - along @ self.directions.T
        return treated


def fit_affine(
    treatment: Treatment,
    mean: Float64[np.ndarray, " channel"],
    rows: Iterable[tuple[int, Float[np.ndarray, "patch channel"]]],
    n_images: int,
    seed: int,
) -> AffineTreatment:
    """Return a treatment fitted on the patches of rows, each of which has every place of the grid, in order.

    Args:
        treatment: one of `AFFINE`.
        mean: mean of all tokens.
        rows: number of the image and tokens of every row, in a fixed order; not read for ``centre``.
        n_images: number of images.
        seed: seed of random signs.
    """
    if treatment.name not in AFFINE:
        raise ValueError(f"{treatment.name} is not affine")
    rank = treatment.rank or 0
    if treatment.name == "centre":
        return AffineTreatment(mean, np.empty((len(mean), 0)), keeps=False)
    if treatment.name == "remove-position":
        positional = _positional(mean, rows, n_images, rank, seed)
        return AffineTreatment(np.zeros(len(mean)), positional, keeps=False)
    squares, product = np.zeros((len(mean), len(mean))), np.empty((len(mean), len(mean)))
    n_tokens = 0
    for _, tokens in rows:  # row by row, so that the bits do not depend on how a set is cut into chunks
        centred = tokens.astype(np.float64) - mean
        squares += np.matmul(centred.T, centred, out=product)
        n_tokens += len(tokens)
    vectors = np.linalg.eigh(squares / n_tokens)[1]
    return AffineTreatment(mean, vectors[:, len(mean) - rank :], keeps=treatment.name == "pca-k")


def _positional(
    mean: Float64[np.ndarray, " channel"],
    rows: Iterable[tuple[int, Float[np.ndarray, "patch channel"]]],
    n_images: int,
    rank: int,
    seed: int,
) -> Float64[np.ndarray, "channel direction"]:
    signs, sums, n_rows = image_signs(n_images, seed), np.zeros((1 + FLIPS, 0, len(mean))), 0
    for image, tokens in rows:
        centred = tokens.astype(np.float64) - mean
        if not n_rows:
            sums = np.zeros((1 + FLIPS, *centred.shape))
        for total, sign in zip(sums, signs[:, image], strict=True):
            (np.add if sign > 0 else np.subtract)(total, centred, out=total)
        n_rows += 1
    return directions_of_places(sums, np.full(sums.shape[1], n_rows), rank)


def peak_bytes(treatment: Treatment, n_patches: int, n_channels: int) -> int:
    """Return the bytes of a fit beside the rows as read: sums, tokens of a row in float64, and a decomposition.

    Args:
        treatment: one of `AFFINE`.
        n_patches: patches of a row.
        n_channels: features of a token.
    """
    if treatment.name == "centre":
        return 8 * 4 * n_channels
    tokens = 8 * n_patches * n_channels
    if treatment.name == "remove-position":
        return (1 + FLIPS + 8) * tokens + 8 * 4 * n_channels * min(n_patches, n_channels) + 8 * n_channels**2
    return 3 * tokens + 8 * 6 * n_channels**2
