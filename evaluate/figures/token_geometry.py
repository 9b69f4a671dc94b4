"""Likeness and spread of the tokens against depth, and their singular values (arXiv 2305.00729)."""

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from evaluate.figures import style
from evaluate.results import metrics
from evaluate.results.table import Result

PANELS = (
    (metrics.HEAD_COSINE, "cosine of two heads' outputs"),
    (metrics.SPACE_COSINE, "cosine of two positions"),
    (metrics.DEPTH_COSINE, "cosine before and after the block"),
    (metrics.SPATIAL_VARIANCE, "variance over positions\n(squared feature)"),
)
DEPTH = "depth (blocks)"
DOTS: Any = (0, (1, 1.5))
OUTCOMES: tuple[tuple[str, Any], ...] = (("one image", "-"), ("all images", DOTS))
"""What a participation ratio is of, and its dashes."""


def statistics(table: pd.DataFrame, results: list[tuple[str, Result]]) -> Figure | None:
    """Return the captured cosines and the variance against depth, a line a model."""
    everything = [(style.metric_rows(table, "token-geometry", metric), metric, label) for metric, label in PANELS]
    everything = [one for one in everything if not one[0].empty]
    if not everything:
        return None
    drawn, [panels] = style.new_figure((0.6 + 2.9 * len(everything), 3.6), len(everything))
    for axes, (rows, metric, label) in zip(panels, everything, strict=True):
        for model, look, _, part in style.by_model(rows, table):
            style.curve(axes, part, "x_value", label=model, **look)
        if metric == metrics.SPATIAL_VARIANCE:
            axes.set_yscale("log")
        _depth(axes, label)
    style.legend_above(drawn, panels[0])
    style.name_conditions(drawn, pd.concat([rows for rows, _, _ in everything]))
    return drawn


def spectra(table: pd.DataFrame, results: list[tuple[str, Result]]) -> Figure | None:
    """Return the singular values of images' tokens and of images at the last depths, and participation ratios."""
    ratios = style.metric_rows(table, "token-geometry", metrics.PARTICIPATION_RATIO)
    values = style.metric_rows(table, "token-geometry", metrics.LOG_SINGULAR_VALUE)
    if ratios.empty:
        return None
    drawn, [panels] = style.new_figure((11.6, 3.9), 3)
    for model, look, _, part in style.by_model(ratios, table):
        depths = part.drop_duplicates("array").set_index("array")["x_value"].sort_values()
        line = {"color": look["color"], "linewidth": 1.5}
        of_model = values[values["model"] == model]
        # The last layer's output, and what stands before it where the sum after its attention is stored.
        for array, dash in zip(depths.index[::-1], ("-", DOTS), strict=False):
            if dash == "-" or not float(depths[array]).is_integer():
                of_array = of_model[of_model["array"] == array]
                _spectrum(panels[0], of_array[of_array["outcome"] == "one image"], linestyle=dash, **line)
                _spectrum(panels[1], of_array[of_array["outcome"] == "means of images"], linestyle=dash, **line)
        for outcome, dash in OUTCOMES:
            some = part[part["outcome"] == outcome]
            label = model if outcome == OUTCOMES[0][0] else None
            style.curve(panels[2], some, "x_value", label=label, **{**look, "linestyle": dash, "markersize": 3.5})
    panels[0].set_ylabel("tokens of an image:\nlog singular value less the first (nats)")
    panels[1].set_ylabel("mean tokens of images:\nlog singular value less the first (nats)")
    for axes in panels[:2]:
        axes.set_xlabel("singular value, the largest is 1")
        axes.set_xscale("log")
        axes.set_title("solid: last block; dotted: after its attention", fontsize=8.5, loc="left")
    panels[2].set_title("solid: one image; dotted: all images together", fontsize=8.5, loc="left")
    panels[2].set_ylim(bottom=0.0)
    _depth(panels[2], "participation ratio (directions)")
    style.legend_above(drawn, panels[2])
    style.name_conditions(drawn, ratios)
    return drawn


def _spectrum(axes: Axes, rows: pd.DataFrame, **line: Any) -> None:
    style.curve(axes, rows, "x_value", markersize=0, **line)


def _depth(axes: Axes, label: str) -> None:
    axes.set_xlabel(DEPTH)
    axes.set_ylabel(label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
