"""Feature treatments before distances are taken: features or directions taken out, scaling, tokens left out.

Their statistics come from the bank alone, the labelled training tokens. With mean mu and covariance C = V diag(l) V':

* ``remove-top``, ``remove-random``, ``remove-lowest``, ``remove-other``: m features are left out (paper A, section
  3.2).
* ``remove-position``: x - U U' x, with U the positional directions (`evaluate.kernels.subspaces`). INSID3 (arXiv
  2603.28480, models/insid3.py, `_debias_features`) projects so on unit-length tokens and scales them again; RASA
  (valeoai/Franca rasa/src/rasa_head.py) projects out the weights of linear predictors of row and column, two at a time.
* ``centre``: x - mu. No Euclidean distance changes, so that it is a control; cosines do.
* ``remove-first-components``: (x - mu) - V_c V_c' (x - mu) with the c directions of largest variance, "all-but-the-top"
  (Mu and Viswanath, ICLR 2018, algorithm 1).
* ``pca-k``: V_k' (x - mu), the k directions of largest variance and no others.
* ``drop-outlier-tokens``: tokens whose norm is above median + k MAD of the bank's norms leave the bank, MAD being the
  median of the distances to the median, unscaled. Queries stay as they are: all are predicted and scored, outliers too.
* ``batchnorm``, ``whiten``, ``l2``: features of unit variance, V' (x - mu) / sqrt(l), tokens of unit length.

`AFFINE` ones are x -> A x + b: the mean of treated tokens is the treated mean, so that vectors of images and objects
may get them. `evaluate.kernels.treatments.streamed` fits these on tokens that are not all in memory.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, Int64

from evaluate.kernels.moments import Moments, Standardisation, without_top
from evaluate.kernels.subspaces import (
    BLOCK_ROWS,
    SMALLEST_SHARE,
    Placement,
    positional_directions,
    principal_directions,
)

Removal = Literal["remove-top", "remove-random", "remove-lowest"]
Projection = Literal["remove-position", "remove-first-components", "pca-k"]
Alternative = Literal[Projection, "centre", "drop-outlier-tokens", "batchnorm", "whiten", "l2"]
"""Treatments other than leaving features out."""
Name = Literal["none", Removal, "remove-other", Alternative]

AFFINE: tuple[Name, ...] = ("remove-position", "centre", "remove-first-components", "pca-k")
"""Treatments that commute with averages of tokens, beside the removals."""

REVISION = 1
"""Raised when the same tokens are treated in another way: it is in the keys of results on treated features."""

SUBSETS = ("none", "remove-top", "remove-random", "remove-lowest", "remove-other")
"""Treatments that only leave features out."""


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
    rank: int | None = None
    """Number of directions that are taken out, of ``pca-k`` those that stay; for projections only."""
    deviations: float | None = None
    """Median absolute deviations above the median norm, for ``drop-outlier-tokens`` only."""

    @property
    def outcome(self) -> str:
        """Value of the column ``outcome``: the name, and after a space the experiment whose ranking is used."""
        return self.name if self.experiment is None else f"{self.name} {self.experiment}"

    @property
    def label(self) -> str:
        """The treatment with its number, as the column ``reference`` names it: ``remove-top 200``."""
        numbers = [number for number in (self.m, self.rank, self.deviations) if number is not None]
        draw = "" if self.draw is None else f" draw {self.draw}"
        return " ".join([self.outcome, *(f"{number:g}" for number in numbers)]) + draw

    @property
    def parameters(self) -> dict[str, Any]:
        """What names the treatment in the key of a result."""
        said = {name: value for name, value in asdict(self).items() if value is not None}
        return {"treatment": said, "treatment_revision": REVISION}

    def n_features(self, n_channels: int) -> int:
        """Return how many features rows of ``n_channels`` have after one of `AFFINE`."""
        return self.rank if self.name == "pca-k" and self.rank is not None else n_channels

    @property
    def columns(self) -> dict[str, Any]:
        """Columns of the long table that say which treatment it is."""
        columns: dict[str, Any] = {"m": self.m, "outcome": self.outcome}
        for name, number in (("draw", self.draw), ("rank", self.rank), ("deviations", self.deviations)):
            if number is not None:
                columns |= {"x_name": name, "x_value": float(number)}
        return columns

    @property
    def is_feature_subset(self) -> bool:
        """Whether it only leaves features out, so that a probe needs no treated copy of them."""
        return self.name in SUBSETS


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


def kept_tokens(treatment: Treatment, bank: Float[np.ndarray, "bank channel"]) -> Bool[np.ndarray, " bank"]:
    """Return the mask of bank rows that stay: all but outliers for ``drop-outlier-tokens``, else all."""
    if treatment.deviations is None:
        return np.ones(len(bank), dtype=np.bool_)
    norms = np.empty(len(bank))
    for start in range(0, len(bank), BLOCK_ROWS):
        norms[start : start + BLOCK_ROWS] = np.linalg.norm(bank[start : start + BLOCK_ROWS].astype(np.float64), axis=1)
    median = np.median(norms)
    kept: np.ndarray = norms <= median + treatment.deviations * np.median(np.abs(norms - median))
    return kept


def fit_treatment(
    treatment: Treatment,
    bank: Float[np.ndarray, "bank channel"],
    ranking: Int64[np.ndarray, " channel"],
    seed: int,
    placement: Placement | None = None,
) -> Callable[[Float[np.ndarray, "row channel"]], Float[np.ndarray, "row feature"]]:
    """Return the function that treats rows, its statistics taken from the bank alone.

    ``batchnorm`` is the probe's BatchNorm (affine-free, evaluation mode) applied to features (paper A, section 4,
    "feature normalisation"). Which tokens leave the bank says `kept_tokens`; rows are not changed for that.

    Args:
        treatment: what is done.
        bank: rows that statistics are taken from.
        ranking: features by decreasing variance, those of another experiment for ``remove-other``.
        seed: seed of random choices.
        placement: image and place of each bank row, for ``remove-position`` only.
    """
    if treatment.is_feature_subset:
        kept = np.flatnonzero(kept_features(treatment, ranking, seed))
        return lambda rows: np.take(rows, kept, axis=1)
    if treatment.name == "drop-outlier-tokens":
        return lambda rows: rows
    if treatment.name == "l2":
        return partial(_by_blocks, _unit_length)
    if treatment.name == "remove-position":
        return partial(_by_blocks, _without(np.zeros(bank.shape[1]), _positional(treatment, bank, placement, seed)))
    moments = Moments.of(bank[start : start + BLOCK_ROWS] for start in range(0, len(bank), BLOCK_ROWS))
    if treatment.name == "batchnorm":
        return Standardisation(moments.mean, moments.variance).apply
    if treatment.name == "centre":
        return partial(_by_blocks, _without(moments.mean, np.empty((bank.shape[1], 0))))
    variances, vectors = principal_directions(bank, moments.mean)
    if treatment.name == "remove-first-components":
        return partial(_by_blocks, _without(moments.mean, _first(vectors, treatment.rank)))
    if treatment.name == "pca-k":
        return partial(_by_blocks, _coordinates(moments.mean, _first(vectors, treatment.rank)))
    used = variances > SMALLEST_SHARE * variances[-1]
    return partial(_by_blocks, _coordinates(moments.mean, vectors[:, used] / np.sqrt(variances[used])))


@dataclass(frozen=True, eq=False)
class TreatedBank:
    """A bank after a treatment that was fitted on it, and what queries get."""

    features: Float[np.ndarray, "kept feature"]
    kept: Bool[np.ndarray, " bank"]
    """Which rows of the bank stayed."""
    treat: Callable[[Float[np.ndarray, "row channel"]], Float[np.ndarray, "row feature"]]


def treat_bank(
    treatment: Treatment, bank: Float[np.ndarray, "bank channel"], placement: Placement, seed: int
) -> TreatedBank:
    """Return a bank without its outliers, or with every row changed; one of the treatments other than removals.

    Args:
        treatment: what is done.
        bank: rows that statistics are taken from.
        placement: image and place of each bank row.
        seed: seed of random signs.
    """
    kept = kept_tokens(treatment, bank)
    treat = fit_treatment(treatment, bank, np.arange(bank.shape[1]), seed, placement)
    return TreatedBank(treat(bank if kept.all() else bank[kept]), kept, treat)


def removed_directions(
    treatment: Treatment,
    bank: Float[np.ndarray, "bank channel"],
    ranking: Int64[np.ndarray, " channel"],
    seed: int,
    placement: Placement | None = None,
) -> Float64[np.ndarray, "channel direction"] | None:
    """Return orthonormal directions that a treatment takes out of all tokens; None where it is no projection.

    The arguments are those of `fit_treatment`.
    """
    n_channels = bank.shape[1]
    if treatment.is_feature_subset:
        return np.eye(n_channels)[:, ~kept_features(treatment, ranking, seed)]
    if treatment.name == "centre":
        return np.empty((n_channels, 0))
    if treatment.name == "remove-position":
        return _positional(treatment, bank, placement, seed)
    if treatment.name not in ("remove-first-components", "pca-k"):
        return None
    mean = Moments.of(bank[start : start + BLOCK_ROWS] for start in range(0, len(bank), BLOCK_ROWS)).mean
    _, vectors = principal_directions(bank, mean)
    if treatment.name == "remove-first-components":
        return _first(vectors, treatment.rank)
    return vectors[:, : n_channels - (treatment.rank or 0)]


def peak_bytes(n_rows: int, n_channels: int) -> int:
    """Return the bytes of a float32 copy of the rows, a block of them in float64 with two temporaries, and of a PCA."""
    return 4 * n_channels * n_rows + 3 * 8 * n_channels * BLOCK_ROWS + 5 * 8 * n_channels**2


def _positional(
    treatment: Treatment, bank: Float[np.ndarray, "bank channel"], placement: Placement | None, seed: int
) -> Float64[np.ndarray, "channel direction"]:
    if placement is None:
        raise ValueError("remove-position needs the image and place of every row of the bank")
    return positional_directions(bank, placement, treatment.rank or 0, seed)


def _first(vectors: Float64[np.ndarray, "channel direction"], rank: int | None) -> Float64[np.ndarray, "channel first"]:
    """Return the directions of largest variance of those in increasing order."""
    return vectors[:, vectors.shape[1] - (rank or 0) :]


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


def _without(
    mean: Float64[np.ndarray, " channel"], directions: Float64[np.ndarray, "channel direction"]
) -> Callable[[Float[np.ndarray, "row channel"]], Float32[np.ndarray, "row channel"]]:
    """Return the function that subtracts a mean and projects directions out."""

    def treat(rows: Float[np.ndarray, "row channel"]) -> Float32[np.ndarray, "row channel"]:
        centred = rows.astype(np.float64) - mean
        return (centred - (centred @ directions) @ directions.T).astype(np.float32)

    return treat


def _coordinates(
    mean: Float64[np.ndarray, " channel"], directions: Float64[np.ndarray, "channel direction"]
) -> Callable[[Float[np.ndarray, "row channel"]], Float32[np.ndarray, "row direction"]]:
    """Return the function that subtracts a mean and returns the coordinates along directions."""

    def treat(rows: Float[np.ndarray, "row channel"]) -> Float32[np.ndarray, "row direction"]:
        return ((rows.astype(np.float64) - mean) @ directions).astype(np.float32)

    return treat
