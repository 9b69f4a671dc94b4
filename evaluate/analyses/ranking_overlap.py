"""Overlap of the top-m features of layers, models and data sets: paper A, appendix (experiment A-9).

Two unrelated sets of m of D features share m²/D on average, and their overlap is hypergeometric; the bounds of chance
are its 2.5 and 97.5 % quantiles. Features of two models are compared by number only: overlap beyond chance means little
unless one was fitted from the other, and chance is what is expected. The interval of an overlap is a bootstrap over
the images of both sides, the features of every resample ranked again; a resample's ranks are noisier, so it tends to
lie low.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal

import numpy as np
from jaxtyping import Int32, Int64
from pydantic import Field

from evaluate.inputs.memory import spectrum_bytes
from evaluate.inputs.model_sets import ModelSets
from evaluate.inputs.rows import RowSplit
from evaluate.inputs.work import CALL, Work, ranking, resampling
from evaluate.kernels.bootstrap import quantiles
from evaluate.kernels.moments import overlap, variance_ranking
from evaluate.results.metrics import CHANCE_OVERLAP, CHANCE_OVERLAP_HIGH, CHANCE_OVERLAP_LOW, OVERLAP, OVERLAP_SHARE
from evaluate.results.rows import score_row
from evaluate.results.table import Result, ResultStore
from evaluate.scoring.variance_bootstrap import MomentsPass, moments_by_image, overlaps, rankings, resampled_variances
from evaluate.settings import BootstrapSettings, Context, LayerSettings, Selection
from evaluate.task import ModelTask


class RankingOverlap(LayerSettings, BootstrapSettings):
    """Overlap of the m features of highest variance between layers, models and data sets, against chance."""

    kind: Literal["ranking-overlap"]
    m: tuple[Annotated[int, Field(ge=1)], ...] = (10, 50, 100, 200)
    """Sizes of the sets; those larger than the number of features are left out."""
    experiments: tuple[str, ...] = ()
    """Experiment files with the same models on other data, relative to this file; models are matched by title."""

    def other_experiments(self) -> tuple[str, ...]:
        """Return the experiments whose rankings are compared with these."""
        return self.experiments


def _chance_bounds(n_features: int, m: int) -> tuple[float, float, float]:
    """Return mean, 2.5 and 97.5 % quantile of the overlap of two random sets of m features."""
    from scipy.stats import hypergeom

    unrelated = hypergeom(n_features, m, m)
    return m * m / n_features, float(unrelated.ppf(0.025)), float(unrelated.ppf(0.975))


@dataclass(frozen=True)
class Ranked:
    """The features of one array by decreasing variance, as measured and as resampled."""

    ranking: Int64[np.ndarray, " channel"]
    resampled: Int32[np.ndarray, "resample channel"] | None
    n_images: int


@dataclass(frozen=True, eq=False)
class RankedModel:
    """One model's sets with its training rows; every array is ranked once, in however many pairs it is."""

    split: RowSplit
    seed: int
    resamples: int
    results: ResultStore | None = None
    """Where workers keep sections of the moments."""

    @property
    def model(self) -> ModelSets:
        """The model's sets."""
        return self.split.model

    @cached_property
    def rankings(self) -> dict[str, Ranked]:
        """The arrays that were ranked so far."""
        return {}

    def ranking(self, array: str) -> Ranked:
        """Return an array's features by decreasing variance over the training patches."""
        if array not in self.rankings:
            moments, of_image = moments_by_image(self.model, array, self.split.train, self.results)
            variances = resampled_variances(of_image, seed=self.seed, resamples=self.resamples)
            resampled = None if variances is None else rankings(variances)
            self.rankings[array] = Ranked(variance_ranking(moments.variance), resampled, len(of_image))
        return self.rankings[array]

    def peak_bytes(self, array: str) -> int:
        """Estimate the peak memory of `ranking`, in bytes."""
        reading = self.moments(array).n_bytes
        return reading + spectrum_bytes(self.model, array, len(self.split.train.sources), self.resamples)

    def moments(self, array: str) -> MomentsPass:
        """Return the pass over the training rows of an array."""
        return MomentsPass(self.model, array, self.split.train)


@dataclass(frozen=True)
class Pair:
    """Two arrays whose rankings are compared."""

    array: str
    other: RankedModel
    other_array: str
    reference: str
    """What the other array is called in the results: a layer, a model's title or an experiment's file."""
    kind: Literal["layer", "model", "experiment"]
    """What ``reference`` names."""
    reference_layer: int | None = None
    """The other layer, where layers of one model are compared."""


@dataclass(frozen=True, eq=False)
class RankingOverlapTask(ModelTask[RankingOverlap]):
    """Overlap of the top-m features of two arrays for every m, against chance."""

    analysis = "ranking-overlap"
    revision = 3
    what = "overlap of the top features of {task.array} and of {task.pair.reference}"
    key_settings = ("resamples",)
    key_counts = ("m",)
    key_rows = ("train",)

    ranked: RankedModel
    pair: Pair
    n_rankings: int
    """Number of arrays whose rankings are kept in memory while the experiment's pairs are compared."""
    n_pairs: int
    """Number of pairs that are compared."""

    @classmethod
    def tasks(
        cls, models: Sequence[ModelSets], settings: RankingOverlap, context: Context
    ) -> Iterator["RankingOverlapTask"]:
        """Yield one task a pair: of layers, of models at the same layer, of data sets at the same layer."""

        def ranked_model(model: ModelSets, selection: Selection | None) -> RankedModel:
            split = RowSplit(model, selection, cls.analysis)
            return RankedModel(split, context.seed, settings.resamples, context.results)

        ranked = [ranked_model(model, context.selection) for model in models]
        others = [
            (name, ranked_model(model, selection))
            for name in settings.experiments
            for model, selection in context.other_experiments[name]
        ]
        n_layers = max((len(one.model.arrays(settings.layers, settings.norm)) for one in ranked), default=0)
        n_rankings = n_layers * (len(ranked) + len(others))
        pairs = [
            (one, pair)
            for index, one in enumerate(ranked)
            for pair in _pairs(one, ranked[index + 1 :], others, settings)
            if one.model.n_channels(pair.array) == pair.other.model.n_channels(pair.other_array)
        ]
        for one, pair in pairs:
            yield cls(one.model, pair.array, settings, context, one.split, one, pair, n_rankings, len(pairs))

    def parameters(self) -> dict[str, Any]:
        """Return the parameters that the class lists, and the reference with its training images."""
        reference_train = list(self.pair.other.split.train.sources)
        return {**super().parameters(), "reference": self.pair.reference, "reference_train": reference_train}

    def inputs(self) -> dict[str, str]:
        """Return the digests of both arrays."""
        other = self.pair.other.model.inputs(self.pair.other_array)
        return super().inputs() | {f"reference {name}": value for name, value in other.items()}

    @property
    def columns(self) -> dict[str, Any]:
        """The shared columns and the reference."""
        columns = {**super().columns, "reference": self.pair.reference, "outcome": self.pair.kind}
        if self.pair.reference_layer is not None:
            columns |= {"x_name": "reference_layer", "x_value": float(self.pair.reference_layer)}
        return columns

    def passes(self) -> list[MomentsPass]:
        """Return the passes over both arrays that have several sections."""
        return self.ranked.moments(self.array).several + self.pair.other.moments(self.pair.other_array).several

    def compute(self) -> Result:
        """Return overlap, its share of m, and the overlap of unrelated features, for every m."""
        one = self.ranked.ranking(self.array)
        other = self.pair.other.ranking(self.pair.other_array)
        n_units = min(one.n_images, other.n_images)
        n_features = len(one.ranking)
        rows: list[dict[str, Any]] = []
        for m in (m for m in sorted(set(self.settings.m)) if m <= n_features):
            shared = overlap(one.ranking, other.ranking, m)
            draws = None
            if one.resampled is not None and other.resampled is not None:
                draws = overlaps(one.resampled, other.resampled, m).astype(np.float64)
            counted = {"m": m, "unit": "image", "n_units": n_units, "seed": self.context.seed}
            for metric, total in ((OVERLAP, 1), (OVERLAP_SHARE, m)):
                low, high = quantiles(None if draws is None else draws / total)
                rows.append({**score_row(metric, shared / total, **counted), "low": low, "high": high})
            names = (CHANCE_OVERLAP, CHANCE_OVERLAP_LOW, CHANCE_OVERLAP_HIGH)
            chance = _chance_bounds(n_features, m)
            rows += [score_row(name, value, m=m) for name, value in zip(names, chance, strict=True)]
        return Result(rows)

    def work(self) -> Work:
        """Estimate the operations: its part of ranking all arrays once, and the overlaps of every resample."""
        n_images = len(self.train.sources)
        ranked = ranking(self.model, self.array, len(self.train.rows))
        ranked += resampling(n_images, self.n_channels, self.settings.resamples, 2)
        return ranked * (self.n_rankings / self.n_pairs) + Work(
            passes=8.0 * self.settings.resamples * self.n_channels * len(self.settings.m) + 10 * CALL
        )

    def peak_bytes(self) -> int:
        """Estimate peak memory: patches stream, and the rankings of all arrays are kept."""
        kept = 4 * self.settings.resamples * self.n_channels * self.n_rankings
        return kept + max(self.ranked.peak_bytes(self.array), self.pair.other.peak_bytes(self.pair.other_array))


def _pairs(
    one: RankedModel,
    later_models: Sequence[RankedModel],
    others: Sequence[tuple[str, RankedModel]],
    settings: RankingOverlap,
) -> Iterator[Pair]:
    arrays = one.model.arrays(settings.layers, settings.norm)
    for index, array in enumerate(arrays):
        for later in arrays[index + 1 :]:
            yield Pair(array, one, later, later.partition("/")[2], "layer", one.model.layer(later))
    for other in later_models:
        there = other.model.arrays(settings.layers, settings.norm)
        for array, other_array in zip(arrays, there, strict=False):
            yield Pair(array, other, other_array, other.model.title, "model")
    for name, other in others:
        if other.model.title == one.model.title:
            there = other.model.arrays(tuple(one.model.layer(array) for array in arrays), settings.norm)
            for array, other_array in zip(arrays, there, strict=True):
                yield Pair(array, other, other_array, name, "experiment")
