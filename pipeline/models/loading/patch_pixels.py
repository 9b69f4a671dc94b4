"""Converts pixels to the patches that a decoder predicts, and predictions back to pixels."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Float32, UInt8

from stores.errors import UserError

Three = tuple[float, float, float]

_EPSILON = 1e-6  # added to the variance of a patch by facebookresearch/mae, models_mae.py


@dataclass(frozen=True)
class PatchPixels:
    """The prediction target of a decoder: patch grid, patch size and normalisation."""

    grid: tuple[int, int]
    """Rows and columns of patches."""
    patch_size: int
    """In pixels."""
    target: Literal["pixels", "normalised"]
    """The encoder's normalised inputs, or these normalised again for every patch (MAE's ``norm_pix_loss``)."""
    mean: Three
    std: Three
    """The encoder's normalisation of pixels in 0..1."""

    def targets(self, pixels: UInt8[np.ndarray, "sample height width 3"]) -> Float32[np.ndarray, "sample patch value"]:
        """Return the values to predict; raises UserError for pixels of another size."""
        patches = self._as_inputs(pixels)
        if self.target == "pixels":
            return patches
        mean, std = _statistics(patches)
        return (patches - mean) / std

    def images(
        self,
        patches: Float32[np.ndarray, "sample patch value"],
        pixels: UInt8[np.ndarray, "sample height width 3"],
    ) -> Float32[np.ndarray, "sample height width 3"]:
        """Return predictions as RGB in the scale of 0..1, not clipped; raises UserError for pixels of another size.

        Predictions of normalised targets lack brightness and contrast: these are taken from ``pixels``, the true
        inputs.
        """
        if self.target == "normalised":
            mean, std = _statistics(self._as_inputs(pixels))
            patches = patches * std + mean
        return (unpatchify(patches, self.grid) * _channels(self.std) + _channels(self.mean)).astype(np.float32)

    def _as_inputs(
        self, pixels: UInt8[np.ndarray, "sample height width 3"]
    ) -> Float32[np.ndarray, "sample patch value"]:
        height, width = (extent * self.patch_size for extent in self.grid)
        if pixels.shape[1:3] != (height, width):
            raise UserError(
                f"the decoder predicts {width}x{height} pixels (width x height) and the inputs have "
                f"{pixels.shape[2]}x{pixels.shape[1]}: use the inputs of its own encoder"
            )
        inputs = (pixels / np.float32(255) - _channels(self.mean)) / _channels(self.std)
        return patchify(inputs.astype(np.float32), self.grid)


def patchify(
    images: Float32[np.ndarray, "sample height width 3"], grid: tuple[int, int]
) -> Float32[np.ndarray, "sample patch value"]:
    """Cut images into patches, row by row; the values of a patch are ordered by pixel row, pixel column, channel."""
    n_samples, height, width, _ = images.shape
    rows, columns = grid
    cells = images.reshape(n_samples, rows, height // rows, columns, width // columns, 3)
    return np.ascontiguousarray(cells.transpose(0, 1, 3, 2, 4, 5)).reshape(n_samples, rows * columns, -1)


def unpatchify(
    patches: Float32[np.ndarray, "sample patch value"], grid: tuple[int, int]
) -> Float32[np.ndarray, "sample height width 3"]:
    """Put square patches back together; the inverse of `patchify`."""
    n_samples, _, n_values = patches.shape
    rows, columns = grid
    side = math.isqrt(n_values // 3)
    cells = patches.reshape(n_samples, rows, columns, side, side, 3).transpose(0, 1, 3, 2, 4, 5)
    return np.ascontiguousarray(cells).reshape(n_samples, rows * side, columns * side, 3)


def _channels(values: Three) -> Float32[np.ndarray, "3"]:
    return np.array(values, dtype=np.float32)


def _statistics(
    patches: Float[np.ndarray, "sample patch value"],
) -> tuple[Float32[np.ndarray, "sample patch 1"], Float32[np.ndarray, "sample patch 1"]]:
    """Return mean and standard deviation of every patch over its values, with unbiased variance as in MAE's code."""
    mean = patches.mean(axis=2, keepdims=True)
    variance = patches.var(axis=2, keepdims=True, ddof=1)
    return mean, np.sqrt(variance + np.float32(_EPSILON))
