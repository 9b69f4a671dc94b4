"""Whole videos joined to tracks by features alone: HOTA, IDF1 and identity switches (beyond A-16 of paper A)."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from evaluate.figures import style
from evaluate.results.metrics import HOTA, ID_SWITCHES, IDF1
from evaluate.results.preferred import preferred_rows
from evaluate.results.table import Result

PANELS = {HOTA: "HOTA", IDF1: "IDF1", ID_SWITCHES: "identity switches"}


def figure(table: pd.DataFrame, results: list[tuple[str, Result]]) -> Figure | None:
    """Return one panel a metric: a position an m, a mark a model with its interval."""
    shown = preferred_rows(table[table["analysis"] == "association"])
    if shown.empty:
        return None
    removed = style.counts(shown, "m")
    drawn, [panels] = style.new_figure((max(7.2, 3 * (0.9 * len(removed) + 1.2)), 3.4), len(PANELS))
    for panel, (metric, title) in zip(panels, PANELS.items(), strict=True):
        for model, look, shift, part in style.by_model(shown, table):
            rows = style.metric_rows(part, "association", metric).sort_values("m")
            positions = np.array([removed.index(int(m)) for m in rows["m"]], dtype=float) + 0.6 * shift
            style.marks(panel, rows, x=positions, label=model, markersize=5.5, **look)
        panel.set_title(title, fontsize=10, loc="left")
        panel.set_xticks(range(len(removed)), ["all" if m == 0 else f"less top {m}" for m in removed])
        panel.set_xlim(-0.6, len(removed) - 0.4)
        panel.set_xlabel("features")
        if metric == ID_SWITCHES:
            panel.set_ylim(bottom=min(0.0, panel.get_ylim()[0]))
        else:
            panel.set_ylim(0.0, 1.03)
    style.legend_above(drawn, panels[0])
    style.name_conditions(drawn, shown)
    return drawn
