"""Accuracy of finding an object again against the gap: paper A, section 3.4 and Fig. 7 (A-16, A-17)."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from evaluate.figures.style import cells, last_array, looks, new_figure, numbers
from evaluate.results.table import Result


def figure(table: pd.DataFrame, answers: list[tuple[str, Result]]) -> Figure | None:
    """Return one panel an m: the right object solid, the right category dashed, chance dotted, seconds above."""
    asked = last_array(table[table["analysis"] == "tracking"])
    instance = cells(asked, "instance_accuracy")
    if instance.empty:
        return None
    category, chance, seconds = (cells(asked, name) for name in ("category_accuracy", "chance", "gap_seconds"))
    removed = sorted({int(m) for m in instance["m"]})
    styles = looks(table)
    drawn, panels = new_figure(max(5.2, 3.6 * len(removed) + 0.6), 4.4, len(removed), sharey=True)
    for panel, m in zip(panels, removed, strict=True):
        for model, part in instance[instance["m"] == m].groupby("model", sort=False):
            look = styles[str(model)]
            for rows, dash, face in ((part, "-", look["color"]), (category, (0, (4, 2)), "white")):
                line = rows[(rows["model"] == model) & (rows["m"] == m)].sort_values("x_value")
                at = numbers(line, "x_value")
                panel.plot(
                    at, numbers(line, "value"), linestyle=dash, color=look["color"], marker=look["marker"],
                    markerfacecolor=face, markersize=4.5, linewidth=1.5,
                )  # fmt: skip
                panel.fill_between(at, numbers(line, "low"), numbers(line, "high"), color=look["color"], alpha=0.12)
        level = chance[chance["m"] == m].drop_duplicates("x_value").sort_values("x_value")
        panel.plot(numbers(level, "x_value"), numbers(level, "value"), ":", color="#555555", linewidth=1.5)
        panel.set_ylim(0.0, 1.03)
        panel.set_xlabel("gap in annotated frames")
        panel.set_title("all features" if m == 0 else f"without top {m}", fontsize=10, loc="left")
        _seconds(panel, seconds[seconds["m"] == m].drop_duplicates("x_value"))
    panels[0].set_ylabel("accuracy")
    handles = [
        Line2D([], [], color=styles[str(model)]["color"], marker=styles[str(model)]["marker"], label=str(model))
        for model in dict.fromkeys(instance["model"])
    ]
    handles += [
        Line2D([], [], color="#333333", label="same object"),
        Line2D([], [], color="#333333", linestyle=(0, (4, 2)), label="same category"),
        Line2D([], [], color="#555555", linestyle=":", label="chance, same object"),
    ]
    fitting = max(1, int(drawn.get_figwidth() / 2.4))
    drawn.legend(handles=handles, loc="outside upper left", ncols=fitting, frameon=False)
    return drawn


def _seconds(panel: Axes, rows: pd.DataFrame) -> None:
    """Put the mean seconds of the gaps above the panel, where videos say when their frames are."""

    gaps, seconds = numbers(rows, "x_value"), numbers(rows, "value")
    known = np.isfinite(seconds) & (seconds > 0)
    if not known.any():
        return
    rate = float((seconds[known] / gaps[known]).mean())
    above = panel.secondary_xaxis(
        "top", functions=(lambda gap: np.asarray(gap) * rate, lambda second: np.asarray(second) / rate)
    )
    above.set_xlabel("seconds (mean)", fontsize=9)
    above.tick_params(labelsize=8)
