"""Variance of every feature against its rank, both axes logarithmic: paper A, Fig. 1a."""

import pandas as pd
from matplotlib.figure import Figure

from evaluate.figures.style import cells, legend_above, looks, new_figure
from evaluate.results.table import Result


def figure(table: pd.DataFrame, answers: list[tuple[str, Result]]) -> Figure | None:
    """Return the spectra of all models, of the innermost to the last array that was asked for."""
    rows = cells(table[table["analysis"] == "variance-spectrum"], "variance")
    if rows.empty:
        return None
    styles = looks(table)
    drawn, (axes,) = new_figure(6.4, 4.2)
    for model, part in rows.groupby("model", sort=False):
        last = part[part["array"] == part["array"].iloc[-1]].sort_values("x_value")
        variance = last["value"].to_numpy(dtype=float)
        look = {**styles[str(model)], "marker": None}
        axes.plot(last["x_value"].to_numpy(dtype=float), variance, label=str(model), linewidth=1.8, **look)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("feature, by decreasing variance (rank)")
    axes.set_ylabel("variance over patch tokens")
    legend_above(drawn, axes)
    return drawn
