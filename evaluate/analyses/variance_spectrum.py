"""Which features vary, and how much: paper A, section 3.2 and Fig. 1a.

Shares and the ratio of the largest to the median variance come with bootstrap intervals over images: the variances of
a resample are ranked anew.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Annotated, Any, Literal

import numpy as np
from jaxtyping import Float64
from pydantic import Field

from evaluate.inputs.model_sets import Measured
from evaluate.inputs.rows import choose_training
from evaluate.kernels.memory import spectrum_bytes
from evaluate.kernels.moments import share_of_variance, variance_ranking
from evaluate.results.table import Answer, Asked
from evaluate.scoring.variance_bootstrap import interval_of, moments_by_image, resampled_variances
from evaluate.settings import Context, Layers, Settings
from evaluate.task import Cell, cell_of

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


def asked(measured: Measured, array: str, analysis: VarianceSpectrum, context: Context) -> Asked:
    """Return what the answer depends on."""
    chosen = choose_training(measured, context.selection)
    parameters = {
        "top": list(analysis.top),
        "resamples": analysis.resamples,
        "seed": context.seed,
        "train": list(chosen.sources),
    }
    return Asked("variance-spectrum", REVISION, parameters, measured.inputs(array))


def answer(measured: Measured, array: str, analysis: VarianceSpectrum, context: Context) -> Answer:
    """Return the variances in decreasing order, the shares of the leading features and the spread of it all."""
    chosen = choose_training(measured, context.selection)
    moments, of_image = moments_by_image(measured, array, chosen)
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
    return Answer(rows, {"variance": variance, "ranking": ranking})


def _shares(ordered: Float64[np.ndarray, "resample channel"], m: int) -> Float64[np.ndarray, " resample"]:
    total = ordered.sum(axis=1)
    return np.divide(ordered[:, :m].sum(axis=1), total, out=np.full(len(total), np.nan), where=total > 0)


def _spread(ordered: Float64[np.ndarray, "resample channel"]) -> Float64[np.ndarray, " resample"]:
    """Return the largest variance over the median one, nan where half of the features do not vary."""
    median = np.median(ordered, axis=1)
    return np.divide(ordered[:, 0], median, out=np.full(len(median), np.nan), where=median > 0)


def holds(measured: Measured, array: str, analysis: VarianceSpectrum, context: Context) -> int:
    """Return the bytes that answering holds; patches stream."""
    chosen = choose_training(measured, context.selection)
    return spectrum_bytes(measured, array, chosen, analysis.resamples)


def cells(models: Sequence[Measured], analysis: VarianceSpectrum, context: Context) -> Iterator[Cell]:
    """Yield one answer a model and layer."""
    for measured in models:
        for array in measured.arrays(analysis.layers, analysis.norm):
            yield cell_of(
                measured,
                array,
                asked(measured, array, analysis, context),
                partial(answer, measured, array, analysis, context),
                f"variance of {array}",
                partial(holds, measured, array, analysis, context),
            )
