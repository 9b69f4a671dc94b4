"""mIoU under a view against clean mIoU: paper A, section 3.2 and Fig. 4 (experiment A-10)."""

import pandas as pd
from matplotlib.figure import Figure

from evaluate.figures.removal_curve import NAMES
from evaluate.figures.style import cells, grid_figure, last_array, legend_above, looks, numbers
from evaluate.results.table import Result

KEPT = (1.0, 0.8, 0.6, 0.4, 0.2)
"""Shares of the clean score that the grey diagonals stand for."""


def figure(table: pd.DataFrame, answers: list[tuple[str, Result]]) -> Figure | None:
    """Return one row a classifier and m, one panel a view; a model is a vertical line with a dot a level."""
    rows = cells(table[table["analysis"] == "robustness"], "patch_miou")
    if rows.empty:
        return None
    rows = last_array(rows)
    lines = sorted(
        {(str(name), int(m)) for name, m in zip(rows["classifier"], rows["m"], strict=True)},
        key=lambda line: (list(NAMES).index(line[0]), line[1]),
    )
    views = [str(view) for view in dict.fromkeys(rows["view"]) if view != "clean"]
    styles = looks(table)
    largest = float(rows["value"].max()) * 1.1 or 1.0
    size = max(2.6 * len(views) + 0.6, 4.6), 2.7 * len(lines) + 0.9
    drawn, axes = grid_figure(*size, len(lines), len(views), sharex=True, sharey=True)
    for line, (classifier, m) in zip(axes, lines, strict=True):
        here = rows[(rows["classifier"] == classifier) & (rows["m"] == m)]
        for panel, view in zip(line, views, strict=True):
            for share in KEPT:
                panel.plot([0.0, largest], [0.0, share * largest], color="#bbbbbb", linewidth=0.8, zorder=0)
            for model, part in here.groupby("model", sort=False):
                clean = float(part.loc[part["view"] == "clean", "value"].iloc[0])
                under = part[part["view"] == view].sort_values("level")
                look = styles[str(model)]
                scores = [clean, *numbers(under, "value")]
                positions = [clean] * len(scores)
                panel.plot(positions, scores, color=look["color"], linewidth=1.0)
                # Dots shrink with the level, so that the order shows where levels lie close.
                sizes = [55.0, *(45.0 - 30.0 * place / max(1, len(under) - 1) for place in range(len(under)))]
                panel.scatter(positions, scores, sizes, color=look["color"], marker=look["marker"], label=str(model))
            panel.set_xlim(0.0, largest)
            panel.set_ylim(0.0, largest)
            without = f"\nwithout top {m}" if m else ""
            panel.set_title(f"{view}, {NAMES[classifier]}{without}", fontsize=9, loc="left")
            panel.grid(visible=False)
    for panel in axes[-1]:
        panel.set_xlabel("clean mIoU")
    for line in axes:
        line[0].set_ylabel("mIoU under the view")
    legend_above(drawn, axes[0][0])
    return drawn
