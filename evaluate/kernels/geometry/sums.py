"""Everything that the geometry of an array needs, from one look at each of its values.

A block of rows ``[row, patch, channel]`` becomes numbers of every row (`RowNumbers`) and sums over rows (`BlockSums`),
which are added in the order of the blocks. Values are read as float64, in which second moments are computed too: with
float32 products effective ranks of stored float16 tokens were wrong by up to 1.3e-5 of themselves, and by 2.6e-6 with
tokens less a centre. Cosines of pairs of patches are float32 products of tokens of length 1, summed in float64.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, Int64, UInt8

from evaluate.kernels.blas import add_second_moment
from evaluate.kernels.geometry.activations import BINS, LARGE, kurtosis, magnitude_counts
from evaluate.kernels.geometry.grid import FAR, NEAR, PatchGrid
from evaluate.kernels.geometry.position import FoldMoments
from evaluate.kernels.geometry.structure import region_contrast
from evaluate.kernels.moments import read_float32


@dataclass(frozen=True, eq=False)
class Plan:
    """Which rows of an array are read for what; the first axis of all arrays is the rows that are read."""

    grid: PatchGrid
    folds: Int64[np.ndarray, " row"]
    """Fold of each row's image, from 0."""
    compared: Bool[np.ndarray, " row"]
    """Rows whose patches are compared with each other, all pairs, and whose kurtosis is computed."""
    sampled: Int64[np.ndarray, "row sampled"]
    """Patches of each row whose tokens are kept."""
    labels: UInt8[np.ndarray, "row patch"] | None = None
    """Class of every patch, 255 for void."""


@dataclass(frozen=True, eq=False)
class RowNumbers:
    """Numbers of every row."""

    norms: Float32[np.ndarray, "row patch"]
    sums: Float64[np.ndarray, "row channel"]
    """Sum of the tokens."""
    squares: Float64[np.ndarray, " row"]
    """Sum of their squared lengths."""
    unit_sums: Float64[np.ndarray, "row channel"]
    """Sum of the tokens, each scaled to length 1."""
    units: Float64[np.ndarray, " row"]
    """Tokens that are not 0."""
    kurtosis: Float64[np.ndarray, " row"]
    """Kurtosis of a token's values over the channels, mean over tokens; nan where pairs are not compared."""
    largest: Float64[np.ndarray, " row"]
    """Largest magnitude."""
    n_large: Float64[np.ndarray, " row"]
    """Values whose magnitude is above `LARGE`."""
    cosines: Float64[np.ndarray, "row distance"]
    """Sum of the cosines of ordered pairs of patches at each distance; nan where pairs are not compared."""
    regions: Float64[np.ndarray, " row"]
    """SRSS; nan where pairs are not compared or have no labels."""
    sample: Float32[np.ndarray, "row sampled channel"]
    """Tokens that are kept."""

    @classmethod
    def empty(cls, plan: Plan, n_channels: int) -> "RowNumbers":
        """Return room for the numbers of all rows, to be filled block by block."""
        n_rows, n_patches = len(plan.folds), plan.grid.n_patches
        return cls(
            norms=np.empty((n_rows, n_patches), np.float32),
            sums=np.empty((n_rows, n_channels)),
            squares=np.empty(n_rows),
            unit_sums=np.empty((n_rows, n_channels)),
            units=np.empty(n_rows),
            kurtosis=np.full(n_rows, np.nan),
            largest=np.empty(n_rows),
            n_large=np.empty(n_rows),
            cosines=np.full((n_rows, plan.grid.n_distances), np.nan),
            regions=np.full(n_rows, np.nan),
            sample=np.empty((n_rows, plan.sampled.shape[1], n_channels), np.float32),
        )


@dataclass(eq=False)
class BlockSums:
    """Sums over rows."""

    folds: dict[int, FoldMoments] = field(default_factory=dict)
    positions: Float64[np.ndarray, "patch channel"] | float = 0.0
    """Sum of the tokens at each position."""
    counts: Int64[np.ndarray, " bin"] | int = 0
    """Values by magnitude (`magnitude_counts`)."""
    largest: Float64[np.ndarray, " channel"] | float = 0.0
    """Largest magnitude of every channel."""
    fourth: float = 0.0
    """Sum of the fourth powers of the tokens' lengths."""
    cubic: Float64[np.ndarray, " channel"] | float = 0.0
    """Sum of the tokens, each times its squared length."""

    def add(self, other: "BlockSums") -> None:
        """Add the sums of further rows."""
        for number, moments in other.folds.items():
            self.folds[number] = self.folds[number] + moments if number in self.folds else moments
        self.positions = self.positions + other.positions
        self.counts = self.counts + other.counts
        self.largest = np.maximum(self.largest, other.largest)
        self.fourth += other.fourth
        self.cubic = self.cubic + other.cubic


def read_block(block: Float[np.ndarray, "row patch channel"], first: int, plan: Plan, kept: RowNumbers) -> BlockSums:
    """Write the numbers of every row of a block to their place, and return the sums of its rows.

    Args:
        block: patch tokens as stored.
        first: place of its first row in the plan.
        plan: what is computed of each row.
        kept: numbers of all rows, changed in place.
    """
    _, n_patches, n_channels = block.shape
    sums = BlockSums(positions=np.zeros((n_patches, n_channels)), largest=np.zeros(n_channels))
    sums.counts, sums.cubic = np.zeros(BINS, np.int64), np.zeros(n_channels)
    places, moments = plan.grid.coordinates, _Moments(n_patches, n_channels)
    narrow = np.empty((n_patches, n_channels), np.float32)
    squared = np.empty(narrow.shape)
    # Rows of weights: sums with all of them are one product, which reads the tokens once.
    weights, ones = np.empty((3 + places.shape[1], n_patches)), np.ones(n_channels)
    weights[0], weights[3:] = 1.0, places.T
    with np.errstate(invalid="ignore", over="ignore"):  # what is not finite is found by the caller
        for at, row in enumerate(block, start=first):
            wide = moments.room(int(plan.folds[at]))
            read_float32(row, narrow)
            np.copyto(wide, narrow)
            np.multiply(wide, wide, out=squared)
            second = squared @ ones
            lengths = np.sqrt(second)
            scale = np.divide(1.0, lengths, out=np.zeros(n_patches), where=lengths > 0)
            magnitude = np.maximum(narrow.max(axis=0), -narrow.min(axis=0)).astype(np.float64)
            weights[1], weights[2] = scale, second
            kept.sums[at], kept.unit_sums[at], cubic, *cross = weights @ wide
            kept.norms[at], kept.squares[at], kept.units[at] = lengths, second.sum(), np.count_nonzero(scale)
            kept.largest[at] = magnitude.max()
            kept.n_large[at] = np.count_nonzero(squared > LARGE**2) if magnitude.max() > LARGE else 0
            kept.sample[at] = narrow[plan.sampled[at]]
            sums.counts += magnitude_counts(row)
            sums.positions += wide
            sums.largest = np.maximum(sums.largest, magnitude)
            sums.fourth += float(second @ second)
            sums.cubic += cubic
            moments.add(kept.sums[at], np.stack(cross, axis=1))
            if plan.compared[at]:
                kept.kurtosis[at] = _mean(_kurtosis(wide @ ones, second, squared, wide))
                narrow *= scale.astype(np.float32)[:, None]
                labels = None if plan.labels is None else plan.labels[at]
                kept.cosines[at], kept.regions[at] = _pairs(narrow, plan.grid, labels)
                kept.cosines[at, 0] = kept.units[at]
    sums.folds = moments.folds(places)
    return sums


class _Moments:
    """Moments of each fold, added up in place: a second moment is large, and a block has many rows.

    Rows of one fold are multiplied together, which takes less time than one by one.
    """

    def __init__(self, n_patches: int, n_channels: int) -> None:
        self.n_channels = n_channels
        self.tokens = np.empty((rows_together(n_patches, n_channels), n_patches, n_channels))
        self.n_waiting, self.fold = 0, 0
        self.parts: dict[int, tuple[list[int], np.ndarray, np.ndarray, np.ndarray]] = {}

    def room(self, fold: int) -> Float64[np.ndarray, "patch channel"]:
        """Return where the tokens of the next row are to be put, a row of this fold."""
        if self.n_waiting and (fold != self.fold or self.n_waiting == len(self.tokens)):
            self._multiply()
        self.fold = fold
        return self.tokens[self.n_waiting]

    def add(self, total: Float64[np.ndarray, " channel"], cross: Float64[np.ndarray, "channel 2"]) -> None:
        """Add the row that was put there, with its sum and its products with the places."""
        if self.fold not in self.parts:
            n = self.n_channels
            self.parts[self.fold] = [0], np.zeros(n), np.zeros((n, n)), np.zeros((n, 2))
        rows, totals, _, crosses = self.parts[self.fold]
        rows[0] += 1
        totals += total
        crosses += cross
        self.n_waiting += 1

    def _multiply(self) -> None:
        some = self.tokens[: self.n_waiting].reshape(-1, self.n_channels)
        add_second_moment(some, self.parts[self.fold][2])
        self.n_waiting = 0

    def folds(self, places: Float64[np.ndarray, "patch 2"]) -> dict[int, FoldMoments]:
        """Return the sums of every fold."""
        if self.n_waiting:
            self._multiply()
        spread = (places**2).sum(axis=0)
        for _, _, lower, _ in self.parts.values():
            lower += np.tril(lower, -1).T
        return {
            fold: FoldMoments(rows[0] * len(places), totals, second, cross, rows[0] * spread)
            for fold, (rows, totals, second, cross) in self.parts.items()
        }


def rows_together(n_patches: int, n_channels: int) -> int:
    """Return how many rows are multiplied at a time: as many as have half a million values, at most 8."""
    return max(1, min(8, (1 << 19) // (n_patches * n_channels)))


def _kurtosis(
    first: Float64[np.ndarray, " patch"],
    second: Float64[np.ndarray, " patch"],
    squared: Float64[np.ndarray, "patch channel"],
    wide: Float64[np.ndarray, "patch channel"],
) -> Float64[np.ndarray, " patch"]:
    n = wide.shape[1]
    third, fourth = np.einsum("pc,pc->p", squared, wide), np.einsum("pc,pc->p", squared, squared)
    return kurtosis(first / n, second / n, third / n, fourth / n)


def _mean(values: Float64[np.ndarray, " patch"]) -> float:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else float("nan")


def _pairs(
    units: Float32[np.ndarray, "patch channel"], grid: PatchGrid, labels: UInt8[np.ndarray, " patch"] | None
) -> tuple[Float64[np.ndarray, " distance"], float]:
    cosines = units @ units.T
    by_distance = np.zeros(grid.n_distances)  # of a patch with itself the caller knows the cosine
    if grid.n_patches > 1:
        pairs, starts = grid.pairs_by_distance
        by_distance[1:] = 2.0 * np.add.reduceat(cosines.reshape(-1)[pairs], starts, dtype=np.float64)
    if labels is None:
        return by_distance, float("nan")
    return by_distance, region_contrast(cosines, labels, grid.between(NEAR, NEAR), grid.between(FAR, grid.n_distances))


def joined(parts: Mapping[int, FoldMoments]) -> FoldMoments:
    """Return the moments of all folds together."""
    first, *others = (parts[number] for number in sorted(parts))
    for other in others:
        first = first + other
    return first


def thread_bytes(n_patches: int, n_channels: int, n_distances: int, *, has_labels: bool) -> int:
    """Return what one thread holds while it reads a block, beside the block and what it returns."""
    tokens = (4 + 8 + 2 + 4 + 8 * rows_together(n_patches, n_channels)) * n_patches * n_channels
    pairs = (4 + 8 + (12 if has_labels else 0)) * n_patches**2 + 8 * n_distances
    return tokens + pairs + 2 * 8 * n_channels**2


def block_bytes(n_channels: int, n_patches: int, n_folds: int) -> int:
    """Return the bytes of the sums of one block."""
    return 8 * (n_folds * n_channels**2 + n_patches * n_channels + (1 << 15) + 8 * n_channels)


def row_bytes(n_channels: int, n_patches: int, n_distances: int, n_sampled: int) -> int:
    """Return the bytes of the numbers of one row."""
    return 4 * n_patches + 8 * (2 * n_channels + n_distances + 8) + 4 * n_sampled * n_channels
