"""Feature treatments before distances are taken: removals, batch normalisation, whitening, unit length.

Their statistics come from the bank alone.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Float32, Int64

from evaluate.kernels.moments import Moments, Standardisation, without_top

Name = Literal["none", "remove-top", "remove-random", "remove-lowest", "remove-other", "batchnorm", "whiten", "l2"]

SMALLEST_SHARE = 1e-6
"""Directions whose variance is below this share of the largest are left out of whitening: they are rounding only."""

BLOCK_ROWS = 4096
"""Rows that are treated at a time: fixed, because another number would change the last bits."""


@dataclass(frozen=True)
class Treatment:
    """One way to treat features."""

    name: Name
    m: int | None = None
    """Number of removed features, for removals only."""
    draw: int | None = None
    """Number of the random choice, for ``remove-random`` only."""
    experiment: str | None = None
    """Experiment whose ranking is used, for ``remove-other`` only."""

    @property
    def outcome(self) -> str:
        """Value of the column ``outcome``: the name, and after a space the experiment whose ranking is used."""
        return self.name if self.experiment is None else f"{self.name} {self.experiment}"

    @property
    def is_feature_subset(self) -> bool:
        """Whether it only leaves features out, so that a probe needs no treated copy of them."""
        return self.name == "none" or self.name.startswith("remove-")


def kept_features(
    treatment: Treatment, ranking: Int64[np.ndarray, " channel"], seed: int
) -> Bool[np.ndarray, " channel"]:
    """Return the mask of features that a removal keeps; all of them for other treatments.

    ``ranking`` is that of the treatment: another experiment's for ``remove-other``. Random choices are nested in m: the
    first m of one permutation a draw.
    """
    if treatment.m is None:
        return np.ones(len(ranking), dtype=np.bool_)
    if treatment.name == "remove-lowest":
        return without_top(ranking[::-1].copy(), treatment.m)
    if treatment.name == "remove-random":
        generator = np.random.Generator(np.random.PCG64([seed, treatment.draw or 0]))
        return without_top(generator.permutation(len(ranking)).astype(np.int64), treatment.m)
    return without_top(ranking, treatment.m)


def fit_treatment(
    treatment: Treatment,
    bank: Float[np.ndarray, "bank channel"],
    ranking: Int64[np.ndarray, " channel"],
    seed: int,
) -> Callable[[Float[np.ndarray, "row channel"]], Float[np.ndarray, "row feature"]]:
    """Return the function that treats rows, its statistics taken from the bank alone.

    ``batchnorm`` is the probe's BatchNorm (affine-free, evaluation mode) applied to features (paper A, section 4,
    "feature normalisation"); ``whiten`` is PCA whitening, ``(x - mean) V / sqrt(eigenvalue)``; ``l2`` divides every
    row by its length.

    Args:
        treatment: what is done.
        bank: rows that statistics are taken from.
        ranking: features by decreasing variance, those of another experiment for ``remove-other``.
        seed: seed of random choices.
    """
    if treatment.is_feature_subset:
        kept = np.flatnonzero(kept_features(treatment, ranking, seed))
        return lambda rows: np.take(rows, kept, axis=1)
    if treatment.name == "l2":
        return partial(_by_blocks, _unit_length)
    moments = Moments.of(bank[start : start + BLOCK_ROWS] for start in range(0, len(bank), BLOCK_ROWS))
    if treatment.name == "batchnorm":
        return Standardisation(moments.mean, moments.variance).apply
    return partial(_by_blocks, _whitening(bank, moments.mean))


def peak_bytes(n_rows: int, n_channels: int) -> int:
    """Return the bytes of a float32 copy of the rows and of a block of them in float64 with two temporaries."""
    return 4 * n_channels * n_rows + 3 * 8 * n_channels * BLOCK_ROWS


def _by_blocks(
    treat: Callable[[Float[np.ndarray, "row channel"]], Float32[np.ndarray, "row feature"]],
    rows: Float[np.ndarray, "row channel"],
) -> Float32[np.ndarray, "row feature"]:
    """Treat `BLOCK_ROWS` rows at a time: float64 copies of all would be several times as large as the rows."""
    treated = np.empty((len(rows), treat(rows[:0]).shape[1]), dtype=np.float32)
    for start in range(0, len(rows), BLOCK_ROWS):
        treated[start : start + BLOCK_ROWS] = treat(rows[start : start + BLOCK_ROWS])
    return treated


def _unit_length(rows: Float[np.ndarray, "row channel"]) -> Float32[np.ndarray, "row channel"]:
    wide = rows.astype(np.float64)
    lengths = np.sqrt((wide * wide).sum(axis=1, keepdims=True))
    return (wide / np.where(lengths > 0, lengths, 1.0)).astype(np.float32)


def _whitening(
    bank: Float[np.ndarray, "bank channel"], mean: Float[np.ndarray, " channel"]
) -> Callable[[Float[np.ndarray, "row channel"]], Float32[np.ndarray, "row direction"]]:
    covariance = np.zeros((bank.shape[1], bank.shape[1]))
    for start in range(0, len(bank), BLOCK_ROWS):
        centred = bank[start : start + BLOCK_ROWS].astype(np.float64) - mean
        covariance += centred.T @ centred
    variances, vectors = np.linalg.eigh(covariance / len(bank))
    used = variances > SMALLEST_SHARE * variances[-1]
    matrix = vectors[:, used] / np.sqrt(variances[used])

    def whiten(rows: Float[np.ndarray, "row channel"]) -> Float32[np.ndarray, "row direction"]:
        return ((rows.astype(np.float64) - mean) @ matrix).astype(np.float32)

    return whiten
