"""Treated features: differences of scores, and what treatments take out; paper A, section 4 (experiment A-8)."""

import json
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from evaluate.figures import style
from evaluate.kernels.treatments import Treatment
from evaluate.results.metrics import PATCH_MIOU_DIFFERENCE, POSITION_SHARE, REMOVED_OVERLAP, REMOVED_VARIANCE_SHARE
from evaluate.results.preferred import preferred_rows
from evaluate.results.table import Result

Shown = tuple[str, int | None, float | None]
"""Outcome, m, and rank or deviations of a treatment; draws of random features are marks of one line."""

TITLES = {
    "remove-top": "highest variance left out",
    "remove-random": "random features left out",
    "remove-lowest": "lowest variance left out",
    "remove-position": "position taken out",
    "remove-first-components": "first components taken out",
    "pca-k": "first components alone",
    "centre": "centred",
    "drop-outlier-tokens": "outlier tokens left out",
    "batchnorm": "scaled to unit variance",
    "whiten": "whitened",
    "l2": "scaled to unit length",
}
OTHER_EXPERIMENTS = "highest variance in {} left out"
"""Where the ranking is another experiment's."""
ANALYSIS = "feature-treatments"


def treatment_title(label: str) -> str:
    """Return the words for a treatment from its label in the column ``treatment``, such as ``remove-position 18``."""
    name, _, number = label.partition(" ")
    return TITLES[name] + _number(name, None, float(number) if number else None)


def figure(table: pd.DataFrame, results: list[tuple[str, Result]]) -> Figure | None:
    """Return a line a treatment: differences of classifiers to every reference, and the share of variance taken out.

    A mark is a model, with its paired interval. Open marks in the last panel are the positional share of the variance
    of the features that are left out.
    """
    rows = style.metric_rows(table, ANALYSIS, PATCH_MIOU_DIFFERENCE)
    if rows.empty:
        return None
    rows = preferred_rows(rows)
    pairs = [
        (classifier, reference)
        for reference in dict.fromkeys(rows["reference"])
        for classifier in style.CLASSIFIERS
        if ((rows["classifier"] == classifier) & (rows["reference"] == reference)).any()
    ]
    removed = style.metric_rows(table, ANALYSIS, REMOVED_VARIANCE_SHARE)
    removed = preferred_rows(removed) if len(removed) else removed
    treatments = list(dict.fromkeys(_treatments(rows)))
    n_panels = len(pairs) + (not removed.empty)
    width = 3.6 if n_panels <= 2 else 2.5
    height = 1.5 + 0.28 * len(treatments) + 0.13 * len(treatments) * table["model"].nunique()
    drawn, [panels] = style.new_figure((width * n_panels + 2.0, height), n_panels, sharey=True)
    for panel, (classifier, reference) in zip(panels, pairs, strict=False):
        panel.axvline(0.0, color="#555555", linewidth=1.0)
        chosen = (rows["classifier"] == classifier) & (rows["reference"] == reference)
        _marks(panel, rows[chosen], rows, table, treatments)
        panel.set_title(style.CLASSIFIERS[classifier], fontsize=10, loc="left")
        panel.set_xlabel("mIoU less " + ("untreated" if reference == "none" else f"that of\n{reference}"))
        panel.margins(x=0.1)
        panel.locator_params(axis="x", nbins=4)  # signed numbers of two decimals are wide
    if not removed.empty:
        _shares(panels[-1], removed, table, treatments)
    titles = _titles(rows)
    names = [titles.get(name, name) + _number(name, m, number) for name, m, number in treatments]
    panels[0].set_yticks(range(len(treatments)), names)
    panels[0].set_ylim(len(treatments) - 0.5, -0.5)
    style.legend_above(drawn, panels[0])
    style.name_conditions(drawn, rows)
    return drawn


def _marks(
    panel: Axes,
    part: pd.DataFrame,
    every: pd.DataFrame,
    table: pd.DataFrame,
    treatments: list[Shown],
    **changes: Any,
) -> None:
    """Draw a mark a row with its interval, models side by side as those of ``every``."""
    for model, look, shift, _ in style.by_model(every, table):
        of_model = part[(part["model"] == model)]
        of_model = of_model[[one in treatments for one in _treatments(of_model)]]
        positions = np.array([treatments.index(one) for one in _treatments(of_model)], dtype=float) + 0.7 * shift
        style.marks(panel, of_model, y=positions, label=model, **{"markersize": 5, **look, **changes})


def _shares(panel: Axes, removed: pd.DataFrame, table: pd.DataFrame, treatments: list[Shown]) -> None:
    """Draw the share of the variance that treatments take out, and as open marks how much of it is positional."""
    _marks(panel, removed, removed, table, treatments)
    split = style.metric_rows(table, ANALYSIS, POSITION_SHARE)
    split = preferred_rows(split[split["outcome"] == "remove-top"]) if len(split) else split
    _marks(panel, split, removed, table, treatments, markerfacecolor="white", elinewidth=0.8)
    panel.set_title("taken out", fontsize=10, loc="left")
    panel.set_xlabel("share of the variance" + ("\n(open: of it positional)" if len(split) else ""))
    panel.set_xlim(-0.05, 1.05)


def overlaps(table: pd.DataFrame, results: list[tuple[str, Result]]) -> Figure | None:
    """Return a square of numbers a model: the overlap of what every two treatments take out."""
    rows = style.metric_rows(table, ANALYSIS, REMOVED_OVERLAP)
    if rows.empty:
        return None
    rows = preferred_rows(rows)
    labels = list(dict.fromkeys([*_labels(rows), *rows["reference"].astype(str)]))
    models = [model for model, *_ in style.by_model(rows, table)]
    size = (0.75 * len(labels) * len(models) + 2.6, 0.5 * len(labels) + 1.9)
    drawn, [panels] = style.new_figure(size, len(models), sharey=True)
    for panel, model in zip(panels, models, strict=True):
        part = rows[rows["model"] == model]
        squares = np.full((len(labels), len(labels)), np.nan)
        for one, other, value in zip(_labels(part), part["reference"], style.numbers(part, "value"), strict=True):
            squares[labels.index(one), labels.index(other)] = squares[labels.index(other), labels.index(one)] = value
        panel.imshow(squares, cmap="Blues", vmin=0.0, vmax=1.0, aspect="auto")
        for (row, column), value in np.ndenumerate(squares):
            if np.isfinite(value):
                colour = "white" if value > 0.6 else "black"
                panel.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=8, color=colour)
        panel.set_xticks(range(len(labels)), [one.replace("remove-", "") for one in labels], rotation=30, ha="right")
        panel.set_yticks(range(len(labels)), labels)
        panel.tick_params(labelsize=8)
        panel.grid(visible=False)
        panel.set_title(style.wrapped(model, 40), fontsize=9, loc="left")
    style.name_conditions(drawn, rows)
    return drawn


def _labels(rows: pd.DataFrame) -> list[str]:
    """Return the treatment of every row in the words of the column ``reference``."""
    draws = [
        f" draw {value:g}" if name == "draw" else ""
        for name, value in zip(rows["x_name"].fillna(""), rows["x_value"], strict=True)
    ]
    return [
        " ".join([name, *(f"{number:g}" for number in (m, value) if number is not None)]) + draw
        for (name, m, value), draw in zip(_treatments(rows), draws, strict=True)
    ]


def _treatments(rows: pd.DataFrame) -> list[Shown]:
    """Return outcome, m and number of every row."""
    removed = [None if pd.isna(m) else int(m) for m in rows["m"]]
    numbers = [
        None if pd.isna(value) or name == "draw" else float(value)
        for name, value in zip(rows["x_name"], rows["x_value"], strict=True)
    ]
    return list(zip(rows["outcome"].astype(str), removed, numbers, strict=True))


def _number(name: str, m: int | None, number: float | None) -> str:
    """Return the number of a treatment in brackets."""
    if m is not None:
        return f" (m = {m})"
    if number is None:
        return ""
    return f" ({number:g} MAD)" if name == "drop-outlier-tokens" else f" ({number:g})"


def _titles(rows: pd.DataFrame) -> dict[str, str]:
    """Return the title of every outcome; the rows' parameters name the experiments whose rankings were used."""
    parameters = [json.loads(text) for text in rows["params"].dropna().unique()]
    experiments = {experiment for one in parameters for experiment, _ in one.get("others_train", [])}
    others = {
        Treatment("remove-other", experiment=name).outcome: OTHER_EXPERIMENTS.format(name.replace("$", r"\$"))
        for name in experiments
    }
    return TITLES | others
