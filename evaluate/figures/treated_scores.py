"""Removing the top m beside its alternatives: the main score of every analysis that treated features too."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from evaluate.figures import style
from evaluate.figures.feature_treatments import treatment_title
from evaluate.results import metrics
from evaluate.results.preferred import preferred_rows
from evaluate.results.table import Result

MAIN = {
    "patch-classification": (metrics.PATCH_MIOU, "patches", "mIoU of patches"),
    "label-maps": (metrics.PATCH_ACCURACY, "label maps", "mean accuracy of patches"),
    "in-context-segmentation": ("pixel_miou", "in-context segmentation", "mIoU of pixels"),
    "robustness": (metrics.PATCH_MIOU, "robustness", "mIoU of patches"),
    "retrieval": (metrics.SHARE, "retrieval", "share of queries"),
    "tracking": (metrics.INSTANCE_ACCURACY, "tracking", "share of objects found again"),
    "association": (metrics.HOTA, "association", "HOTA"),
    "image-knn": (metrics.IMAGE_ACCURACY, "whole images", "accuracy of images"),
}
"""Main score of every analysis that treats features, the title of its panels, and the axis."""
TOKENS = {"class-token": "class token", "mean-patch": "mean of patch tokens"}
MOST_COLUMNS = 3
"""Panels side by side."""
ROW = 0.13, 0.14
"""Height of a line, and what every model adds to it, in inches."""


class Panel(NamedTuple):
    """The rows of one panel."""

    title: str
    axis: str
    rows: pd.DataFrame


def figure(table: pd.DataFrame, results: list[tuple[str, Result]]) -> Figure | None:
    """Return a panel a score, with a line for all features, for every m and for every treatment, and a mark a model.

    A vertical line is the model's score with all features.
    """
    panels = [panel for analysis in MAIN for panel in _panels(table, analysis)]
    if not panels:
        return None
    every = pd.concat([panel.rows for panel in panels])
    removed = style.counts(every[every["m"].notna()], "m")
    treatments = list(dict.fromkeys(every["treatment"].dropna()))
    models = [(model, look, shift) for model, look, shift, _ in style.by_model(every, table)]
    n_lines, n_columns = len(removed) + len(treatments), min(MOST_COLUMNS, len(panels))
    n_rows = -(-len(panels) // n_columns)
    height = n_rows * (0.85 + n_lines * (ROW[0] + ROW[1] * len(models))) + 0.7
    drawn, axes = style.new_figure((2.5 * n_columns + 2.4, height), n_columns, n_rows, sharey=True)
    for axis, panel in zip(axes.flat, panels, strict=False):
        for model, look, shift in models:
            rows = panel.rows[panel.rows["model"] == model]
            _draw_model(axis, rows, removed, treatments, shift, label=model, **look)
        if removed and treatments:
            axis.axhline(len(removed) - 0.5, color="#bbbbbb", linewidth=0.8)
        axis.set_title(style.wrapped(panel.title, 30), fontsize=9, loc="left")
        axis.set_xlabel(panel.axis, fontsize=9)
        axis.margins(x=0.1)
        axis.locator_params(axis="x", nbins=5)
    for axis in axes.flat[len(panels) :]:
        axis.set_axis_off()
    names = [style.removal_title(m) for m in removed] + [treatment_title(one) for one in treatments]
    axes.flat[0].set_yticks(range(n_lines), names)
    axes.flat[0].set_ylim(n_lines - 0.5, -0.5)
    style.legend_above(drawn, axes.flat[0])
    style.name_conditions(drawn, every.assign(m=every["m"].mask(every["m"].notna())))
    return drawn


def _draw_model(
    axis: Axes, rows: pd.DataFrame, removed: list[int], treatments: list[str], shift: float, **look: object
) -> None:
    """Draw the marks of one model, and its score with all features as a vertical line."""
    whole = style.numbers(rows[rows["m"] == 0], "value")
    if len(whole):
        axis.axvline(whole[0], color=str(look["color"]), linewidth=0.9, alpha=0.45, zorder=0.5)
    lines = [
        removed.index(int(m)) if pd.isna(treatment) else len(removed) + treatments.index(treatment)
        for m, treatment in zip(rows["m"], rows["treatment"], strict=True)
    ]
    style.marks(axis, rows, y=[line + 0.7 * shift for line in lines], **{**look, "markersize": 5})


def _panels(table: pd.DataFrame, analysis: str) -> Iterator[Panel]:
    """Yield the panels of one analysis: one a classifier, kind of vector or view; none where nothing was treated."""
    metric, title, axis = MAIN[analysis]
    rows = style.metric_rows(table, analysis, metric)
    rows = rows[(rows["m"].notna() | rows["treatment"].notna()) & rows["value"].notna()]
    if rows["treatment"].isna().all():
        return
    rows = preferred_rows(rows)
    if analysis == "label-maps":
        rows = _mean_of_images(rows)
    elif analysis == "tracking":
        gap = rows["x_value"].max()
        rows, title = rows[rows["x_value"] == gap], f"{title}, {gap:g} frames later"
    elif analysis == "image-knn":
        rows = rows[rows["view"] == "clean"]
    elif analysis == "retrieval":
        within = rows["reference"] == "nothing left out"
        found = (within & (rows["outcome"] == "same-patch")) if within.any() else rows["outcome"] == "same-category"
        rows, axis = rows[found], "queries that find " + ("themselves" if within.any() else "their category")
        rows = rows[rows["reference"] == rows["reference"].iloc[0]] if len(rows) else rows
    if analysis in ("retrieval", "robustness"):
        rows = _last_levels(rows[rows["view"] != "clean"])
    apart = [name for name in ("classifier", "token", "view") if rows[name].nunique() > 1 or name == "view"]
    for _, part in rows.groupby(apart, sort=False, dropna=False):
        yield Panel(", ".join([title, *_words(part.iloc[0], apart)]), axis, part)


def _words(row: "pd.Series[Any]", apart: list[str]) -> Iterator[str]:
    """Yield what tells a panel from the others of its analysis."""
    if "classifier" in apart:
        yield style.CLASSIFIERS.get(str(row["classifier"]), str(row["classifier"]))
    if "token" in apart:
        yield TOKENS.get(str(row["token"]), str(row["token"]))
    if row["view"] != "clean":
        yield f"{row['view']} {row['level']:g}"


def _mean_of_images(rows: pd.DataFrame) -> pd.DataFrame:
    """Return one row a model, classifier and line: the mean of the images that are shown, without an interval."""
    by = ["model", "classifier", "m", "treatment"]
    means = rows.groupby(by, sort=False, dropna=False)["value"].transform("mean")
    return rows.assign(value=means).drop_duplicates(by)


def _last_levels(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of every view at the last of its levels."""
    last = rows.groupby("view", sort=False)["level"].transform("last")
    return rows[(rows["level"] == last) | last.isna()]
