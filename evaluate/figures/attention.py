"""Attention against depth, and maps of the class token and of query patches (arXiv 2305.00729)."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from evaluate.figures import style
from evaluate.results import metrics
from evaluate.results.table import Result

PANELS = (
    (metrics.ATTENTION_DISTANCE_PX, metrics.UNIFORM_DISTANCE_PX, "distance from query to key (px of the input)"),
    (metrics.ATTENTION_NMI, None, "mutual information of query and key (0..1)"),
    (metrics.ATTENTION_ENTROPY, metrics.UNIFORM_ENTROPY, "entropy of a query's attention (nats)"),
)
"""Metric, its value for uniform attention, and the label of each panel."""
CELL = 1.15
"""Width of a map, in inches."""
LEFT = 1.1
"""Room for titles, in inches."""
MOST_HEADS = 12
"""Heads that are shown; of more, as many spread evenly."""
BOXES = ("#D55E00", "#0072B2", "#009E73", "#CC79A7")
"""Colours of query patches."""
COLOURS = "viridis"
DOTS = (0.0, (1.0, 2.0))
"""Dashes of uniform attention."""


def figure(table: pd.DataFrame, results: list[tuple[str, Result]]) -> Figure | None:
    """Return distance, mutual information and entropy against depth, a line a model, with a faint dot a head."""
    everything = {metric: style.metric_rows(table, "attention", metric) for metric, _, _ in PANELS}
    if all(rows.empty for rows in everything.values()):
        return None
    drawn, [panels] = style.new_figure((11.4, 3.9), len(PANELS))
    for axes, (metric, uniform, label) in zip(panels, PANELS, strict=True):
        for model, look, shift, part in style.by_model(everything[metric], table):
            heads = part[part["outcome"].notna()]
            dots = style.numbers(heads, "x_value") + 0.4 * shift
            axes.plot(
                dots, style.numbers(heads, "value"), ".", color=look["color"], markersize=3.5, alpha=0.35, zorder=1
            )
            style.curve(axes, part[part["outcome"].isna()], "x_value", label=model, **look)
            if uniform is not None:
                _uniform(axes, style.metric_rows(table[table["model"] == model], "attention", uniform), look["color"])
        axes.set_ylim(bottom=0.0, top=1.0 if uniform is None else None)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.set_xlabel("depth (block, the first is 1)")
        axes.set_ylabel(label)
    uniform_line = Line2D([], [], color="#333333", linestyle=DOTS, label="uniform attention")
    style.legend(drawn, [*panels[0].get_legend_handles_labels()[0], uniform_line])
    style.name_conditions(drawn, pd.concat(everything.values()))
    return drawn


def _uniform(axes: Axes, rows: pd.DataFrame, colour: str) -> None:
    """Draw a dotted line at each value of uniform attention."""
    for value in np.unique(style.numbers(rows, "value").round(6)):
        axes.axhline(value, color=colour, linewidth=1.2, linestyle=DOTS, zorder=0)


def class_maps(table: pd.DataFrame, results: list[tuple[str, Result]]) -> Figure | None:
    """Return one row an input and model: the input, the class token's attention, mean over heads and by head."""
    shown = [(model, result.arrays) for model, result in results if "class_maps" in result.arrays]
    if not shown:
        return None
    n_heads = min(MOST_HEADS, max(arrays["class_maps"].shape[1] for _, arrays in shown))
    lines = [(model, arrays, number) for model, arrays in shown for number in range(len(arrays["class_maps"]))]
    drawn, axes = _panels(len(lines), 2 + n_heads)
    for panels, (model, arrays, number) in zip(axes, lines, strict=True):
        of_heads = arrays["class_maps"][number]
        heads = np.unique(np.linspace(0, len(of_heads) - 1, n_heads).round().astype(int))
        _input(panels[0], model, arrays, number)
        titles = ["mean of heads", *(f"head {head}" for head in heads)]
        maps = [of_heads.mean(axis=0), *of_heads[heads]]
        for panel, title, one in zip(panels[1:], titles, maps, strict=False):
            _map(panel, one, "" if number else title)
    return drawn


def query_maps(table: pd.DataFrame, results: list[tuple[str, Result]]) -> Figure | None:
    """Return one row an input and model: the input with its query patches framed, and the attention of each of them."""
    shown = [(model, result.arrays) for model, result in results if "query_places" in result.arrays]
    if not shown:
        return None
    n_queries = max(len(arrays["query_places"]) for _, arrays in shown)
    lines = [(model, arrays, number) for model, arrays in shown for number in range(len(arrays["map_samples"]))]
    drawn, axes = _panels(len(lines), 1 + n_queries)
    for panels, (model, arrays, number) in zip(axes, lines, strict=True):
        _input(panels[0], model, arrays, number)
        if "query_maps" not in arrays:
            share = float(arrays["query_difference"])
            words = f"left out: distances differ from captured ones by {share:.0%} of that of uniform attention"
            panels[1].text(0.0, 0.5, style.wrapped(words, 22), fontsize=7, transform=panels[1].transAxes, va="center")
            continue
        maps = arrays["query_maps"][number].mean(axis=1)
        for index, (place, one) in enumerate(zip(arrays["query_places"], maps, strict=True)):
            colour = BOXES[index % len(BOXES)]
            _map(panels[1 + index], one, "" if number else f"query {index + 1}")
            _box(panels[1 + index], place, (1.0, 1.0), colour)
            if "map_inputs" in arrays:
                height, width = arrays["map_inputs"].shape[1:3]
                _box(panels[0], place, (height / one.shape[0], width / one.shape[1]), colour)
    return drawn


def _map(panel: Axes, weights: np.ndarray, title: str) -> None:
    """Show weights over the patches; coordinates count patches."""
    extent = (0, weights.shape[1], weights.shape[0], 0)
    panel.imshow(weights, cmap=COLOURS, vmin=0.0, interpolation="nearest", extent=extent)
    panel.set_title(title, fontsize=7.5, pad=2)


def _box(panel: Axes, place: np.ndarray, sides: tuple[float, float], colour: str) -> None:
    """Frame a patch; ``place`` is its row and column, ``sides`` its height and width in the panel's coordinates."""
    corner = float(place[1]) * sides[1], float(place[0]) * sides[0]
    for edge, thickness in (("white", 2.6), (colour, 1.3)):
        panel.add_patch(Rectangle(corner, sides[1], sides[0], fill=False, edgecolor=edge, linewidth=thickness))


def _panels(n_rows: int, n_columns: int) -> tuple[Figure, np.ndarray]:
    """Return a grid of panels for pictures."""
    top, gap = 0.28, 0.2
    size = LEFT + CELL * n_columns, top + (CELL + gap) * n_rows
    drawn, axes = style.new_figure(size, n_columns, n_rows, layout=None)
    style.place_panels(drawn, LEFT / size[0], 0.05 / size[1], 0.995, 1.0 - top / size[1], wspace=0.05, hspace=0.2)
    for panel in axes.flat:
        style.hide_axes(panel)
    return drawn, axes


def _input(panel: Axes, model: str, arrays: dict[str, np.ndarray], number: int) -> None:
    """Show an input in pixels, or say that none is stored; the first one names model and block."""
    if "map_inputs" in arrays:
        height, width = arrays["map_inputs"].shape[1:3]
        panel.imshow(arrays["map_inputs"][number], interpolation="nearest", extent=(0, width, height, 0))
    else:
        words = "no input pixels\nare stored"
        panel.text(0.5, 0.5, words, fontsize=7, ha="center", va="center", transform=panel.transAxes)
    if not number:
        title = style.wrapped(f"{model}\nblock {int(arrays['map_layer'])} (from 0)", 18)
        panel.set_ylabel(title, fontsize=7.5, rotation=0, ha="right", va="center", labelpad=4)
