"""Differences of treated features to untreated ones: paper A, section 4 (experiment A-8) and its controls."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from evaluate.figures.removal_curve import NAMES
from evaluate.figures.style import cells, error_bars, grid_figure, last_array, legend_above, looks, numbers
from evaluate.results.table import Result

TITLES = {
    "remove-top": "highest variance left out",
    "remove-random": "random features left out",
    "remove-lowest": "lowest variance left out",
    "batchnorm": "scaled to unit variance",
    "whiten": "whitened",
    "l2": "scaled to unit length",
}
OTHER_EXPERIMENTS = "highest variance in {} left out"
"""Where the ranking is another experiment's."""


def figure(table: pd.DataFrame, answers: list[tuple[str, Result]]) -> Figure | None:
    """Return one panel a classifier: a line a treatment, a mark a model, with the paired interval."""
    rows = cells(table[table["analysis"] == "feature-treatments"], "patch_miou_difference")
    if rows.empty:
        return None
    rows = last_array(rows)
    classifiers = [name for name in NAMES if (rows["classifier"] == name).any()]
    treatments = list(dict.fromkeys(zip(rows["outcome"], rows["m"].astype(object), strict=True)))
    treatments = list(dict.fromkeys((str(name), None if pd.isna(m) else int(m)) for name, m in treatments))
    styles = looks(table)
    height = 1.5 + 0.28 * len(treatments) + 0.13 * len(treatments) * len(styles)
    drawn, axes = grid_figure(3.6 * len(classifiers) + 2.0, height, 1, len(classifiers), sharey=True)
    models = list(dict.fromkeys(rows["model"]))
    for panel, classifier in zip(axes[0], classifiers, strict=True):
        panel.axvline(0.0, color="#555555", linewidth=1.0)
        for place, model in enumerate(models):
            shift = (place - (len(models) - 1) / 2) * 0.7 / len(models)
            part = rows[(rows["classifier"] == classifier) & (rows["model"] == model)]
            places = [
                treatments.index((str(name), None if pd.isna(m) else int(m)))
                for name, m in zip(part["outcome"], part["m"].astype(object), strict=True)
            ]
            look = {**styles[str(model)], "linestyle": "none"}
            positions = np.array(places, dtype=float) + shift
            panel.errorbar(
                numbers(part, "value"), positions, xerr=error_bars(part), label=str(model), markersize=5,
                elinewidth=1.2, **look,
            )  # fmt: skip
        panel.set_title(NAMES[classifier], fontsize=10, loc="left")
        panel.set_xlabel("mIoU less untreated")
        panel.margins(x=0.1)
    names = [_title(name) + ("" if m is None else f" (m = {m})") for name, m in treatments]
    axes[0][0].set_yticks(range(len(treatments)), names)
    axes[0][0].set_ylim(len(treatments) - 0.5, -0.5)
    legend_above(drawn, axes[0][0])
    return drawn


def _title(outcome: str) -> str:
    name, _, experiment = outcome.partition(" ")
    return (
        OTHER_EXPERIMENTS.format(experiment.replace("$", r"\$")) if name == "remove-other" else TITLES.get(name, name)
    )
