"""Where on the grid norm outliers sit, and how long tokens are there, layer by layer: a small map each."""

from collections.abc import Callable

import numpy as np
import pandas as pd
from jaxtyping import Float64
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from evaluate.figures import style
from evaluate.results.table import Result

MOST_LAYERS = 6
"""Maps of a row: the first and the last layer, and some between."""
CELL = 1.55
"""Width of a map, in inches."""
BLUES = "Blues"

Map = Float64[np.ndarray, "row column"]


def outliers(table: pd.DataFrame, results: list[tuple[str, Result]]) -> Figure | None:
    """Return the share of inputs in which each patch is a norm outlier, all maps of a row on one scale from 0."""
    return _maps(results, "outlier_map", lambda row: row, "share of inputs")


def lengths(table: pd.DataFrame, results: list[tuple[str, Result]]) -> Figure | None:
    """Return the mean length of the tokens at each position over the mean of all, all maps of a row on one scale."""
    return _maps(results, "norm_map", lambda one: one / one.mean() if one.mean() > 0 else one, "mean length of all")


def _maps(results: list[tuple[str, Result]], name: str, scaled: Callable[[Map], Map], unit: str) -> Figure | None:
    """Return a row of maps a model, and one more for tokens after the final norm."""
    rows: dict[tuple[str, bool], dict[int, Map]] = {}
    for model, result in results:
        if name in result.arrays and result.rows:
            first = result.rows[0]
            normed = first["normed"] is not None and not pd.isna(first["normed"]) and bool(first["normed"])
            rows.setdefault((model, normed), {})[int(first["layer"])] = scaled(result.arrays[name])
    if not rows:
        return None
    chosen = {key: _spread(sorted(maps)) for key, maps in rows.items()}
    n_columns = max(len(layers) for layers in chosen.values())
    drawn, axes = style.new_figure((CELL * n_columns + 1.5, (CELL + 0.35) * len(rows) + 0.3), n_columns, len(rows))
    for panels, ((model, normed), maps) in zip(axes, rows.items(), strict=True):
        layers = chosen[model, normed]
        low = 0.0 if name == "outlier_map" else min(float(maps[layer].min()) for layer in layers)
        high = max(float(maps[layer].max()) for layer in layers)
        high = high if high > low else low + 1e-3
        for number, panel in enumerate(panels):
            style.hide_axes(panel)
            if number >= len(layers):
                continue
            picture = panel.imshow(maps[layers[number]], cmap=BLUES, vmin=low, vmax=high, interpolation="nearest")
            panel.set_title(f"block {layers[number]}", fontsize=8)
        if drawn.get_layout_engine() is not None:
            bar = drawn.colorbar(picture, ax=list(panels), shrink=0.8, pad=0.01)
            bar.set_label(unit, fontsize=7)
            bar.ax.tick_params(labelsize=7)
            if name == "outlier_map":
                bar.ax.yaxis.set_major_formatter(PercentFormatter(1.0))
        where = "after the final norm" if normed else "as the block left them"
        panels[0].set_ylabel(style.wrapped(f"{model}, {where}", 22), fontsize=7.5)
    return drawn


def _spread(layers: list[int]) -> list[int]:
    """Return up to `MOST_LAYERS` of some layers, first and last among them."""
    places = np.unique(np.linspace(0, len(layers) - 1, min(MOST_LAYERS, len(layers))).round().astype(int))
    return [layers[place] for place in places]
