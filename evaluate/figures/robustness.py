"""mIoU under a view against clean mIoU: paper A, section 3.2 and Fig. 4 (experiment A-10)."""

import pandas as pd
from matplotlib.figure import Figure

from evaluate.figures import style
from evaluate.results.metrics import PATCH_MIOU
from evaluate.results.preferred import preferred_rows
from evaluate.results.table import Result

KEPT = (1.0, 0.8, 0.6, 0.4, 0.2)
"""Shares of the clean score that the grey diagonals stand for."""


def figure(table: pd.DataFrame, results: list[tuple[str, Result]]) -> Figure | None:
    """Return one row a classifier and m, one panel a view; a model is a vertical line with a dot a level."""
    rows = style.metric_rows(table, "robustness", PATCH_MIOU)
    if rows.empty:
        return None
    rows = preferred_rows(rows)
    lines = sorted(
        {(str(name), int(m)) for name, m in zip(rows["classifier"], rows["m"], strict=True)},
        key=lambda line: (list(style.CLASSIFIERS).index(line[0]), line[1]),
    )
    views = [str(view) for view in dict.fromkeys(rows["view"]) if view != "clean"]
    largest = float(rows["value"].max()) * 1.1 or 1.0
    size = max(2.6 * len(views) + 0.6, 4.6), 2.7 * len(lines) + 0.9
    drawn, axes = style.new_figure(size, len(views), len(lines), sharex=True, sharey=True)
    for line, (classifier, m) in zip(axes, lines, strict=True):
        here = rows[(rows["classifier"] == classifier) & (rows["m"] == m)]
        for panel, view in zip(line, views, strict=True):
            for share in KEPT:
                panel.plot([0.0, largest], [0.0, share * largest], color="#bbbbbb", linewidth=0.8, zorder=0)
            for model, look, _, part in style.by_model(here, table):
                clean = float(part.loc[part["view"] == "clean", "value"].iloc[0])
                under = part[part["view"] == view].sort_values("level")
                scores = [clean, *style.numbers(under, "value")]
                positions = [clean] * len(scores)
                panel.plot(positions, scores, color=look["color"], linewidth=1.0)
                # Dots shrink with the level, so that the order shows where levels lie close.
                sizes = [55.0, *(45.0 - 30.0 * index / max(1, len(under) - 1) for index in range(len(under)))]
                panel.scatter(
                    positions, scores, sizes, color=look["color"], marker=look["marker"], label=model, clip_on=False
                )
            panel.set_xlim(0.0, largest)
            panel.set_ylim(0.0, largest)
            without = f"\nwithout top {m}" if m else ""
            panel.set_title(f"{view}, {style.CLASSIFIERS[classifier]}{without}", fontsize=9, loc="left")
            panel.grid(visible=False)
    for panel in axes[-1]:
        panel.set_xlabel("clean mIoU")
    for line in axes:
        line[0].set_ylabel("mIoU under the view")
    style.legend_above(drawn, axes[0][0])
    style.name_conditions(drawn, rows)
    return drawn
