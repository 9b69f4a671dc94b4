"""Relative log amplitude of the tokens' Fourier transform against depth and frequency (arXiv 2305.00729)."""

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from evaluate.figures import style
from evaluate.results.metrics import DELTA_LOG_AMPLITUDE, DELTA_LOG_AMPLITUDE_HIGHEST
from evaluate.results.table import Result

DECODER = "decoder"
"""Outcome of the rows of a decoder."""
INSIDE = r"\.(?:norm1|attention|ls1|norm2|mlp|ls2)$"
"""Ends of the names of arrays that are no sums: drawn where nothing else is, for a line goes along the sums."""
LABEL = "log amplitude less that at 0 (nats)"
DEPTHS: tuple[tuple[str, Any], ...] = (
    ("first depth", (0, (1, 1.5))),
    ("middle depth", (0, (5, 2))),
    ("last depth", "-"),
)


def figure(table: pd.DataFrame, results: list[tuple[str, Result]]) -> Figure | None:
    """Return the highest frequency against depth, in the decoder too where there is one, and curves at three depths."""
    highest = style.metric_rows(table, "frequency", DELTA_LOG_AMPLITUDE_HIGHEST)
    if highest.empty:
        return None
    inside = highest["array"].str.contains(INSIDE).fillna(False)
    highest = highest if inside.all() else highest[~inside]
    of_decoder = (highest["outcome"] == DECODER).fillna(False)
    has_decoder = bool(of_decoder.any())
    drawn, [panels] = style.new_figure((11.6 if has_decoder else 8.4, 3.9), 3 if has_decoder else 2)
    _against_depth(panels[0], highest[~of_decoder], table, "depth (blocks)")
    panels[0].set_ylabel(f"highest frequency:\n{LABEL}")
    if has_decoder:
        _against_depth(panels[1], highest[of_decoder], table, "depth of the decoder (blocks)")
        low, high = (limit(axes.get_ylim()[n] for axes in panels[:2]) for n, limit in enumerate((min, max)))
        for axes in panels[:2]:
            axes.set_ylim(low, high)
    _curves(panels[-1], table, highest[~of_decoder])
    handles = [*panels[0].get_legend_handles_labels()[0]]
    handles += [Line2D([], [], color="#333333", linestyle=dash, label=words) for words, dash in DEPTHS]
    style.legend(drawn, handles)
    style.name_conditions(drawn, highest[~of_decoder])
    return drawn


def _against_depth(axes: Axes, rows: pd.DataFrame, table: pd.DataFrame, label: str) -> None:
    for model, look, _, part in style.by_model(rows, table):
        style.curve(axes, part, "x_value", label=model, **look)
    axes.set_xlabel(label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def _curves(axes: Axes, table: pd.DataFrame, highest: pd.DataFrame) -> None:
    """Draw the amplitude of every frequency at the first, the middle and the last depth of each model."""
    rows = style.metric_rows(table, "frequency", DELTA_LOG_AMPLITUDE)
    for model, look, _, of_depths in style.by_model(highest, table):
        part = rows[(rows["model"] == model) & (rows["outcome"] != DECODER).fillna(True)]
        arrays = list(of_depths.sort_values("x_value")["array"])
        for place, (_, dash) in zip((0, len(arrays) // 2, len(arrays) - 1), DEPTHS, strict=True):
            line: dict[str, Any] = {**look, "linestyle": dash}
            style.curve(axes, part[part["array"] == arrays[place]], "x_value", **line)
    axes.set_xlabel("frequency (cycles a patch, along both axes)")
    axes.set_ylabel(LABEL)
