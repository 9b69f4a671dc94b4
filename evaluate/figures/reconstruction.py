"""How well MAE's decoder draws from features with some zeroed: paper A, Table 4 (A-19)."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from evaluate.figures.style import cells, error_bars, grid_figure, legend_above, looks, numbers
from evaluate.results.table import Result

VARIANTS = {
    "none": "none\nzeroed",
    "top": "top {m}\nzeroed",
    "random": "{m} random\nzeroed",
    "all-but-top": "all but top\n{m} zeroed",
}
SCORES = {"mse_normalised": "MSE, normalised", "psnr": "PSNR in dB", "ssim": "SSIM"}
ERRORS = {"mse_normalised"}
"""Scores that count masked patches alone."""


def figure(table: pd.DataFrame, answers: list[tuple[str, Result]]) -> Figure | None:
    """Return one row a share of masked patches and one panel a score; a bar a model and variant, a dot a draw."""
    asked = table[table["analysis"] == "reconstruction"]
    means = asked[asked["x_name"] == "mask_ratio"]
    if means.empty:
        return None
    m = int(asked["m"].max())
    asked = asked[(asked["m"] == m) | (asked["m"] == 0)]
    ratios = sorted({float(ratio) for ratio in means["x_value"]})
    models = list(dict.fromkeys(means["model"]))
    styles = looks(table)
    width = 0.8 / len(models)
    drawn, axes = grid_figure(10.6, 2.7 * len(ratios) + 0.6, len(ratios), len(SCORES), sharex=True)
    for line, ratio in zip(axes, ratios, strict=True):
        arrays = set(means[means["x_value"] == ratio]["array"])
        here = asked[asked["array"].isin(arrays)]
        for panel, (metric, title) in zip(line, SCORES.items(), strict=True):
            rows = cells(here, metric)
            for place, model in enumerate(models):
                part = rows[rows["model"] == model]
                bars, dots = (part[part["x_name"] == name] for name in ("mask_ratio", "draw"))
                shift = (place - (len(models) - 1) / 2) * width
                colour = styles[str(model)]["color"]
                look: dict[str, Any] = {"color": colour, "alpha": 0.75, "label": str(model)}
                whiskers = {"elinewidth": 1.2, "capsize": 2.0}
                panel.bar(
                    _places(bars) + shift, numbers(bars, "value"), 0.92 * width, yerr=error_bars(bars),
                    error_kw=whiskers, **look,
                )  # fmt: skip
                panel.plot(
                    _places(dots) + shift, numbers(dots, "value"), "o", markersize=3.0, markerfacecolor="white",
                    markeredgecolor="#333333", markeredgewidth=0.8,
                )  # fmt: skip
            panel.set_xticks(range(len(VARIANTS)), [name.format(m=m) for name in VARIANTS.values()], fontsize=8)
            panel.axhline(0.0, color="#555555", linewidth=0.8)
            over = ", masked patches" if ratio and metric in ERRORS else ""
            panel.set_title(title + over, fontsize=10, loc="left")
            panel.grid(visible=False, axis="x")
        line[0].set_ylabel("nothing masked" if ratio == 0 else f"{100 * ratio:g} % masked")
    legend_above(drawn, axes[0][0])
    return drawn


def _places(rows: pd.DataFrame) -> np.ndarray:
    order = list(VARIANTS)
    return np.array([order.index(str(name)) for name in rows["outcome"]], dtype=float)
