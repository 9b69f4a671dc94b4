"""The main scores of an experiment, a line a model: the choice of rows, and the figure that a page begins with.

Shown are scores of patch classes where there are some, else of the first other analysis that has one number a model.
"""

from collections.abc import Set
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from evaluate.figures import style
from evaluate.figures.image_classification import TOKENS
from evaluate.results import metrics
from evaluate.results.preferred import main_train_size, preferred_rows
from evaluate.results.table import Result

SHORT = {"knn": "k-NN", "probe": "probe"}
"""Short titles of the classifiers."""
OTHERS = (
    ("in-context-segmentation", "pixel_miou", "Classes of pixels in context", "mIoU"),
    ("image-classification", metrics.IMAGE_ACCURACY, "Classes of images", "accuracy"),
    ("image-knn", metrics.IMAGE_ACCURACY, "Classes of images", "accuracy"),
    ("tracking", metrics.INSTANCE_ACCURACY, "Objects found again", "accuracy"),
    ("association", metrics.HOTA, "Objects joined to tracks", "HOTA"),
    ("object-positions", metrics.R2, "Number and place of objects", "R²"),
)
"""Analyses whose numbers lead a page without scores of patch classes, the first that there is: metric, words, unit."""
LINE = 0.36
"""Height of a model's line, in inches."""
TEXT_LINE = 0.19
"""Height of a line of its title, where that is broken into several."""


class MainScore(NamedTuple):
    """One score, of some or all models."""

    title: str
    """Title of its column."""
    words: str
    """What is scored, in a sentence."""
    unit: str
    """Name of the number."""
    rows: pd.DataFrame
    """One row a model."""
    note: str = ""
    """What each model's number is of, where it is not the same for all: ``{m}`` is its m."""


def patch_scores(table: pd.DataFrame) -> list[MainScore]:
    """Return mIoU of patches by each classifier, of all features and with the most removed; rows may be none.

    Layer, k and training size are those of figures and claims; all models of a score have the same m where there is
    one that they share, if possible one whose share of variance is known too.
    """
    shares = style.metric_rows(table, "variance-spectrum", metrics.SHARE_OF_VARIANCE)
    rows = style.metric_rows(table, "patch-classification", metrics.PATCH_MIOU)
    rows = preferred_rows(rows[rows["m"].notna()], n_train=main_train_size(table))
    rows = rows[rows["value"].notna()]
    found = []
    for classifier, name in style.CLASSIFIERS.items():
        some = rows[rows["classifier"] == classifier]
        by = f"by {'a linear probe' if classifier == 'probe' else name}"
        title = f"{SHORT[classifier]} mIoU"
        found.append(MainScore(f"{title}, all features", f"Patch classes {by}", "mIoU", some[some["m"] == 0]))
        removed, m = same_m(some[some["m"] > 0], set(shares["m"].dropna()))
        what = f"top {m} removed" if m is not None else "most removed (m in each cell)"
        note = "top {m} removed" if m is None else ""
        found.append(MainScore(f"{title}, {what}", f"Patch classes {by}, {what}", "mIoU", removed, note))
    return found


def main_scores(table: pd.DataFrame) -> list[MainScore]:
    """Return the scores that lead a page, each with a row of some model; none where no analysis has such a number."""
    found = [score for score in patch_scores(table) if not score.rows.empty]
    for analysis, metric, words, unit in OTHERS:
        if found:
            break
        rows = style.metric_rows(table, analysis, metric)
        rows = rows[rows["value"].notna() & (rows["m"].isna() | (rows["m"] == rows["m"].min()))]
        several = rows["token"].nunique() > 1
        by = ["classifier", "outcome", "token"]
        for (classifier, outcome, token), some in rows.groupby(by, sort=False, dropna=False):
            parts = [words, style.CLASSIFIERS.get(str(classifier), ""), "" if pd.isna(outcome) else str(outcome)]
            parts += [TOKENS.get(str(token), str(token))] if several else []
            named = ", ".join(part for part in parts if part)
            found.append(MainScore(f"{named} ({unit})", named, unit, _one_a_model(preferred_rows(some))))
    return found[:4]


def same_m(rows: pd.DataFrame, preferred: Set[int] = frozenset()) -> tuple[pd.DataFrame, int | None]:
    """Return the rows of the largest m that all models of ``rows`` have, and that m.

    Where they share none, each model's rows of its own largest m, and None.

    Args:
        rows: one row a model and m.
        preferred: m among which the largest is taken where all models have one of them.
    """
    by_model = [set(part["m"]) for _, part in rows.groupby("model")]
    if shared := set.intersection(*by_model) if by_model else set():
        m = max(shared & preferred or shared)
        return rows[rows["m"] == m], int(m)
    return rows[rows["m"] == rows.groupby("model")["m"].transform("max")], None


def _one_a_model(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the row of each model with the smallest gap between frames, or the relative ground distance nearest 1."""
    distance = (rows["x_value"].astype("Float64") - 1.0).abs().fillna(0.0)
    return rows.loc[distance.sort_values(kind="stable").index].drop_duplicates("model").sort_index()


def figure(table: pd.DataFrame, results: list[tuple[str, Result]]) -> Figure | None:
    """Return a panel a score: a line a model, its mark with the interval, and what the most common class would get."""
    scores = main_scores(table)
    if not scores:
        return None
    models = [model for model in dict.fromkeys(table["model"].dropna()) if _has(scores, model)]
    titles = [style.wrapped(model, 34) for model in models]
    height = max(LINE, TEXT_LINE * max(title.count("\n") + 1 for title in titles))
    size = 2.2 + 2.3 * len(scores), height * len(models) + 1.3
    drawn, [panels] = style.new_figure((max(6.4, size[0]), size[1]), len(scores), sharex=True, sharey=True)
    majority = style.metric_rows(table, "patch-classification", metrics.MAJORITY_MIOU).drop_duplicates("model")
    is_of_patches = (scores[0].rows["metric"] == metrics.PATCH_MIOU).all()
    majority = majority[majority["value"].notna()] if is_of_patches else majority.iloc[:0]
    for panel, score in zip(panels, scores, strict=True):
        for model, look, _, part in style.by_model(score.rows, table):
            place = np.array([float(models.index(model))])
            style.marks(panel, part.iloc[:1], y=place, markersize=6, **look)
        for model, value in zip(majority["model"], style.numbers(majority, "value"), strict=True):
            if model in models:
                panel.plot([value], [models.index(model)], marker="|", markersize=13, color="#777777")
        panel.set_title(style.wrapped(score.title.replace(", ", ",\n", 1), 30), fontsize=10, loc="left")
        panel.set_yticks(range(len(models)), titles)
        panel.set_ylim(len(models) - 0.5, -0.5)
        panel.grid(visible=False, axis="y")
    low, high = panels[0].get_xlim()
    panels[0].set_xlim(min(0.0, low), max(0.0, high))
    if not majority.empty:
        line = Line2D([], [], linestyle="none", marker="|", markersize=11, color="#777777", label="most common class")
        style.legend(drawn, [line], fontsize=9)
    style.name_conditions(drawn, pd.concat([score.rows for score in scores]))
    return drawn


def _has(scores: list[MainScore], model: object) -> bool:
    return any((score.rows["model"] == model).any() for score in scores)
