"""Whole videos joined to tracks by features alone: HOTA, IDF1 and identity switches (beyond A-16 of paper A)."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from evaluate.figures.style import cells, error_bars, last_array, legend_above, looks, new_figure, numbers
from evaluate.results.table import Result

PANELS = {"hota": "HOTA", "idf1": "IDF1", "id_switches": "identity switches"}


def figure(table: pd.DataFrame, answers: list[tuple[str, Result]]) -> Figure | None:
    """Return one panel a score: a place an m, a mark a model with its interval."""
    asked = last_array(table[table["analysis"] == "association"])
    if asked.empty:
        return None
    removed = sorted({int(m) for m in asked["m"]})
    models = list(dict.fromkeys(asked["model"]))
    styles = looks(table)
    drawn, panels = new_figure(max(7.2, 3 * (0.9 * len(removed) + 1.2)), 3.4, len(PANELS))
    for panel, (metric, title) in zip(panels, PANELS.items(), strict=True):
        rows = cells(asked, metric)
        for place, model in enumerate(models):
            part = rows[rows["model"] == model].sort_values("m")
            positions = np.array([removed.index(int(m)) for m in part["m"]], dtype=float)
            positions += (place - (len(models) - 1) / 2) * 0.6 / len(models)
            look = {**styles[str(model)], "linestyle": "none"}
            panel.errorbar(
                positions, numbers(part, "value"), yerr=error_bars(part), label=str(model), markersize=5.5,
                elinewidth=1.2, **look,
            )  # fmt: skip
        panel.set_title(title, fontsize=10, loc="left")
        panel.set_xticks(range(len(removed)), ["all" if m == 0 else f"less top {m}" for m in removed])
        panel.set_xlim(-0.6, len(removed) - 0.4)
        panel.set_xlabel("features")
        if metric == "id_switches":
            panel.set_ylim(bottom=min(0.0, panel.get_ylim()[0]))
        else:
            panel.set_ylim(0.0, 1.03)
    legend_above(drawn, panels[0])
    return drawn
