"""Differences of treated features to untreated ones: paper A, section 4 (experiment A-8) and its controls."""

import json

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from evaluate.figures import style
from evaluate.kernels.treatments import Treatment
from evaluate.results.metrics import PATCH_MIOU_DIFFERENCE
from evaluate.results.preferred import preferred_rows
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


def figure(table: pd.DataFrame, results: list[tuple[str, Result]]) -> Figure | None:
    """Return one panel a classifier: a line a treatment, a mark a model, with the paired interval."""
    rows = style.metric_rows(table, "feature-treatments", PATCH_MIOU_DIFFERENCE)
    if rows.empty:
        return None
    rows = preferred_rows(rows)
    classifiers = [name for name in style.CLASSIFIERS if (rows["classifier"] == name).any()]
    treatments = list(dict.fromkeys(_treatments(rows)))
    height = 1.5 + 0.28 * len(treatments) + 0.13 * len(treatments) * table["model"].nunique()
    drawn, [panels] = style.new_figure((3.6 * len(classifiers) + 2.0, height), len(classifiers), sharey=True)
    for panel, classifier in zip(panels, classifiers, strict=True):
        panel.axvline(0.0, color="#555555", linewidth=1.0)
        for model, look, shift, part in style.by_model(rows, table):
            part = part[part["classifier"] == classifier]
            positions = np.array([treatments.index(one) for one in _treatments(part)], dtype=float) + 0.7 * shift
            style.marks(panel, part, y=positions, label=model, markersize=5, **look)
        panel.set_title(style.CLASSIFIERS[classifier], fontsize=10, loc="left")
        panel.set_xlabel("mIoU less untreated")
        panel.margins(x=0.1)
    titles = _titles(rows)
    names = [titles.get(name, name) + ("" if m is None else f" (m = {m})") for name, m in treatments]
    panels[0].set_yticks(range(len(treatments)), names)
    panels[0].set_ylim(len(treatments) - 0.5, -0.5)
    style.legend_above(drawn, panels[0])
    style.name_conditions(drawn, rows)
    return drawn


def _treatments(rows: pd.DataFrame) -> list[tuple[str, int | None]]:
    """Return outcome and m of every row."""
    removed = [None if pd.isna(m) else int(m) for m in rows["m"]]
    return list(zip(rows["outcome"].astype(str), removed, strict=True))


def _titles(rows: pd.DataFrame) -> dict[str, str]:
    """Return the title of every outcome; the rows' parameters name the experiments whose rankings were used."""
    parameters = [json.loads(text) for text in rows["params"].dropna().unique()]
    experiments = {experiment for one in parameters for experiment, _ in one.get("others_train", [])}
    others = {
        Treatment("remove-other", experiment=name).outcome: OTHER_EXPERIMENTS.format(name.replace("$", r"\$"))
        for name in experiments
    }
    return TITLES | others
