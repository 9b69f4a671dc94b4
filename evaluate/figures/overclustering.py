"""Overclustering: mIoU of clusters against their number."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from evaluate.analyses.overclustering import MAJORITY, ONE_TO_ONE
from evaluate.figures import style
from evaluate.results.metrics import PATCH_MIOU
from evaluate.results.preferred import last_layer
from evaluate.results.table import Result

PANELS = {ONE_TO_ONE: "one class a cluster", MAJORITY: "most common class of each cluster"}


def figure(table: pd.DataFrame, results: list[tuple[str, Result]]) -> Figure | None:
    """Return one panel a mapping: a mark a run of k-means and model, with the interval over images."""
    rows = style.metric_rows(table, "overclustering", PATCH_MIOU)
    if rows.empty:
        return None
    rows = last_layer(rows)
    shown = [outcome for outcome in PANELS if (rows["outcome"] == outcome).any()]
    widths = [1 + rows.loc[rows["outcome"] == outcome, "k"].nunique() for outcome in shown]
    size = 1.5 * sum(widths) + 1.0, 3.7
    drawn, [panels] = style.new_figure(size, len(shown), sharey=True, gridspec_kw={"width_ratios": widths})
    for panel, outcome in zip(panels, shown, strict=True):
        some = rows[rows["outcome"] == outcome]
        counts = style.counts(some, "k")
        for model, look, shift, part in style.by_model(some, table):
            draws = style.numbers(part, "x_value")
            spread = 0.12 * (draws - draws.mean()) / max(1.0, float(draws.max()))
            places = np.array([counts.index(int(k)) for k in part["k"]]) + 0.6 * shift + spread
            style.marks(panel, part, x=places, label=model, **{**look, "markersize": 4})
        panel.set_xlim(-0.6, len(counts) - 0.4)
        panel.set_xticks(range(len(counts)), [str(count) for count in counts])
        panel.set_title(PANELS[outcome], fontsize=10, loc="left")
        panel.set_xlabel("number of clusters")
    panels[0].set_ylabel("mIoU of patches")
    style.legend_above(drawn, panels[0])
    style.name_conditions(drawn, rows.assign(k=None))
    return drawn
