"""Effective ranks of tokens as rows of results, from stored tokens or from captured covariances."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from evaluate.inputs.captured import captured_arrays
from evaluate.inputs.chunks import of_chunks
from evaluate.inputs.memory import reading_bytes
from evaluate.inputs.model_sets import ModelSets
from evaluate.inputs.rows import RowSplit
from evaluate.inputs.work import Work
from evaluate.kernels.bootstrap import draw_units
from evaluate.kernels.geometry import spread
from evaluate.kernels.geometry.captured import CapturedMoments, captured_bytes
from evaluate.kernels.geometry.rank import Spectrum, decay_exponent
from evaluate.results import metrics
from evaluate.results.rows import score_row
from evaluate.results.table import Result
from evaluate.scoring.tokens.captured_task import CapturedTask, reading_numbers
from evaluate.settings import Context
from stores.format.paths import COVARIANCES

CAPTURED = "captured covariances"
"""Column ``reference`` of the rows that are not of stored tokens."""


def rank_rows(found: Iterable[Spectrum], fitted_ranks: tuple[int, int], **columns: Any) -> Iterator[dict[str, Any]]:
    """Yield RankMe, alpha-ReQ, participation ratios and stable rank of each spectrum.

    Args:
        found: Spectra, centred or not; one without fourth powers has no corrected participation ratio.
        fitted_ranks: First and last rank to which the decay is fitted, from 1.
        columns: Further columns of the rows.
    """
    first, last = fitted_ranks
    for one in found:
        name = "centred" if one.centred else "not centred"
        last_fitted = max(first, min(last, int(np.count_nonzero(one.eigenvalues))))
        alpha = decay_exponent(one.eigenvalues, first, last_fitted)
        yield score_row(metrics.RANKME, one.rankme, outcome=name, **columns)
        yield score_row(metrics.DECAY_EXPONENT, alpha, outcome=f"{name}, ranks {first} to {last_fitted}", **columns)
        yield score_row(metrics.PARTICIPATION_RATIO, one.participation, outcome=name, **columns)
        if not np.isnan(one.fourth):
            corrected = one.corrected_participation
            yield score_row(metrics.PARTICIPATION_RATIO, corrected, outcome=f"{name}, bias corrected", **columns)
        yield score_row(metrics.STABLE_RANK, one.stable_rank, outcome=name, **columns)


@dataclass(frozen=True, eq=False)
class CapturedRanksTask(CapturedTask[Any]):
    """Effective ranks, and the share of the variance within images, of the tokens at one point of a block.

    They are made of means and covariances that were captured while the model ran, where no tokens need be stored.
    """

    analysis = "feature-geometry"
    revision = 1
    what = "ranks of {task.array}"
    key_settings = ("source", "fitted_ranks", "resamples")

    @classmethod
    def of_model(cls, model: ModelSets, settings: Any, context: Context) -> "Iterator[CapturedRanksTask]":
        """Yield one task a captured point."""
        split = RowSplit(model, context.selection, cls.analysis)
        for one in captured_arrays(model, COVARIANCES, COVARIANCES, layers=settings.layers):
            yield cls(model, one.address, settings, context, split, one)

    @property
    def _facts(self) -> tuple[int, int]:
        """Features of a token, and tokens of an input."""
        facts = self.model.features.arrays[self.array].attributes
        return int(facts["channels"] or 0), int(facts["n_patches"] or 0)

    def compute(self) -> Result:
        """Return the ranks, then the share with its interval."""
        stored, scored = self.model.features[self.array], self.scored
        blocks = of_chunks(stored, scored.rows, lambda first, block: block)
        moments = CapturedMoments.of(blocks, *self._facts)
        rows = list(rank_rows(moments.spectra, self.settings.fitted_ranks, reference=CAPTURED))
        n_images, bootstrap = len(scored.sources), self.bootstrap(scored.sources)
        sums = moments.of_images(self._images, n_images)
        draws = None
        if bootstrap.enabled:
            drawn = draw_units(n_images, bootstrap.seed, bootstrap.resamples)
            times = np.stack([np.bincount(units, minlength=n_images) for units in drawn]).astype(np.float64)
            draws = spread.share_within(sums, times)
        value = float(spread.share_within(sums, np.ones((1, n_images)))[0])
        rows.append(bootstrap.row(metrics.SHARE_WITHIN_IMAGES, value, draws, reference=CAPTURED))
        return Result(rows)

    def work(self) -> Work:
        """Estimate the operations: reading the rows, three products and two decompositions, and one interval."""
        n_channels, n_rows = self._facts[0], len(self.scored.rows)
        products = Work(2.0 * n_rows * n_channels**2 + 20.0 * n_channels**3)
        resampled = Work(4.0 * self.settings.resamples * len(self.scored.sources) * n_channels)
        return reading_numbers(self.model, self.array, n_rows) + products + resampled + self.resampling_work(1)

    def peak_bytes(self) -> int:
        """Estimate peak memory: chunks stream, sums and their decompositions are kept, and resampled sums."""
        n_images, n_channels = len(self.scored.sources), self._facts[0]
        drawn = 8 * self.settings.resamples * (3 * n_images + 2 * n_channels)
        held = captured_bytes(len(self.scored.rows), n_images, n_channels)
        return held + drawn + reading_bytes(self.model, self.array)
