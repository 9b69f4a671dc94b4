"""Log amplitudes of the two-dimensional Fourier transform of token maps, along the half diagonal.

As in Park et al. (ICLR 2023; naver-ai/cl-vs-mim, representation_analysis.ipynb): ``log(|F| + 1e-6)``, mean
over channels, and the entries ``(i, i)`` below half of the grid, of which the first (frequency 0) is the reference.
"""

import numpy as np
from jaxtyping import Float, Float64

OFFSET = 1e-6
"""Added to the amplitude before the logarithm."""


def log_amplitudes(
    tokens: Float[np.ndarray, "sample patch channel"], grid: tuple[int, int]
) -> Float64[np.ndarray, "sample frequency"]:
    """Return the mean over channels of the log amplitude at each frequency of the half diagonal, in nats.

    Frequency ``i`` has ``i / grid`` cycles a patch along both axes, on grids of unequal sides by the shorter one.
    """
    n_frequencies = max(1, min(grid) // 2)
    cycles = np.arange(n_frequencies) / min(grid)
    rows, columns = np.repeat(np.arange(grid[0]), grid[1]), np.tile(np.arange(grid[1]), grid[0])
    waves = np.exp(-2j * np.pi * cycles[:, None] * (rows + columns))
    logs: np.ndarray = np.log(np.abs(waves @ tokens.astype(np.float64)) + OFFSET).mean(axis=-1)
    return logs


def relative_to_first(
    logs: Float[np.ndarray, "sample frequency"],
) -> Float64[np.ndarray, "sample frequency"]:
    """Return log amplitudes less that of frequency 0."""
    return logs.astype(np.float64) - logs[:, :1]
