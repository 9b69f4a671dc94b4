"""How often two models predict the same class of an image, and how far their errors go together."""

import pandas as pd
from matplotlib.figure import Figure

from evaluate.figures import style
from evaluate.results.metrics import AGREEMENT, ERROR_CONSISTENCY
from evaluate.results.table import Result

PANELS = {AGREEMENT: "same class, share of images", ERROR_CONSISTENCY: "error consistency (0 is chance)"}


def figure(table: pd.DataFrame, results: list[tuple[str, Result]]) -> Figure | None:
    """Return two panels with a mark and interval for every pair of models."""
    by_metric = {metric: style.metric_rows(table, "agreement", metric) for metric in PANELS}
    pairs = list(dict.fromkeys(by_metric[AGREEMENT][["model", "reference"]].itertuples(index=False, name=None)))
    if not pairs:
        return None
    drawn, [panels] = style.new_figure((8.2, 0.42 * len(pairs) + 1.3), 2, sharey=True)
    for panel, (metric, title) in zip(panels, PANELS.items(), strict=True):
        rows = by_metric[metric]
        places = [pairs.index((model, other)) for model, other in zip(rows["model"], rows["reference"], strict=True)]
        style.marks(panel, rows, y=places, color=style.COLOURS[0], marker="o", markersize=5.5)
        panel.set_xlabel(title)
        panel.set_xlim(right=1.03)
        if metric == ERROR_CONSISTENCY:
            panel.axvline(0.0, color="#888888", linewidth=0.8)
    panels[0].set_yticks(range(len(pairs)), [style.wrapped(f"{one} and {other}", 34) for one, other in pairs])
    panels[0].set_ylim(len(pairs) - 0.5, -0.5)
    style.name_conditions(drawn, by_metric[AGREEMENT])
    return drawn
