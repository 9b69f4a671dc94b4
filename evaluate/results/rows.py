"""Rows of the long table, and the bootstrap that gives a task's scores their intervals."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from evaluate.kernels.bootstrap import FEWEST_UNITS, quantiles, resampled_ratio, resampled_statistic
from evaluate.kernels.segmentation.confusion import Statistic
from evaluate.results.draws import DRAWS, BootstrapDraws, units_of

Draws = Float64[np.ndarray, " resample"]


def score_row(metric: str, value: float | None, **columns: Any) -> dict[str, Any]:
    """Return one row of the long table; a value that is not finite becomes empty."""
    return {**columns, "metric": metric, "value": float(value) if value is not None and np.isfinite(value) else None}


@dataclass(frozen=True)
class Bootstrap:
    """How the intervals of one task are drawn: over which units, with which seed, how often."""

    units: tuple[str, ...]
    """Names of the images, videos or minibatches that are resampled, in order."""
    unit: str
    """``image``, ``video`` or ``minibatch``."""
    seed: int
    resamples: int

    @property
    def enabled(self) -> bool:
        """Whether intervals are drawn: below ten units they mean little."""
        return len(self.units) >= FEWEST_UNITS and self.resamples > 0

    @cached_property
    def name(self) -> str:
        """Digest of units, seed and number of resamples: values with equal names are compared draw by draw."""
        return units_of(self.units, self.seed, self.resamples)

    def statistic(self, confusions: Int64[np.ndarray, "unit classes classes"], statistic: Statistic) -> Draws | None:
        """Return a statistic of confusion matrices in every resample; None where no intervals are drawn."""
        if not self.enabled:
            return None
        return resampled_statistic(confusions, statistic, seed=self.seed, resamples=self.resamples)

    def ratio(self, numerator: Float64[np.ndarray, " unit"], denominator: Float64[np.ndarray, " unit"]) -> Draws | None:
        """Return ``sum(numerator) / sum(denominator)`` in every resample; None where no intervals are drawn."""
        return resampled_ratio(numerator, denominator, seed=self.seed, resamples=self.resamples)

    def row(self, metric: str, value: float | None, draws: Draws | None, **columns: Any) -> dict[str, Any]:
        """Return one row of the long table with the 95 % percentile interval of its resampled values.

        Args:
            metric: name of the metric.
            value: the score of all units; empty in the table when it is not finite.
            draws: the score in every resample, None for no interval.
            columns: other columns of the row.
        """
        low, high = quantiles(draws)
        row = score_row(metric, value, **columns)
        row |= {"low": low, "high": high, "unit": self.unit, "n_units": len(self.units), "seed": self.seed}
        if draws is not None:
            row[DRAWS] = BootstrapDraws(draws, self.name)
        return row

    def confusion_row(
        self, metric: str, confusions: Int64[np.ndarray, "unit classes classes"], statistic: Statistic, **columns: Any
    ) -> dict[str, Any]:
        """Return the row of a statistic of confusion matrices, with its interval.

        Args:
            metric: name of the metric.
            confusions: one confusion matrix a unit.
            statistic: takes matrices ``(..., classes, classes)`` and, for resamples, which classes count.
            columns: other columns of the row.
        """
        value = float(statistic(confusions.sum(axis=0), None))
        return self.row(metric, value, self.statistic(confusions, statistic), **columns)

    def difference_row(
        self,
        metric: str,
        confusions: Int64[np.ndarray, "unit classes classes"],
        reference_confusions: Int64[np.ndarray, "unit classes classes"],
        statistic: Statistic,
        **columns: Any,
    ) -> dict[str, Any]:
        """Return the row of a difference of two statistics on the same units, its interval paired.

        Args:
            metric: name of the metric; the row's metric is this with ``_difference``.
            confusions: one confusion matrix a unit.
            reference_confusions: those of the reference, in the same order of units.
            statistic: takes matrices ``(..., classes, classes)`` and, for resamples, which classes count.
            columns: other columns of the row, ``reference`` among them.
        """
        sides = (confusions, reference_confusions)
        value, base = (float(statistic(side.sum(axis=0), None)) for side in sides)
        draws, base_draws = (self.statistic(side, statistic) for side in sides)
        paired = None if draws is None or base_draws is None else draws - base_draws
        return self.row(f"{metric}_difference", value - base, paired, **columns)
