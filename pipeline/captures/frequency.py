"""Log amplitude of the two-dimensional Fourier transform of patch tokens, along the diagonal of the frequency plane.

As in Park et al. (ICLR 2023, figure 9; naver-ai/cl-vs-mim, representation_analysis.ipynb): tokens on their grid are
transformed channel by channel, ``log(|F| + 1e-6)`` is averaged over the channels, and the half diagonal from frequency
0 on is kept, so that the reader subtracts the first value and averages over images. Value ``i`` belongs to ``i / grid``
cycles a patch along both axes; the last is one below the highest that a grid of even size has (6/14 for 14 patches).
Only the diagonal is transformed: on a square grid it needs the tokens' sums along anti-diagonals, a product with a
small matrix. On other grids the shorter side gives the frequencies.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache, partial

import torch
from jaxtyping import Float

from pipeline.captures.contract import Capture, array_name, facts, patch_tokens, point_of
from pipeline.captures.points import Point, Take, points_of
from pipeline.models.contract import FrozenModel
from pipeline.recipe import FeatureRecipe
from stores.specs import ArraySpec

REVISION = 1
"""Increased when the same tokens give other amplitudes."""

OFFSET = 1e-6
"""Added to the amplitude before the logarithm."""


class Frequency(Capture):
    """Log amplitudes of the tokens at some points of every block."""

    group = "frequency"

    @classmethod
    def wanted(cls, model: FrozenModel, features: FeatureRecipe, layers: Sequence[int]) -> list[ArraySpec]:
        """Return one array a point for ``frequency``."""
        if "frequency" not in features.captures:
            return []
        arrays = []
        for point in points_of(model, layers, features.capture_points, "capture_points"):
            rows, columns = model.layers[point.layer].grid
            arrays.append(
                ArraySpec(
                    name=f"{cls.group}/{array_name(model, point)}",
                    row_shape=(n_frequencies((rows, columns)),),
                    dtype="float32",
                    dimension_names=("sample", f"frequency_{n_frequencies((rows, columns))}"),
                    attributes={**facts(point), "revision": REVISION, "grid_rows": rows, "grid_columns": columns},
                )
            )
        return arrays

    def takes(self) -> Mapping[Point, Take]:
        """Return what takes the tokens of each point."""
        return {point_of(array): partial(self._take, array) for array in self.arrays}

    def _take(self, array: ArraySpec, tokens: torch.Tensor) -> None:
        assert array.grid is not None
        self.keep(array, diagonal_amplitude(patch_tokens(self.model, tokens), array.grid))


def n_frequencies(grid: tuple[int, int]) -> int:
    """Return the number of frequencies along the half diagonal, frequency 0 included."""
    return max(1, min(grid) // 2)


def diagonal_amplitude(
    tokens: Float[torch.Tensor, "sample patch channel"], grid: tuple[int, int]
) -> Float[torch.Tensor, "sample frequency"]:
    """Return the mean over channels of the log amplitude at each frequency of the half diagonal, in nats."""
    real, imaginary = _waves(grid, tokens.device)
    return (torch.hypot(real @ tokens, imaginary @ tokens) + OFFSET).log().mean(dim=-1)


@lru_cache(maxsize=64)
def _waves(
    grid: tuple[int, int], device: torch.device
) -> tuple[Float[torch.Tensor, "frequency patch"], Float[torch.Tensor, "frequency patch"]]:
    with torch.inference_mode(False):
        rows = torch.arange(grid[0], dtype=torch.float64).repeat_interleave(grid[1])
        columns = torch.arange(grid[1], dtype=torch.float64).repeat(grid[0])
        cycles = torch.arange(n_frequencies(grid), dtype=torch.float64) / min(grid)
        angles = 2 * torch.pi * cycles[:, None] * (rows + columns)
        return angles.cos().float().to(device), angles.sin().float().to(device)
