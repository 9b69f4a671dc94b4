"""Mean and variance of features in one pass, and the ranking of features by variance.

Blocks are read once, in float64, and merged with the parallel formula of Chan, Golub and LeVeque ("Updating
formulae and a pairwise algorithm for computing sample variances", 1979, equation 2.1). Merging in block order gives
the same bits however the blocks were computed.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, Int64

from evaluate.kernels.bootstrap import FEWEST_UNITS
from stores.errors import UserError

EPSILON = 1e-6
"""Added to the variance before the square root (facebookresearch/mae, main_linprobe.py: BatchNorm1d eps)."""

WORK_BYTES = 8 << 20
"""Buffers of a fixed number of elements that moments and other passes over blocks of rows hold, at most."""

TOGETHER = 2
"""Blocks of equal size whose moments share every step; more would leave the processor's caches."""
THREAD_BYTES = 4 << 20
"""Buffers of one thread that computes moments, at most."""

_PIECE = 2**17  # elements whose float64 copy, of a megabyte, about fits the second-level cache
_CONVERTED = 2**15
# Elements that torch converts in the calling thread: for more it wakes its threads, which costs more than it saves.
_NO_ROW = "there is no row to take a variance of; choose rows that exist and are labelled"


def read_float32(block: Float[np.ndarray, "row channel"], out: Float32[np.ndarray, "row channel"]) -> None:
    """Copy ``block`` into ``out`` as float32, exactly for float16 input."""
    # torch converts float16 four times faster than numpy, but warns about arrays that it could not write to.
    if block.dtype != np.float16 or not block.flags.writeable or not block.dtype.isnative:
        np.copyto(out, block, casting="same_kind")
        return
    import torch  # here, because reading stored results needs none of it

    rows = max(1, len(block) if torch.get_num_threads() == 1 else _CONVERTED // max(1, block.shape[1]))
    for start in range(0, len(block), rows):
        piece = slice(start, start + rows)
        torch.from_numpy(out[piece]).copy_(torch.from_numpy(block[piece]))


def convert_alone() -> None:
    """Keep torch from waking threads of its own in the calling thread, one of several that convert.

    Conversions then need no cutting into small pieces, after each of which threads would wait for the interpreter lock.
    """
    import torch

    torch.set_num_threads(1)  # of the calling thread


@dataclass(frozen=True, eq=False)
class Moments:
    """Number of rows, mean, and sum of squared deviations from the mean, per feature."""

    count: int
    mean: Float64[np.ndarray, " channel"]
    squared_deviations: Float64[np.ndarray, " channel"]

    @classmethod
    def from_block(cls, block: Float[np.ndarray, "row channel"]) -> "Moments":
        """Return the moments of a block of rows, in any float type.

        The block is read once, in pieces of a bounded number of rows that depends on the number of channels
        only. Raises UserError when a value is not finite.
        """
        return cls._together(block[None])[0]

    @classmethod
    def from_blocks(cls, blocks: Float[np.ndarray, "block row channel"]) -> list["Moments"]:
        """Return the moments of each of several blocks of equal size, to the bits of `from_block`.

        `TOGETHER` of them share every step: a step of one is so short that threads wait for the interpreter lock.
        """
        return [
            one for start in range(0, len(blocks), TOGETHER) for one in cls._together(blocks[start : start + TOGETHER])
        ]

    @classmethod
    def _together(cls, blocks: Float[np.ndarray, "block row channel"]) -> list["Moments"]:
        n_blocks, n_rows, n_channels = blocks.shape
        piece_rows = max(1, _PIECE // max(1, n_channels))
        narrow = np.empty((n_blocks, min(piece_rows, n_rows), n_channels), dtype=np.float32)
        wide = np.empty(narrow.shape, dtype=np.float64)
        count, mean, squared_deviations = 0, np.zeros((n_blocks, n_channels)), np.zeros((n_blocks, n_channels))
        with np.errstate(invalid="ignore", over="ignore"):
            for start in range(0, n_rows, piece_rows):
                piece = blocks[:, start : start + piece_rows]
                rows = piece.shape[1]
                values = wide[:, :rows]
                if piece.dtype == np.float16:
                    for one, out in zip(piece, narrow, strict=True):
                        read_float32(one, out[:rows])
                    np.copyto(values, narrow[:, :rows])
                else:
                    np.copyto(values, piece)
                piece_mean = values.sum(axis=1) / rows
                values -= piece_mean[:, None]
                piece_squares = np.einsum("brc,brc->bc", values, values)
                mean, squared_deviations = _merge(count, mean, squared_deviations, rows, piece_mean, piece_squares)
                count += rows
        finite = (np.isfinite(mean) & np.isfinite(squared_deviations)).all(axis=0)
        if not finite.all():
            raise UserError(
                f"channel {int(np.argmin(finite))} of the features holds a value that is not finite, so it has no "
                "variance; verify the set, and extract it with float32 storage if float16 overflowed"
            )
        return [cls(count, *of_one) for of_one in zip(mean, squared_deviations, strict=True)]

    @classmethod
    def of(cls, blocks: Iterable[Float[np.ndarray, "_ channel"]]) -> "Moments":
        """Return the merged moments of blocks, in their order; raises UserError where there is no row."""
        return cls.merged(cls.from_block(block) for block in blocks)

    @classmethod
    def merged(cls, parts: Iterable["Moments"]) -> "Moments":
        """Return the moments of parts one after another; raises UserError where there is no row."""
        merged: Moments | None = None
        for moments in parts:
            merged = moments if merged is None else merged.merge(moments)
        if merged is None or merged.count == 0:
            raise UserError(_NO_ROW)
        return merged

    def merge(self, other: "Moments") -> "Moments":
        """Return the moments of this block's rows followed by ``other``'s."""
        mean, squared_deviations = _merge(
            self.count, self.mean, self.squared_deviations, other.count, other.mean, other.squared_deviations
        )
        return Moments(self.count + other.count, mean, squared_deviations)

    @property
    def variance(self) -> Float64[np.ndarray, " channel"]:
        """Population variance (divided by the count, as `numpy.var` does by default)."""
        if self.count == 0:
            raise UserError(_NO_ROW)
        return self.squared_deviations / self.count


def _merge(
    count_a: int,
    mean_a: Float64[np.ndarray, "*blocks channel"],
    squares_a: Float64[np.ndarray, "*blocks channel"],
    count_b: int,
    mean_b: Float64[np.ndarray, "*blocks channel"],
    squares_b: Float64[np.ndarray, "*blocks channel"],
) -> tuple[Float64[np.ndarray, "*blocks channel"], Float64[np.ndarray, "*blocks channel"]]:
    """Return mean and squared deviations of the union (Chan et al. 1979, equation 2.1)."""
    if count_a == 0 or count_b == 0:  # exact: an empty block must not change a bit
        return (mean_b, squares_b) if count_a == 0 else (mean_a, squares_a)
    count = count_a + count_b
    delta = mean_b - mean_a
    mean = mean_a + delta * (count_b / count)
    return mean, squares_a + squares_b + delta * delta * (count_a / count * count_b)


@dataclass(frozen=True, eq=False)
class Standardisation:
    """Affine-free batch normalisation with fixed statistics: ``(x - mean) / sqrt(variance + 1e-6)``.

    The normalisation before the linear layer of facebookresearch/mae, main_linprobe.py
    (``BatchNorm1d(affine=False, eps=1e-6)``) in evaluation mode, with the statistics of all training rows.
    """

    mean: Float64[np.ndarray, " channel"]
    variance: Float64[np.ndarray, " channel"]
    """Population variance of the training rows."""

    @property
    def scale(self) -> Float64[np.ndarray, " channel"]:
        """Factor of each centred feature."""
        return 1.0 / np.sqrt(self.variance + EPSILON)

    def apply(self, features: Float[np.ndarray, "row channel"]) -> Float32[np.ndarray, "row channel"]:
        """Return the normalised features."""
        out = np.empty(features.shape, dtype=np.float32)
        read_float32(features, out)
        out -= self.mean.astype(np.float32)
        out *= self.scale.astype(np.float32)
        return out


def peak_bytes(n_images: int, n_channels: int, resamples: int) -> int:
    """Return the bytes of moments a source image and of variances a resample (`evaluate.scoring.variance_bootstrap`).

    Six float64 arrays of either: sums and their products, and in the end the variances with their order.
    """
    drawn = resamples if n_images >= FEWEST_UNITS else 0
    return 8 * 6 * (n_images * n_channels + drawn * (n_images + n_channels))


def variance_ranking(variance: Float64[np.ndarray, " channel"]) -> Int64[np.ndarray, " channel"]:
    """Return channel numbers by decreasing variance, equal variances by number (paper A, section 3.2)."""
    if not np.isfinite(variance).all():
        raise UserError("a variance is not finite, so features cannot be ranked; verify the set")
    return np.argsort(-variance, kind="stable").astype(np.int64)


def without_top(ranking: Int64[np.ndarray, " channel"], m: int) -> Bool[np.ndarray, " channel"]:
    """Return the mask of channels that stay when the first ``m`` of the ranking are removed."""
    _check_m(m, len(ranking))
    kept = np.ones(len(ranking), dtype=np.bool_)
    kept[ranking[:m]] = False
    return kept


def share_of_variance(
    variance: Float64[np.ndarray, " channel"], ranking: Int64[np.ndarray, " channel"], m: int
) -> float:
    """Return the share, 0..1, of the summed variance that the first ``m`` of the ranking hold.

    It is nan where no feature varies. Raises UserError when ``m`` is not in 0..channels.
    """
    _check_m(m, len(ranking))
    total = float(variance.sum())
    return float(variance[ranking[:m]].sum()) / total if total > 0 else float("nan")


def overlap(ranking_a: Int64[np.ndarray, " channel"], ranking_b: Int64[np.ndarray, " channel"], m: int) -> int:
    """Return how many channels are among the first ``m`` of both rankings (paper A, appendix: top-200 sets)."""
    _check_m(m, len(ranking_a))
    return len(np.intersect1d(ranking_a[:m], ranking_b[:m]))


def _check_m(m: int, n_channels: int) -> None:
    if not 0 <= m <= n_channels:
        raise UserError(f"m = {m} features of {n_channels} cannot be taken; choose m in 0..{n_channels}")
