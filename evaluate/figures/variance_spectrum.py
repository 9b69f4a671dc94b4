"""Variance of every feature against its rank, both axes logarithmic: paper A, Fig. 1a."""

import pandas as pd
from matplotlib.figure import Figure

from evaluate.figures import style
from evaluate.results.metrics import VARIANCE
from evaluate.results.preferred import preferred_rows
from evaluate.results.table import Result


def figure(table: pd.DataFrame, results: list[tuple[str, Result]]) -> Figure | None:
    """Return the spectra of all models, of the last array of each."""
    rows = style.metric_rows(table, "variance-spectrum", VARIANCE)
    if rows.empty:
        return None
    rows = preferred_rows(rows)
    drawn, [[axes]] = style.new_figure((6.4, 4.2))
    for model, look, _, part in style.by_model(rows, table):
        part, line = part.sort_values("x_value"), {**look, "marker": None, "linewidth": 1.8}
        axes.plot(style.numbers(part, "x_value"), style.numbers(part, "value"), label=model, **line)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("feature, by decreasing variance (rank)")
    axes.set_ylabel("variance over patch tokens")
    style.legend_above(drawn, axes)
    style.name_conditions(drawn, rows)
    return drawn
