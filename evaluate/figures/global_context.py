"""R² of class shares predicted from the central patch, with features left out: paper A, section 4, Table 6 (A-20)."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from evaluate.figures import style
from evaluate.results.metrics import R2
from evaluate.results.preferred import preferred_rows
from evaluate.results.table import Result

VARIANTS = {
    "all": "all features",
    "without-top": "without\ntop {m}",
    "without-random": "without\n{m} random",
    "random-alone": "{m} random\nalone",
    "top-alone": "top {m}\nalone",
}


def figure(table: pd.DataFrame, results: list[tuple[str, Result]]) -> Figure | None:
    """Return the mean R² of every variant with its interval; random choices are a dot each."""
    rows = style.metric_rows(table, "global-context", R2)
    if rows.empty:
        return None
    rows = preferred_rows(rows)
    variants = [name for name in VARIANTS if (rows["outcome"] == name).any()]
    m = int(rows["m"].max())
    drawn, [[axes]] = style.new_figure((6.0, 3.9))
    for model, look, shift, part in style.by_model(rows, table):
        positions = np.array([variants.index(str(name)) for name in part["outcome"]], dtype=float) + 0.7 * shift
        style.marks(axes, part, x=positions, label=model, markersize=6, **look)
    axes.set_xticks(range(len(variants)), [VARIANTS[name].format(m=m) for name in variants])
    axes.set_xlim(-0.5, len(variants) - 0.5)
    axes.axhline(0.0, color="#555555", linewidth=0.8)
    axes.set_ylabel("R², mean over classes")
    style.legend_above(drawn, axes)
    style.name_conditions(drawn, rows)
    return drawn
