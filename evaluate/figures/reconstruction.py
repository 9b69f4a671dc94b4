"""Errors of MAE's decoder on features with some zeroed: paper A, Table 4 (A-19)."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from evaluate.figures import style
from evaluate.results.metrics import MSE_NORMALISED, PSNR, SSIM
from evaluate.results.table import Result

VARIANTS = {
    "none": "none\nzeroed",
    "top": "top {m}\nzeroed",
    "random": "{m} random\nzeroed",
    "all-but-top": "all but top\n{m} zeroed",
}
METRICS = {MSE_NORMALISED: "MSE, normalised", PSNR: "PSNR in dB", SSIM: "SSIM"}
MASKED_ALONE = {MSE_NORMALISED}
"""Metrics that count masked patches alone."""


def figure(table: pd.DataFrame, results: list[tuple[str, Result]]) -> Figure | None:
    """Return one row a share of masked patches and one panel a metric; a bar a model and variant, a dot a draw."""
    shown = table[table["analysis"] == "reconstruction"]
    means = shown[shown["x_name"] == "mask_ratio"]
    if means.empty:
        return None
    m = int(shown["m"].max())
    shown = shown[(shown["m"] == m) | (shown["m"] == 0)]
    ratios = sorted({float(ratio) for ratio in means["x_value"]})
    width = 0.8 / means["model"].nunique()
    drawn, axes = style.new_figure((10.6, 2.7 * len(ratios) + 0.6), len(METRICS), len(ratios), sharex=True)
    for line, ratio in zip(axes, ratios, strict=True):
        here = shown[shown["array"].isin(means[means["x_value"] == ratio]["array"])]
        for panel, (metric, title) in zip(line, METRICS.items(), strict=True):
            rows = style.metric_rows(here, "reconstruction", metric)
            for model, look, shift, _ in style.by_model(means, table):
                part = rows[rows["model"] == model]
                bars, dots = (part[part["x_name"] == name] for name in ("mask_ratio", "draw"))
                panel.bar(
                    _positions(bars) + 0.8 * shift, style.numbers(bars, "value"), 0.92 * width, label=model,
                    yerr=style.error_bars(bars), color=look["color"], alpha=0.75,
                    error_kw={"elinewidth": 1.2, "capsize": 2.0},
                )  # fmt: skip
                dot = {"markersize": 3.0, "markerfacecolor": "white", "markeredgecolor": "#333333"}
                at = _positions(dots) + 0.8 * shift
                panel.plot(at, style.numbers(dots, "value"), "o", markeredgewidth=0.8, **dot)
            panel.set_xticks(range(len(VARIANTS)), [name.format(m=m) for name in VARIANTS.values()], fontsize=8)
            panel.axhline(0.0, color="#555555", linewidth=0.8)
            over = ", masked patches" if ratio and metric in MASKED_ALONE else ""
            panel.set_title(title + over, fontsize=10, loc="left")
            panel.grid(visible=False, axis="x")
        line[0].set_ylabel("nothing masked" if ratio == 0 else f"{100 * ratio:g} % masked")
    style.legend_above(drawn, axes[0][0])
    style.name_conditions(drawn, shown)
    return drawn


def _positions(rows: pd.DataFrame) -> np.ndarray:
    order = list(VARIANTS)
    return np.array([order.index(str(name)) for name in rows["outcome"]], dtype=float)
