"""Do the same features vary most elsewhere? Overlap of top-m sets: paper A, appendix (experiment A-9).

Two unrelated sets of m of D features share m²/D on average, and their overlap is hypergeometric; the bounds of chance
are its 2.5 and 97.5 % quantiles. Features of two models are compared by number only: overlap beyond chance means little
unless one was fitted from the other, and chance is what is expected. The interval of an overlap is a bootstrap over
the images of both sides, the features of every resample ranked again; a resample's ranks are noisier, so it tends to
lie low.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal

import numpy as np
from jaxtyping import Int32, Int64
from pydantic import Field

from evaluate.inputs.model_sets import ModelSets
from evaluate.inputs.rows import training_rows
from evaluate.kernels.memory import spectrum_bytes
from evaluate.kernels.moments import overlap, variance_ranking
from evaluate.results.table import Result, ResultKey
from evaluate.scoring.variance_bootstrap import bounds, moments_by_image, overlaps, rankings, resampled_variances
from evaluate.settings import Context, Layers, Selection, Settings
from evaluate.task import Task, task_of

REVISION = 2
"""Raised when the same inputs and parameters give other numbers."""


class RankingOverlap(Settings):
    """Overlap of the m features of highest variance between layers, models and data sets, against chance."""

    kind: Literal["ranking-overlap"]
    m: tuple[Annotated[int, Field(ge=1)], ...] = (10, 50, 100, 200)
    """Sizes of the sets; those larger than the number of features are passed over."""
    experiments: tuple[str, ...] = ()
    """Experiment files with the same models on other data, relative to this file; models meet by their titles."""
    layers: Layers = (-1,)
    """Layers to ask about: ``all`` that are stored, or numbers from 0; negative ones count from the last stored."""
    norm: Literal["final", "none"] = "final"
    """Tokens through the model's final norm, or as the block left them."""
    resamples: int = Field(default=1000, ge=0)
    """Bootstrap resamples over images; 0 prints no intervals."""

    def other_experiments(self) -> tuple[str, ...]:
        """Return the experiments whose rankings are compared with these."""
        return self.experiments


def chance_bounds(n_features: int, m: int) -> tuple[float, float, float]:
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


def rows_of(one: Ranked, other: Ranked, sizes: Sequence[int], reference: str, seed: int) -> list[dict[str, Any]]:
    """Return the overlap of two rankings and what chance gives, for every m."""
    rows: list[dict[str, Any]] = []
    for m in sorted(set(sizes)):
        if m > len(one.ranking):
            continue
        shared = overlap(one.ranking, other.ranking, m)
        drawn = None
        if one.resampled is not None and other.resampled is not None:
            drawn = overlaps(one.resampled, other.resampled, m).astype(np.float64)
        common = {"m": m, "reference": reference}
        counted = {**common, "unit": "image", "n_units": min(one.n_images, other.n_images), "seed": seed}
        rows.append({**counted, "metric": "overlap", "value": float(shared), **bounds(drawn)})
        share = None if drawn is None else drawn / m
        rows.append({**counted, "metric": "overlap_share", "value": shared / m, **bounds(share)})
        names = ("chance_overlap", "chance_overlap_low", "chance_overlap_high")
        chance = chance_bounds(len(one.ranking), m)
        rows += [{**common, "metric": name, "value": value} for name, value in zip(names, chance, strict=True)]
    return rows


class _Read:
    """One model's set with its training rows; rankings are made once an array."""

    def __init__(self, model: ModelSets, selection: Selection | None) -> None:
        self.model = model
        self.chosen = training_rows(model, selection)
        self.ranked: dict[str, Ranked] = {}

    def ranking(self, array: str, seed: int, resamples: int) -> Ranked:
        if array not in self.ranked:
            moments, of_image = moments_by_image(self.model, array, self.chosen)
            variances = resampled_variances(of_image, seed=seed, resamples=resamples)
            resampled = None if variances is None else rankings(variances)
            self.ranked[array] = Ranked(variance_ranking(moments.variance), resampled, len(of_image))
        return self.ranked[array]

    def width(self, array: str) -> int:
        return int(self.model.features.arrays[array].row_shape[-1])


def asked(
    one: _Read, array: str, other: _Read, other_array: str, reference: str, analysis: RankingOverlap, seed: int
) -> ResultKey:
    """Return what the answer depends on."""
    inputs = one.model.inputs(array)
    inputs |= {f"reference {name}": value for name, value in other.model.inputs(other_array).items()}
    parameters = {
        "m": sorted(set(analysis.m)),
        "reference": reference,
        "resamples": analysis.resamples,
        "seed": seed,
        "train": list(one.chosen.sources),
        "reference_train": list(other.chosen.sources),
    }
    return ResultKey("ranking-overlap", REVISION, parameters, inputs)


def answer(
    one: _Read, array: str, other: _Read, other_array: str, reference: str, analysis: RankingOverlap, seed: int
) -> Result:
    """Return the overlap of two arrays' top-m sets for every m."""
    ranked = one.ranking(array, seed, analysis.resamples), other.ranking(other_array, seed, analysis.resamples)
    rows = rows_of(*ranked, analysis.m, reference, seed)
    return Result([{"train": one.chosen.title, **row} for row in rows])


def peak_bytes(one: _Read, array: str, other: _Read, other_array: str, n_rankings: int, resamples: int) -> int:
    """Return the bytes that answering holds; patches stream, and the rankings of all arrays are kept."""
    kept = 4 * resamples * one.width(array) * n_rankings
    sides = (one, array), (other, other_array)
    return kept + max(spectrum_bytes(side.model, name, side.chosen, resamples) for side, name in sides)


def cells(models: Sequence[ModelSets], analysis: RankingOverlap, context: Context) -> Iterator[Task]:
    """Yield one answer a pair: of layers, of models at the same place, of data sets at the same layer."""
    read = [_Read(model, context.selection) for model in models]
    other_experiments = [
        (name, _Read(model, selection))
        for name in analysis.experiments
        for model, selection in context.other_experiments[name]
    ]
    n_layers = max((len(one.model.arrays(analysis.layers, analysis.norm)) for one in read), default=0)
    n_rankings = n_layers * (len(read) + len(other_experiments))
    for number, one in enumerate(read):
        arrays = one.model.arrays(analysis.layers, analysis.norm)
        pairs = [
            (array, one, other, other.partition("/")[2])
            for place, array in enumerate(arrays)
            for other in arrays[place + 1 :]
        ]
        for later in read[number + 1 :]:
            others = later.model.arrays(analysis.layers, analysis.norm)
            pairs += [(array, later, other, later.model.title) for array, other in zip(arrays, others, strict=False)]
        for name, other_set in other_experiments:
            if other_set.model.title == one.model.title:
                numbers = tuple(one.model.layer(array) for array in arrays)
                others = other_set.model.arrays(numbers, analysis.norm)
                pairs += [(array, other_set, other, name) for array, other in zip(arrays, others, strict=True)]
        for array, other_set, other, reference in pairs:
            if one.width(array) != other_set.width(other):
                continue
            yield task_of(
                one.model,
                array,
                asked(one, array, other_set, other, reference, analysis, context.seed),
                partial(answer, one, array, other_set, other, reference, analysis, context.seed),
                f"overlap of the top features of {array} and of {reference}",
                partial(peak_bytes, one, array, other_set, other, n_rankings, analysis.resamples),
            )
