"""Which features vary, and how much: paper A, section 3.2 and Fig. 1a."""

from typing import Any

import numpy as np
from jaxtyping import Float64

from evaluate.measured import Chosen, Measured, choose
from evaluate.moments import Moments, share_of_variance, variance_ranking
from evaluate.questions import Questions, VarianceSpectrum
from evaluate.results import Answer, Asked

REVISION = 1
"""Raised when the same inputs and parameters give other numbers."""


def token_variance(measured: Measured, array: str, chosen: Chosen) -> Float64[np.ndarray, " channel"]:
    """Return each feature's variance over the patch tokens of the chosen rows: one pass, float64."""
    blocks = measured.features[array].blocks(chosen.rows)
    return Moments.of(rows.reshape(-1, rows.shape[-1]) for _, rows in blocks).variance


def asked(measured: Measured, array: str, analysis: VarianceSpectrum, questions: Questions) -> Asked:
    """Return what the answer depends on."""
    rule = questions.selection.train if questions.selection else None
    chosen = choose(measured, rule)
    return Asked(
        "variance-spectrum",
        REVISION,
        {"top": list(analysis.top), "train": list(chosen.sources)},
        measured.inputs(array),
    )


def answer(measured: Measured, array: str, analysis: VarianceSpectrum, questions: Questions) -> Answer:
    """Return the variances in decreasing order and the shares of the leading features."""
    chosen = choose(measured, questions.selection.train if questions.selection else None)
    variance = token_variance(measured, array, chosen)
    ranking = variance_ranking(variance)
    common: dict[str, Any] = {"train": chosen.title, "x_name": "rank"}
    rows = [
        {**common, "x_value": float(rank), "metric": "variance", "value": float(variance[feature])}
        for rank, feature in enumerate(ranking, start=1)
    ]
    rows += [
        {**common, "m": m, "metric": "share_of_variance", "value": share_of_variance(variance, ranking, m)}
        for m in analysis.top
        if m <= len(variance)
    ]
    return Answer(rows, {"variance": variance, "ranking": ranking})
