"""The variance of every feature over patch tokens: paper A, section 3.2 and Fig. 1a.

Shares and the ratio of the largest to the median variance come with bootstrap intervals over images: the variances of
a resample are ranked again.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from jaxtyping import Float64
from pydantic import Field

from evaluate.inputs.memory import reading_bytes, spectrum_bytes
from evaluate.inputs.work import Work, ranking, resampling
from evaluate.kernels.moments import share_of_variance, variance_ranking
from evaluate.results.metrics import MAX_TO_MEDIAN_VARIANCE, SHARE_OF_VARIANCE, VARIANCE
from evaluate.results.rows import score_row
from evaluate.results.table import Result
from evaluate.scoring.variance_bootstrap import MomentsPass, moments_by_image, ranking_arrays, resampled_variances
from evaluate.settings import BootstrapSettings, LayerSettings
from evaluate.task import ModelTask
from stores.format.paths import DEVIATIONS


class VarianceSpectrum(LayerSettings, BootstrapSettings):
    """The variance of every feature over the patch tokens of the training rows (paper A, Fig. 1a)."""

    kind: Literal["variance-spectrum"]
    top: tuple[Annotated[int, Field(ge=1)], ...] = (10, 200)
    """Numbers of leading features whose share of the variance is reported."""


def _shares(ordered: Float64[np.ndarray, "resample channel"], m: int) -> Float64[np.ndarray, " resample"]:
    total = ordered.sum(axis=1)
    return np.divide(ordered[:, :m].sum(axis=1), total, out=np.full(len(total), np.nan), where=total > 0)


def _spread(ordered: Float64[np.ndarray, "resample channel"]) -> Float64[np.ndarray, " resample"]:
    """Return the largest variance over the median one, nan where half of the features do not vary."""
    median = np.median(ordered, axis=1)
    return np.divide(ordered[:, 0], median, out=np.full(len(median), np.nan), where=median > 0)


@dataclass(frozen=True, eq=False)
class VarianceSpectrumTask(ModelTask[VarianceSpectrum]):
    """Variances in decreasing order, the shares of the leading features and the spread of them all."""

    analysis = "variance-spectrum"
    revision = 4
    groups = ("tokens", DEVIATIONS)
    what = "variance of {task.array}"
    key_settings = ("top", "resamples")
    key_rows = ("train",)
    fixed_columns: ClassVar[Mapping[str, Any]] = {"x_name": "rank"}

    def inputs(self) -> dict[str, str]:
        """Return the digests of the tokens, or of their means and deviations."""
        content = self.model.features.content
        return super().inputs() | {array: content[array] for array in ranking_arrays(self.array)}

    def passes(self) -> list[MomentsPass]:
        """Return the pass over the training rows, if it has several sections."""
        return MomentsPass(self.model, self.array, self.train).several

    def compute(self) -> Result:
        """Return one row a feature, then shares and spread with their intervals."""
        moments, of_image = moments_by_image(self.model, self.array, self.train, self.context.results)
        variance = moments.variance
        ranking = variance_ranking(variance)
        bootstrap = self.bootstrap(self.train.sources)
        resampled = resampled_variances(of_image, seed=self.context.seed, resamples=self.settings.resamples)
        ordered = None if resampled is None else -np.sort(-resampled, axis=1)
        rows = [
            score_row(VARIANCE, float(variance[feature]), x_value=float(rank))
            for rank, feature in enumerate(ranking, start=1)
        ]
        for m in self.settings.top:
            if m <= len(variance):
                draws = None if ordered is None else _shares(ordered, m)
                share = share_of_variance(variance, ranking, m)
                rows.append(bootstrap.row(SHARE_OF_VARIANCE, share, draws, m=m))
        draws = None if ordered is None else _spread(ordered)
        spread = float(_spread(variance[ranking][None])[0])
        rows.append(bootstrap.row(MAX_TO_MEDIAN_VARIANCE, spread, draws))
        return Result(rows, {"variance": variance, "ranking": ranking})

    def work(self) -> Work:
        """Estimate the operations: ranking the features, and the variances of every resample."""
        resamples, n_images = self.settings.resamples, len(self.train.sources)
        return ranking(self.model, self.array, len(self.train.rows)) + resampling(
            n_images, self.n_channels, resamples, 2 + len(self.settings.top)
        )

    def peak_bytes(self) -> int:
        """Estimate peak memory: patches stream, the moments of every image and resampled variances are kept."""
        more = sum(reading_bytes(self.model, array) for array in ranking_arrays(self.array)[1:])
        more += MomentsPass(self.model, self.array, self.train).n_bytes
        return more + spectrum_bytes(self.model, self.array, len(self.train.sources), self.settings.resamples)
