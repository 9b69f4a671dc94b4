"""Massive activations: single values thousands of times as large as the usual one, and channels that hold them.

Sun et al. ("Massive Activations in Large Language Models", arXiv 2402.17762) call an activation massive whose magnitude
is above 100 and above 1000 times the median magnitude. Magnitudes are counted in a table of 32,768 bins, one a value of
the exponent and the leading bits of the mantissa: exact for float16, and to one part in 128 for float32.
"""

import numpy as np
from jaxtyping import Float, Float64, Int64

LARGE = 100.0
TIMES_MEDIAN = 1000.0
"""A massive activation is above both: `LARGE`, and so many times the median magnitude (2402.17762, section 2)."""
BINS = 1 << 15


def magnitude_counts(values: Float[np.ndarray, "*any"]) -> Int64[np.ndarray, " bin"]:
    """Return how many values have each magnitude, by the bits of a float16, or the upper bits of a float32."""
    flat = np.ascontiguousarray(values).reshape(-1)
    bits = flat.view(np.uint16) if flat.dtype == np.float16 else (_wide(flat).view(np.uint32) >> 16).astype(np.uint16)
    import torch  # here, because reading stored results needs none of it

    # torch counts 32-bit numbers; numpy's bincount copies them to 64 bits first and takes three times as long.
    counted = torch.bincount(torch.from_numpy((bits & np.uint16(BINS - 1)).astype(np.int32)), minlength=BINS)
    return counted.numpy()


def largest_magnitudes(values: Float[np.ndarray, "row channel"]) -> Float[np.ndarray, " channel"]:
    """Return the largest magnitude of every channel; nan where one is nan."""
    if values.dtype != np.float16:
        return np.abs(values).max(axis=0)
    # Magnitudes are in the order of their bits, which are compared in half the time.
    return (values.view(np.uint16) & np.uint16(BINS - 1)).max(axis=0).view(np.float16)


def _wide(flat: Float[np.ndarray, " any"]) -> Float[np.ndarray, " any"]:
    return flat.astype(np.float32, copy=False)


def magnitudes(dtype: np.dtype) -> Float64[np.ndarray, " bin"]:
    """Return the smallest magnitude of every bin, increasing; those of infinities and nan are infinite."""
    bits = np.arange(BINS, dtype=np.uint32)
    with np.errstate(invalid="ignore"):  # some patterns of bits are no number
        if dtype == np.float16:
            values = bits.astype(np.uint16).view(np.float16).astype(np.float64)
        else:
            values = (bits << np.uint32(16)).view(np.float32).astype(np.float64)
    return np.where(np.isnan(values), np.inf, values)


def median_magnitude(counts: Int64[np.ndarray, " bin"], of_bins: Float64[np.ndarray, " bin"]) -> float:
    """Return the lower median of the magnitudes."""
    return float(of_bins[np.searchsorted(np.cumsum(counts), (int(counts.sum()) + 1) // 2)])


def count_above(counts: Int64[np.ndarray, " bin"], of_bins: Float64[np.ndarray, " bin"], threshold: float) -> int:
    """Return how many values are above a threshold; in float32, how many are in bins that begin above it."""
    return int(counts[of_bins > threshold].sum())


def kurtosis(
    first: Float64[np.ndarray, "*token"],
    second: Float64[np.ndarray, "*token"],
    third: Float64[np.ndarray, "*token"],
    fourth: Float64[np.ndarray, "*token"],
) -> Float64[np.ndarray, "*token"]:
    """Return the kurtosis of every token's values over its channels; 3 for normal values, nan where all are equal.

    A basis in which single channels stand out has a high one, and a rotated one has about 3 (Elhage et al., "Privileged
    Bases in the Transformer Residual Stream", 2023).

    Args:
        first: mean of each token's values.
        second: mean of their squares.
        third: mean of their third powers.
        fourth: mean of their fourth powers.
    """
    variance = second - first**2
    central = fourth - 4.0 * first * third + 6.0 * first**2 * second - 3.0 * first**4
    return np.divide(central, variance**2, out=np.full(first.shape, np.nan), where=variance > 0)
