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
from evaluate.kernels.geometry.activations import BINS, LARGE, kurtosis, largest_magnitudes, magnitude_counts
from evaluate.kernels.geometry.grid import FAR, NEAR, PatchGrid
from evaluate.kernels.geometry.position import FoldMoments
from evaluate.kernels.geometry.structure import region_contrast
from evaluate.kernels.moments import read_float32

ROWS_COUNTED = 4
"""Rows whose magnitudes are counted at a time: each time all bins are added up."""


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
    sums = BlockSums(largest=np.zeros(n_channels), cubic=np.zeros(n_channels), counts=np.zeros(BINS, np.int64))
    moments, look = _Moments(n_patches, n_channels), _Row(n_patches, n_channels)
    powers: dict[int, np.ndarray] = {}
    with np.errstate(invalid="ignore", over="ignore"):  # what is not finite is found by the caller
        for at, row in enumerate(block, start=first):
            look.read(row, powers=bool(plan.compared[at]))
            kept.sums[at], kept.unit_sums[at], cubic = look.sums
            kept.norms[at], kept.squares[at], kept.units[at] = look.lengths, look.second.sum(), look.n_units
            kept.largest[at] = look.largest.max()
            is_large = kept.largest[at] > LARGE
            kept.n_large[at] = np.count_nonzero(np.abs(look.narrow) > LARGE) if is_large else 0
            np.take(look.narrow, plan.sampled[at], axis=0, out=kept.sample[at])
            sums.largest = np.maximum(sums.largest, look.largest)
            sums.fourth += float(look.second @ look.second)
            sums.cubic += cubic
            moments.add(int(plan.folds[at]), look.wide)
            if plan.compared[at]:
                powers[at] = look.powers.copy()
                labels = None if plan.labels is None else plan.labels[at]
                kept.cosines[at], kept.regions[at] = _pairs(look.units(), plan.grid, labels)
                kept.cosines[at, 0] = kept.units[at]
        if powers:
            of_tokens = kurtosis(*(np.stack(list(powers.values()), axis=1) / n_channels))
            for at, values in zip(powers, of_tokens, strict=True):
                kept.kurtosis[at] = _mean(values)
    for start in range(0, len(block), ROWS_COUNTED):
        sums.counts += magnitude_counts(block[start : start + ROWS_COUNTED])
    sums.folds, sums.positions = moments.folds(plan.grid.coordinates), moments.positions()
    return sums


class _Row:
    """Sums over the tokens of a row, which is read a few tokens at a time, so that they stay in a processor's cache."""

    def __init__(self, n_patches: int, n_channels: int) -> None:
        at_once = tokens_at_once(n_patches, n_channels)
        self.parts = [slice(start, start + at_once) for start in range(0, n_patches, at_once)]
        self.narrow = np.empty((n_patches, n_channels), np.float32)
        self.wide = np.empty((n_patches, n_channels))
        self.squared = np.empty((at_once, n_channels))
        self.ones = np.ones(max(n_patches, n_channels))
        self.powers = np.empty((4, n_patches))
        """Sums of each token's values, and of their second, third and fourth powers."""
        self.second, self.lengths, self.scale = self.powers[1], np.empty(n_patches), np.empty(n_patches)
        self.largest = np.empty(n_channels)
        self.sums = np.empty((3, n_channels))
        """Sums of the tokens, of tokens of length 1, and of tokens times their squared length."""

    def read(self, row: Float[np.ndarray, "patch channel"], *, powers: bool) -> None:
        """Sum over the tokens of a row; ``powers`` are summed only where they are asked for, squares always."""
        n_channels = row.shape[1]
        self.sums[:] = 0.0
        read_float32(row, self.narrow)
        self.largest[:] = largest_magnitudes(row)
        for part in self.parts:
            tokens, lengths, scale = self.wide[part], self.lengths[part], self.scale[part]
            np.copyto(tokens, self.narrow[part])
            squared = np.multiply(tokens, tokens, out=self.squared[: len(tokens)])
            np.dot(squared, self.ones[:n_channels], out=self.second[part])
            if powers:
                np.dot(tokens, self.ones[:n_channels], out=self.powers[0, part])
                np.einsum("pc,pc->p", squared, tokens, out=self.powers[2, part])
                np.einsum("pc,pc->p", squared, squared, out=self.powers[3, part])
            np.sqrt(self.second[part], out=lengths)
            scale[:] = 0.0
            np.divide(1.0, lengths, out=scale, where=lengths > 0)
            # Three products with vectors take half the time of one with a matrix of three rows.
            for total, weights in zip(self.sums, (self.ones[: len(tokens)], scale, self.second[part]), strict=True):
                total += weights @ tokens

    @property
    def n_units(self) -> int:
        """Tokens that are not 0."""
        return int(np.count_nonzero(self.scale))

    def units(self) -> Float32[np.ndarray, "patch channel"]:
        """Scale the tokens in ``narrow`` to length 1 and return them; call it once a row, after everything else."""
        self.narrow *= self.scale.astype(np.float32)[:, None]
        return self.narrow


def tokens_at_once(n_patches: int, n_channels: int) -> int:
    """Return how many tokens are read at a time: of a row as many equal parts as have some 40,000 values."""
    n_parts = max(1, round(n_patches * n_channels / 40_000))
    return -(-n_patches // n_parts)


class _Moments:
    """Moments of each fold, added up in place: a second moment is large, and a block has many rows."""

    def __init__(self, n_patches: int, n_channels: int) -> None:
        self.shape = n_patches, n_channels
        self.n_rows: dict[int, int] = {}
        self.parts: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        """Sum of the tokens at each position, and lower triangle of the second moment."""

    def add(self, fold: int, tokens: Float64[np.ndarray, "patch channel"]) -> None:
        """Add a row of a fold."""
        if fold not in self.parts:
            self.parts[fold] = np.zeros(self.shape), np.zeros((self.shape[1], self.shape[1]))
        positions, second = self.parts[fold]
        self.n_rows[fold] = self.n_rows.get(fold, 0) + 1
        positions += tokens
        add_second_moment(tokens, second)

    def positions(self) -> Float64[np.ndarray, "patch channel"]:
        """Return the sum of the tokens at each position, of all folds."""
        return sum((positions for positions, _ in self.parts.values()), np.zeros(self.shape))

    def folds(self, places: Float64[np.ndarray, "patch 2"]) -> dict[int, FoldMoments]:
        """Return the sums of every fold."""
        found = {}
        for fold, (positions, lower) in self.parts.items():
            n = self.n_rows[fold]
            lower += np.tril(lower, -1).T
            spread = n * (places**2).sum(axis=0)
            found[fold] = FoldMoments(n * len(places), positions.sum(axis=0), lower, positions.T @ places, spread)
        return found


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
    tokens = (4 + 8 + 4 * ROWS_COUNTED) * n_patches * n_channels
    tokens += 8 * tokens_at_once(n_patches, n_channels) * n_channels
    pairs = (4 + 8 + (12 if has_labels else 0)) * n_patches**2 + 8 * n_distances
    return tokens + pairs + 2 * 8 * n_channels**2


def block_bytes(n_channels: int, n_patches: int, n_folds: int) -> int:
    """Return the bytes of the sums of one block."""
    return 8 * (n_folds * n_channels**2 + (n_folds + 1) * n_patches * n_channels + (1 << 15) + 8 * n_channels)


def row_bytes(n_channels: int, n_patches: int, n_distances: int, n_sampled: int) -> int:
    """Return the bytes of the numbers of one row."""
    return 4 * n_patches + 8 * (2 * n_channels + n_distances + 8) + 4 * n_sampled * n_channels
