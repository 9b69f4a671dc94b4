"""Accuracy of image nearest neighbours against relative ground distance: paper A, section 3.5 and Fig. 8 (A-18)."""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from evaluate.figures.style import cells, last_array, looks, new_figure, numbers
from evaluate.results.table import Result

TOKENS = {"class-token": "class token", "mean-patch": "mean patch"}


def figure(table: pd.DataFrame, answers: list[tuple[str, Result]]) -> Figure | None:
    """Return one panel a model; class token and mean patch, each with all features and without the top m."""
    rows = cells(table[table["analysis"] == "image-knn"], "image_accuracy")
    if rows.empty:
        return None
    rows = last_array(rows)
    styles = looks(table)
    models = list(dict.fromkeys(rows["model"]))
    drawn, panels = new_figure(max(5.0, 3.4 * len(models) + 0.6), 4.2, len(models), sharey=True)
    most = int(rows["m"].max())
    for panel, model in zip(panels, models, strict=True):
        colour = styles[str(model)]["color"]
        for (pooled, m), part in rows[rows["model"] == model].groupby(["token", "m"], sort=False):
            line = part.sort_values("x_value")
            at = numbers(line, "x_value")
            marker, face = "os"[pooled == "mean-patch"], colour if m == 0 else "white"
            panel.plot(
                at, numbers(line, "value"), color=colour, marker=marker, markerfacecolor=face, markersize=5,
                linestyle="-" if m == 0 else "--", linewidth=1.5,
            )  # fmt: skip
            panel.fill_between(at, numbers(line, "low"), numbers(line, "high"), color=colour, alpha=0.1, linewidth=0)
        panel.set_title(str(model), fontsize=10, loc="left")
        panel.set_xlabel("relative ground distance (size seen / native)", fontsize=9)
        panel.set_xlim(left=0.0)
    panels[0].set_ylabel("accuracy of images")
    handles = [
        Line2D([], [], color="#333333", marker="os"[pooled == "mean-patch"], markerfacecolor=face,
               linestyle="--" if words else "-", label=TOKENS[pooled] + words)
        for pooled in TOKENS
        for face, words in (("#333333", ""), ("white", f", without top {most}"))
        if (rows["token"] == pooled).any() and (not words or most)
    ]  # fmt: skip
    drawn.legend(handles=handles, loc="outside upper left", ncols=2, frameon=False)
    return drawn
