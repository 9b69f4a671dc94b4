"""Accuracy of image nearest neighbours against relative ground distance: paper A, section 3.5 and Fig. 8 (A-18)."""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from evaluate.figures import style
from evaluate.results.metrics import IMAGE_ACCURACY
from evaluate.results.preferred import preferred_rows
from evaluate.results.table import Result

TOKENS = {"class-token": ("class token", "o"), "mean-patch": ("mean patch", "s")}
"""Title and marker of what stands for an image."""


def figure(table: pd.DataFrame, results: list[tuple[str, Result]]) -> Figure | None:
    """Return one panel a model; class token and mean patch, each with all features and without the top m."""
    rows = style.metric_rows(table, "image-knn", IMAGE_ACCURACY)
    if rows.empty:
        return None
    rows = preferred_rows(rows)
    models, most = style.by_model(rows, table), int(rows["m"].max())
    drawn, [panels] = style.new_figure((max(5.0, 3.4 * len(models) + 0.6), 4.2), len(models), sharey=True)
    for panel, (model, look, _, part) in zip(panels, models, strict=True):
        for (pooled, m), line in part.groupby(["token", "m"], sort=False):
            face, dash = (look["color"], "-") if m == 0 else ("white", "--")
            marker = {"marker": TOKENS[str(pooled)][1], "markerfacecolor": face, "markersize": 5}
            style.curve(panel, line, "x_value", color=look["color"], linestyle=dash, **marker)
        panel.set_title(model, fontsize=10, loc="left")
        panel.set_xlabel("relative ground distance (size seen / native)", fontsize=9)
        panel.set_xlim(left=0.0)
    panels[0].set_ylabel("accuracy of images")
    handles = [
        Line2D([], [], color="#333333", marker=marker, markerfacecolor=face,
               linestyle="--" if words else "-", label=title + words)
        for pooled, (title, marker) in TOKENS.items()
        for face, words in (("#333333", ""), ("white", f", without top {most}"))
        if (rows["token"] == pooled).any() and (not words or most)
    ]  # fmt: skip
    style.legend(drawn, handles)
    style.name_conditions(drawn, rows)
    return drawn
