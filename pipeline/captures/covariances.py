"""Mean and covariance of one input's patch tokens, at some points of every block.

Moments of any selection of inputs are sums of these: with n patches an input, ``n (covariance + mean mean')`` added up.
A value is float32; a row has the mean (channels) and the lower triangle of the covariance row by row
(``channels (channels + 1) / 2``), divided by n. That is less than the tokens themselves where an input has more patches
than half the channels in float32, or than all of them in float16: 1,369 patches of 384 channels at 518 px are 1.05 MB
in float16, their covariance 0.30 MB; 196 patches at 224 px are half of it.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache, partial

import torch
from jaxtyping import Float, Int64

from pipeline.captures.contract import Capture, array_name, facts, patch_tokens, point_of
from pipeline.captures.points import Point, Take, points_of
from pipeline.models.contract import FrozenModel
from pipeline.recipe import FeatureRecipe
from stores.format.paths import COVARIANCES
from stores.specs import ArraySpec

REVISION = 1
"""Increased when the same tokens give other values."""


class Covariances(Capture):
    """Means and covariances of the tokens at some points of every block."""

    group = COVARIANCES

    @classmethod
    def wanted(cls, model: FrozenModel, features: FeatureRecipe, layers: Sequence[int]) -> list[ArraySpec]:
        """Return one array a point for ``covariances``."""
        if "covariances" not in features.captures:
            return []
        return [
            ArraySpec(
                name=f"{cls.group}/{array_name(model, point)}",
                row_shape=(n_values(model.layers[point.layer].width),),
                dtype="float32",
                dimension_names=("sample", f"moment_{model.layers[point.layer].width}"),
                attributes={
                    **facts(point),
                    "revision": REVISION,
                    "channels": model.layers[point.layer].width,
                    "n_patches": model.layers[point.layer].n_patches,
                },
            )
            for point in points_of(model, layers, features.capture_points, "capture_points")
        ]

    def takes(self) -> Mapping[Point, Take]:
        """Return what takes the tokens of each point."""
        return {point_of(array): partial(self._take, array) for array in self.arrays}

    def _take(self, array: ArraySpec, tokens: torch.Tensor) -> None:
        self.keep(array, mean_and_covariance(patch_tokens(self.model, tokens)))


def n_values(n_channels: int) -> int:
    """Return the length of a row: the mean and the lower triangle of the covariance."""
    return n_channels + n_channels * (n_channels + 1) // 2


def mean_and_covariance(tokens: Float[torch.Tensor, "sample patch channel"]) -> Float[torch.Tensor, "sample moment"]:
    """Return the mean over the patches and the lower triangle of the covariance, divided by the number of patches."""
    mean = tokens.mean(dim=1, keepdim=True)
    centred = tokens - mean
    covariance = centred.transpose(1, 2) @ centred / tokens.shape[1]
    rows, columns = _triangle(tokens.shape[2], tokens.device)
    return torch.cat([mean[:, 0], covariance[:, rows, columns]], dim=1)


@lru_cache(maxsize=16)
def _triangle(
    n_channels: int, device: torch.device
) -> tuple[Int64[torch.Tensor, " pair"], Int64[torch.Tensor, " pair"]]:
    with torch.inference_mode(False):
        rows, columns = torch.tril_indices(n_channels, n_channels, device=device)
        return rows, columns
