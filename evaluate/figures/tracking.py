"""Accuracy of finding an object again against the gap: paper A, section 3.4 and Fig. 7 (A-16, A-17)."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from evaluate.figures import style
from evaluate.results.metrics import CATEGORY_ACCURACY, CHANCE, GAP_SECONDS, INSTANCE_ACCURACY
from evaluate.results.preferred import preferred_rows
from evaluate.results.table import Result

DASHED = (0, (4, 2))


def figure(table: pd.DataFrame, results: list[tuple[str, Result]]) -> Figure | None:
    """Return one panel an m: the right object solid, the right category dashed, chance dotted, seconds above."""
    shown = preferred_rows(table[table["analysis"] == "tracking"])
    metrics = (INSTANCE_ACCURACY, CATEGORY_ACCURACY, CHANCE, GAP_SECONDS)
    instance, category, chance, seconds = (style.metric_rows(shown, "tracking", metric) for metric in metrics)
    if instance.empty:
        return None
    removed = style.counts(instance, "m")
    drawn, [panels] = style.new_figure((max(5.2, 3.6 * len(removed) + 0.6), 4.4), len(removed), sharey=True)
    for panel, m in zip(panels, removed, strict=True):
        for model, look, _, part in style.by_model(instance[instance["m"] == m], table):
            for rows, dash, face in ((part, "-", look["color"]), (category, DASHED, "white")):
                line = rows[(rows["model"] == model) & (rows["m"] == m)]
                style.curve(panel, line, "x_value", **{**look, "linestyle": dash, "markerfacecolor": face})
        level = chance[chance["m"] == m].drop_duplicates("x_value").sort_values("x_value")
        panel.plot(style.numbers(level, "x_value"), style.numbers(level, "value"), ":", color="#555555", linewidth=1.5)
        panel.set_ylim(0.0, 1.03)
        panel.set_xlabel("gap in annotated frames")
        panel.set_title(style.removal_title(m), fontsize=10, loc="left")
        _seconds(panel, seconds[seconds["m"] == m].drop_duplicates("x_value"))
    panels[0].set_ylabel("accuracy")
    handles = [
        Line2D([], [], color=look["color"], marker=look["marker"], label=model)
        for model, look, *_ in style.by_model(instance, table)
    ]
    handles += [
        Line2D([], [], color="#333333", label="same object"),
        Line2D([], [], color="#333333", linestyle=DASHED, label="same category"),
        Line2D([], [], color="#555555", linestyle=":", label="chance, same object"),
    ]
    style.legend(drawn, handles)
    style.name_conditions(drawn, instance)
    return drawn


def _seconds(panel: Axes, rows: pd.DataFrame) -> None:
    """Put the mean seconds of the gaps above the panel, where videos say when their frames are."""
    gaps, seconds = style.numbers(rows, "x_value"), style.numbers(rows, "value")
    known = np.isfinite(seconds) & (seconds > 0)
    if not known.any():
        return
    rate = float((seconds[known] / gaps[known]).mean())
    above = panel.secondary_xaxis(
        "top", functions=(lambda gap: np.asarray(gap) * rate, lambda second: np.asarray(second) / rate)
    )
    above.set_xlabel("seconds (mean)", fontsize=9)
    above.tick_params(labelsize=8)
