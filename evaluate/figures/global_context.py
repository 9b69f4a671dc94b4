"""What the central patch knows of the image, with features left out: paper A, section 4 and Table 6 (A-20)."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from evaluate.figures.style import cells, error_bars, last_array, legend_above, looks, new_figure, numbers
from evaluate.results.table import Result

VARIANTS = {
    "all": "all features",
    "without-top": "without\ntop {m}",
    "without-random": "without\n{m} random",
    "top-alone": "top {m}\nalone",
}


def figure(table: pd.DataFrame, answers: list[tuple[str, Result]]) -> Figure | None:
    """Return the mean R² of every variant with its interval; random choices are a dot each."""
    rows = cells(table[table["analysis"] == "global-context"], "r2")
    if rows.empty:
        return None
    rows = last_array(rows)
    variants = [name for name in VARIANTS if (rows["outcome"] == name).any()]
    m = int(rows["m"].max())
    models = list(dict.fromkeys(rows["model"]))
    styles = looks(table)
    drawn, (axes,) = new_figure(6.0, 3.9)
    for place, model in enumerate(models):
        part = rows[rows["model"] == model]
        shift = (place - (len(models) - 1) / 2) * 0.7 / max(2, len(models))
        positions = np.array([variants.index(str(name)) for name in part["outcome"]], dtype=float) + shift
        look = {**styles[str(model)], "linestyle": "none"}
        axes.errorbar(
            positions, numbers(part, "value"), yerr=error_bars(part), label=str(model), markersize=6, elinewidth=1.2,
            **look,
        )  # fmt: skip
    axes.set_xticks(range(len(variants)), [VARIANTS[name].format(m=m) for name in variants])
    axes.set_xlim(-0.5, len(variants) - 0.5)
    axes.axhline(0.0, color="#555555", linewidth=0.8)
    axes.set_ylabel("R², mean over classes")
    legend_above(drawn, axes)
    return drawn
