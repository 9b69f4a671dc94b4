"""Estimates: values with 95 % intervals, their weighted sums, differences, ratios and shares.

Two estimates that were resampled over the same images with the same draws are combined draw by draw: their interval is
that of a paired percentile bootstrap. All others are combined by interval arithmetic: the worst of the bounds is taken,
so that the result covers at least what two 95 % intervals cover together (by Bonferroni 90 %, and usually far more).
That never decides too early; it may leave open what a paired interval decides.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

BOUNDS = (0.025, 0.975)


@dataclass(frozen=True)
class Estimate:
    """A value with its interval; ``low <= high``, both may be infinite."""

    name: str
    value: float
    low: float
    high: float
    drawn: np.ndarray | None = None
    """Its values in every resample, where they are known."""
    units: str = ""
    """What was resampled and how; estimates with equal ``units`` share their draws."""
    n_train: int | None = None
    """Number of training images, None where nothing trains or several sizes are part of it."""

    def __str__(self) -> str:
        return f"{self.name} {self.value:.3g} [{self.low:.3g}, {self.high:.3g}]"


def exactly(name: str, value: float) -> Estimate:
    """Return a value without uncertainty."""
    return Estimate(name, value, value, value)


class MissingEvidenceError(Exception):
    """What a rule needs is not in the results; the message says what to add."""


class UnequalTrainingError(MissingEvidenceError):
    """Two estimates of different training sets were to be compared."""


def weighted(name: str, terms: Sequence[tuple[float, Estimate]], *, any_training: bool = False) -> Estimate:
    """Return the sum of estimates times weights.

    Raises UnequalTrainingError for estimates of different numbers of training images, which differ for that reason
    alone, unless ``any_training`` says that this is what is compared.
    """
    n_train = _common_training([one for _, one in terms], any_training)
    value = sum(weight * one.value for weight, one in terms)
    if _paired([one for _, one in terms]):
        drawn = sum(weight * one.drawn for weight, one in terms if one.drawn is not None)
        return _from_draws(name, value, np.asarray(drawn), terms[0][1].units, n_train)
    low = sum(weight * (one.low if weight > 0 else one.high) for weight, one in terms)
    high = sum(weight * (one.high if weight > 0 else one.low) for weight, one in terms)
    return Estimate(name, value, low, high, n_train=n_train)


def difference(name: str, one: Estimate, other: Estimate, *, any_training: bool = False) -> Estimate:
    """Return one estimate less another; raises UnequalTrainingError as `weighted`.

    Args:
        name: name of the difference.
        one: the estimate that is reduced.
        other: the estimate that is subtracted.
        any_training: whether the numbers of training images may differ.
    """
    return weighted(name, [(1.0, one), (-1.0, other)], any_training=any_training)


def ratio(name: str, one: Estimate, other: Estimate) -> Estimate:
    """Return one estimate over another, both of quantities that cannot be negative; infinite over 0.

    Raises UnequalTrainingError for estimates of different numbers of training images.
    """
    n_train = _common_training([one, other])
    value = _over(one.value, other.value)
    if _paired([one, other]) and one.drawn is not None and other.drawn is not None:
        drawn = np.array([_over(a, b) for a, b in zip(one.drawn, other.drawn, strict=True)])
        return _from_draws(name, value, drawn, one.units, n_train)
    low, high = _over(max(one.low, 0.0), other.high), _over(max(one.high, 0.0), max(other.low, 0.0))
    return Estimate(name, value, low, high, n_train=n_train)


def share(name: str, outcomes: Sequence[bool | None]) -> Estimate:
    """Return the share of true ones; the bounds count what is open (None) as false and as true."""
    n_true, n_open = outcomes.count(True), outcomes.count(None)
    low, high = n_true / len(outcomes), (n_true + n_open) / len(outcomes)
    return Estimate(name, (low + high) / 2.0, low, high)


def _paired(estimates: Sequence[Estimate]) -> bool:
    drawn = [one.drawn for one in estimates if one.drawn is not None and one.units == estimates[0].units]
    return len(drawn) == len(estimates) and len({values.shape for values in drawn}) == 1


def _common_training(estimates: Sequence[Estimate], any_training: bool = False) -> int | None:
    """Return the number of training images of all estimates that have one; raises UnequalTrainingError."""
    sizes = sorted({one.n_train for one in estimates if one.n_train is not None})
    if len(sizes) > 1 and not any_training:
        parts = " and ".join(f"{one.name} ({one.n_train})" for one in estimates if one.n_train is not None)
        raise UnequalTrainingError(
            f"{parts} were trained on different numbers of images: evaluate both with the same training images"
        )
    return sizes[0] if len(sizes) == 1 else None


def _from_draws(name: str, value: float, drawn: np.ndarray, units: str, n_train: int | None) -> Estimate:
    defined = np.sort(drawn[~np.isnan(drawn)])
    if not len(defined):
        return Estimate(name, value, -np.inf, np.inf, n_train=n_train)
    # A ratio's draws may be infinite, between which numpy cannot interpolate.
    low, high = np.quantile(defined, BOUNDS, method="nearest")
    return Estimate(name, value, float(low), float(high), drawn, units, n_train)


def _over(numerator: float, denominator: float) -> float:
    if denominator > 0:
        return float(numerator / denominator)
    return float("nan") if numerator == 0 and denominator == 0 else float("inf")
