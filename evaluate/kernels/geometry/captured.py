"""Moments of patch tokens from the mean and covariance of each input (pipeline/captures/covariances.py)."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, Int64

from evaluate.kernels.geometry.rank import Spectrum, spectra
from evaluate.kernels.geometry.spread import ImageSums


@dataclass(frozen=True, eq=False)
class CapturedMoments:
    """Sums over the patch tokens of some inputs, in float64."""

    count: int
    """Tokens."""
    total: Float64[np.ndarray, " channel"]
    """``sum x``."""
    second: Float64[np.ndarray, "channel channel"]
    """``sum x x^T``."""
    totals: Float64[np.ndarray, "row channel"]
    """``sum x`` of each input."""
    squares: Float64[np.ndarray, " row"]
    """``sum |x|^2`` of each input."""

    @classmethod
    def of(
        cls, blocks: Iterator[Float32[np.ndarray, "row moment"]], n_channels: int, n_patches: int
    ) -> "CapturedMoments":
        """Return the sums of blocks of rows: with mean m and covariance C of n patches, ``sum x x^T = n (C + m m^T)``.

        Args:
            blocks: Rows as stored: the mean, then the lower triangle of the covariance row by row.
            n_channels: Features of a token.
            n_patches: Tokens of an input.
        """
        lower = np.tril_indices(n_channels)
        diagonal = n_channels + np.flatnonzero(lower[0] == lower[1])
        triangle, outer = np.zeros(len(lower[0])), np.zeros((n_channels, n_channels))
        totals, squares = [np.empty((0, n_channels))], [np.empty(0)]
        for block in blocks:
            mean = block[:, :n_channels].astype(np.float64)
            triangle += block[:, n_channels:].sum(axis=0, dtype=np.float64)
            outer += mean.T @ mean
            totals.append(n_patches * mean)
            squares.append(n_patches * (block[:, diagonal].sum(axis=1, dtype=np.float64) + (mean**2).sum(axis=1)))
        covariance = np.zeros((n_channels, n_channels))
        covariance[lower] = triangle
        covariance = covariance + np.tril(covariance, -1).T
        every = np.concatenate(totals)
        return cls(
            n_patches * len(every), every.sum(axis=0), n_patches * (covariance + outer), every, np.concatenate(squares)
        )

    @property
    def spectra(self) -> Iterator[Spectrum]:
        """The spectra, centred and not; fourth powers are not captured, and corrected ratios not defined."""
        return spectra(self.count, self.total, self.second, float("nan"), np.full(len(self.total), np.nan))

    def of_images(self, numbers: Int64[np.ndarray, " row"], n_images: int) -> ImageSums:
        """Return sums over the tokens of each image; those of tokens scaled to length 1 are not captured.

        Args:
            numbers: Image of each row.
            n_images: Number of images.
        """
        n_channels = len(self.total)
        totals = np.zeros((n_images, n_channels))
        np.add.at(totals, numbers, self.totals)
        counts = np.bincount(numbers, minlength=n_images) * float(self.count // max(1, len(numbers)))
        squares = np.bincount(numbers, weights=self.squares, minlength=n_images)
        return ImageSums(counts, totals, squares, np.zeros((n_images, n_channels)), np.zeros(n_images))


def captured_bytes(n_rows: int, n_images: int, n_channels: int) -> int:
    """Return what the sums and their decompositions hold: matrices of float64, a triangle, and a vector a row."""
    return 8 * (8 * n_channels**2 + 2 * n_channels * (n_rows + n_images))
