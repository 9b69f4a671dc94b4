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

    def __str__(self) -> str:
        return f"{self.name} {self.value:.3g} [{self.low:.3g}, {self.high:.3g}]"


def exactly(name: str, value: float) -> Estimate:
    """Return a value without uncertainty."""
    return Estimate(name, value, value, value)


def weighted(name: str, terms: Sequence[tuple[float, Estimate]]) -> Estimate:
    """Return the sum of estimates times weights."""
    value = sum(weight * one.value for weight, one in terms)
    if _paired([one for _, one in terms]):
        drawn = sum(weight * one.drawn for weight, one in terms if one.drawn is not None)
        return _from_draws(name, value, np.asarray(drawn), terms[0][1].units)
    low = sum(weight * (one.low if weight > 0 else one.high) for weight, one in terms)
    high = sum(weight * (one.high if weight > 0 else one.low) for weight, one in terms)
    return Estimate(name, value, low, high)


def difference(name: str, one: Estimate, other: Estimate) -> Estimate:
    """Return one estimate less another."""
    return weighted(name, [(1.0, one), (-1.0, other)])


def ratio(name: str, one: Estimate, other: Estimate) -> Estimate:
    """Return one estimate over another, both of quantities that cannot be negative; infinite over 0."""
    value = _over(one.value, other.value)
    if _paired([one, other]) and one.drawn is not None and other.drawn is not None:
        drawn = np.array([_over(a, b) for a, b in zip(one.drawn, other.drawn, strict=True)])
        return _from_draws(name, value, drawn, one.units)
    return Estimate(name, value, _over(max(one.low, 0.0), other.high), _over(max(one.high, 0.0), max(other.low, 0.0)))


def share(name: str, outcomes: Sequence[bool | None]) -> Estimate:
    """Return the share of true ones; the bounds count what is open (None) as false and as true."""
    n_true, n_open = outcomes.count(True), outcomes.count(None)
    low, high = n_true / len(outcomes), (n_true + n_open) / len(outcomes)
    return Estimate(name, (low + high) / 2.0, low, high)


def _paired(estimates: Sequence[Estimate]) -> bool:
    drawn = [one.drawn for one in estimates if one.drawn is not None and one.units == estimates[0].units]
    return len(drawn) == len(estimates) and len({values.shape for values in drawn}) == 1


def _from_draws(name: str, value: float, drawn: np.ndarray, units: str) -> Estimate:
    defined = np.sort(drawn[~np.isnan(drawn)])
    if not len(defined):
        return Estimate(name, value, -np.inf, np.inf)
    # A ratio's draws may be infinite, between which numpy cannot interpolate.
    low, high = np.quantile(defined, BOUNDS, method="nearest")
    return Estimate(name, value, float(low), float(high), drawn, units)


def _over(numerator: float, denominator: float) -> float:
    if denominator > 0:
        return float(numerator / denominator)
    return float("nan") if numerator == 0 and denominator == 0 else float("inf")
