"""Which features vary, and how much: paper A, section 3.2 and Fig. 1a.

Shares and the ratio of the largest to the median variance come with bootstrap intervals over images: the variances of
a resample are ranked again.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Annotated, Any, Literal

import numpy as np
from jaxtyping import Float64
from pydantic import Field

from evaluate.inputs.model_sets import ModelSets
from evaluate.inputs.rows import training_rows
from evaluate.kernels.memory import spectrum_bytes
from evaluate.kernels.moments import share_of_variance, variance_ranking
from evaluate.results.table import Result, ResultKey
from evaluate.scoring.variance_bootstrap import interval_of, moments_by_image, resampled_variances
from evaluate.settings import Context, Layers, Settings
from evaluate.task import Task, task_of

REVISION = 3
"""Raised when the same inputs and parameters give other numbers."""


class VarianceSpectrum(Settings):
    """The variance of every feature over the patch tokens of the training rows (paper A, Fig. 1a)."""

    kind: Literal["variance-spectrum"]
    layers: Layers = (-1,)
    """Layers to ask about: ``all`` that are stored, or numbers from 0; negative ones count from the last stored."""
    norm: Literal["final", "none"] = "final"
    """Tokens through the model's final norm, or as the block left them."""
    top: tuple[Annotated[int, Field(ge=1)], ...] = (10, 200)
    """Numbers of leading features whose share of the variance is reported."""
    resamples: int = Field(default=1000, ge=0)
    """Bootstrap resamples over images; 0 prints no intervals."""


def asked(model: ModelSets, array: str, analysis: VarianceSpectrum, context: Context) -> ResultKey:
    """Return what the answer depends on."""
    chosen = training_rows(model, context.selection)
    parameters = {
        "top": list(analysis.top),
        "resamples": analysis.resamples,
        "seed": context.seed,
        "train": list(chosen.sources),
    }
    return ResultKey("variance-spectrum", REVISION, parameters, model.inputs(array))


def answer(model: ModelSets, array: str, analysis: VarianceSpectrum, context: Context) -> Result:
    """Return the variances in decreasing order, the shares of the leading features and the spread of it all."""
    chosen = training_rows(model, context.selection)
    moments, of_image = moments_by_image(model, array, chosen)
    variance = moments.variance
    ranking = variance_ranking(variance)
    resampled = resampled_variances(of_image, seed=context.seed, resamples=analysis.resamples)
    common: dict[str, Any] = {"train": chosen.title, "x_name": "rank"}
    drawn = {**common, "unit": "image", "n_units": len(of_image), "seed": context.seed}
    rows = [
        {**common, "x_value": float(rank), "metric": "variance", "value": float(variance[feature])}
        for rank, feature in enumerate(ranking, start=1)
    ]
    for m in analysis.top:
        if m <= len(variance):
            share = share_of_variance(variance, ranking, m)
            interval = interval_of(resampled, partial(_shares, m=m))
            rows.append({**drawn, "m": m, "metric": "share_of_variance", "value": share, **interval})
    spread = float(_spread(variance[ranking][None])[0])
    row = {**drawn, "metric": "max_to_median_variance", "value": spread if np.isfinite(spread) else None}
    rows.append({**row, **interval_of(resampled, _spread)})
    return Result(rows, {"variance": variance, "ranking": ranking})


def _shares(ordered: Float64[np.ndarray, "resample channel"], m: int) -> Float64[np.ndarray, " resample"]:
    total = ordered.sum(axis=1)
    return np.divide(ordered[:, :m].sum(axis=1), total, out=np.full(len(total), np.nan), where=total > 0)


def _spread(ordered: Float64[np.ndarray, "resample channel"]) -> Float64[np.ndarray, " resample"]:
    """Return the largest variance over the median one, nan where half of the features do not vary."""
    median = np.median(ordered, axis=1)
    return np.divide(ordered[:, 0], median, out=np.full(len(median), np.nan), where=median > 0)


def peak_bytes(model: ModelSets, array: str, analysis: VarianceSpectrum, context: Context) -> int:
    """Return the bytes that answering holds; patches stream."""
    chosen = training_rows(model, context.selection)
    return spectrum_bytes(model, array, chosen, analysis.resamples)


def cells(models: Sequence[ModelSets], analysis: VarianceSpectrum, context: Context) -> Iterator[Task]:
    """Yield one answer a model and layer."""
    for model in models:
        for array in model.arrays(analysis.layers, analysis.norm):
            yield task_of(
                model,
                array,
                asked(model, array, analysis, context),
                partial(answer, model, array, analysis, context),
                f"variance of {array}",
                partial(peak_bytes, model, array, analysis, context),
            )
