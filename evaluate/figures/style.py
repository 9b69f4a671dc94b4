"""Style of all figures: one look a model everywhere, readable in grey, the same bytes for the same numbers."""

import io
import re
import textwrap
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from jaxtyping import Float64
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe and Ito, "Color universal design" (2008), black first because it prints best; yellow is left out.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)), (0, (3, 1)), (0, (8, 3)), (0, (2, 2)))

SETTINGS: Any = {
    "svg.hashsalt": "patchbank",
    "svg.fonttype": "path",
    "pdf.fonttype": 42,
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
}

CLASSIFIERS = {"knn": "nearest neighbours", "probe": "linear probe"}
"""Titles of the classifiers, in the order of their panels."""


def by_model(rows: pd.DataFrame, table: pd.DataFrame) -> list[tuple[str, dict[str, Any], float, pd.DataFrame]]:
    """Return title, look, shift and rows of every model of some rows, in order of appearance.

    The look (colour, marker and dash) is the model's in all figures of the ``table``. Shifts, within -0.5 to 0.5, set
    the marks of several models side by side.
    """
    order = list(dict.fromkeys(table["model"].dropna()))
    models = list(dict.fromkeys(rows["model"].dropna()))
    entries = []
    for index, model in enumerate(models):
        number = order.index(model)
        look = {
            "color": COLOURS[number % len(COLOURS)],
            "marker": MARKERS[number % len(MARKERS)],
            "linestyle": DASHES[number % len(DASHES)],
        }
        shift = (index - (len(models) - 1) / 2) / len(models)
        entries.append((str(model), look, shift, rows[rows["model"] == model]))
    return entries


def metric_rows(table: pd.DataFrame, analysis: str, metric: str) -> pd.DataFrame:
    """Return the rows of one analysis and metric without a class, each once: several analyses may share a result."""
    rows = table[(table["analysis"] == analysis) & (table["metric"] == metric) & table["class"].isna()]
    # Everything that tells rows apart, the results' own names left out.
    return rows.drop_duplicates(
        ["data_set", "model", "view", "level", "array", "token", "classifier", "train", "m", "k", "x_name", "x_value",
         "outcome", "reference"]
    )  # fmt: skip


def last_array(rows: pd.DataFrame) -> pd.DataFrame:
    """Return each model's rows of the array that comes last: the last layer."""
    return rows[rows["array"] == rows.groupby("model", sort=False)["array"].transform("last")]


def smallest_k(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the smallest k (1 in the paper); probes have none."""
    return rows if rows["k"].isna().all() else rows[rows["k"] == rows["k"].min()]


def numbers(rows: pd.DataFrame, name: str) -> Float64[np.ndarray, " row"]:
    """Return a column as float64, empty cells as nan."""
    return rows[name].to_numpy(dtype=float, na_value=float("nan"))


def counts(rows: pd.DataFrame, name: str) -> list[int]:
    """Return the values of a column of whole numbers, increasing."""
    return sorted({int(value) for value in rows[name]})


def new_figure(size: tuple[float, float], columns: int = 1, rows: int = 1, **options: Any) -> tuple[Figure, Any]:
    """Return a figure of this width and height, in inches, with axes by row and column."""
    with mpl.rc_context(SETTINGS):
        figure = Figure(figsize=size, layout="constrained")
        return figure, figure.subplots(rows, columns, squeeze=False, **options)


def legend_above(figure: Figure, axes: Axes) -> None:
    """Put one legend of all models above the panels, where it covers no data."""
    handles, labels = axes.get_legend_handles_labels()
    longest = max((len(label) for label in labels), default=1)
    fitting = int(figure.get_figwidth() * 12 / (longest + 8))  # about 12 characters an inch
    figure.legend(handles, labels, loc="outside upper left", ncols=max(1, fitting), frameon=False)


def curve(axes: Axes, rows: pd.DataFrame, x: str, **style: Any) -> None:
    """Draw value against the column ``x`` with its interval as a band, where there is one."""
    rows = rows.sort_values(x)
    axes.plot(numbers(rows, x), numbers(rows, "value"), **{"markersize": 4.5, "linewidth": 1.5, **style})
    band = numbers(rows, "low"), numbers(rows, "high")
    axes.fill_between(numbers(rows, x), *band, color=style["color"], alpha=0.15, linewidth=0)


def marks(axes: Axes, rows: pd.DataFrame, **style: Any) -> None:
    """Draw a mark a row with its interval, at the positions that ``style`` holds as ``x`` or ``y``."""
    value, bars = numbers(rows, "value"), error_bars(rows)
    data: dict[str, Any] = {"x": value, "xerr": bars} if "y" in style else {"y": value, "yerr": bars}
    axes.errorbar(**data, **{"elinewidth": 1.2, **style, "linestyle": "none"})


def error_bars(rows: pd.DataFrame) -> Float64[np.ndarray, "2 row"] | None:
    """Return how far the interval reaches below and above the value; None when no row has one."""
    value, low, high = (numbers(rows, name) for name in ("value", "low", "high"))
    reach = np.stack([value - low, high - value])
    return None if np.isnan(reach).all() else np.clip(np.nan_to_num(reach), 0.0, None)


def removal_title(m: int) -> str:
    """Return the title of what has the top m features removed."""
    return f"without top {m}" if m else "all features"


def wrapped(text: str, width: int) -> str:
    """Return text with its lines broken at a number of characters."""
    return "\n".join(part for line in text.split("\n") for part in textwrap.wrap(line, width))


def hide_axes(panel: Axes) -> None:
    """Take ticks, grid and frame from a panel that shows a picture."""
    panel.set_xticks([])
    panel.set_yticks([])
    panel.grid(visible=False)
    for side in panel.spines.values():
        side.set_visible(False)


def save(figure: Figure, kind: str) -> bytes:
    """Return the figure as ``svg``, ``pdf`` or ``png``; equal figures give equal bytes."""
    sink = io.BytesIO()
    metadata: dict[str, Any] = {"svg": {"Date": None, "Creator": None}, "pdf": {"CreationDate": None}}.get(kind, {})
    with mpl.rc_context(SETTINGS):
        figure.savefig(sink, format=kind, metadata=metadata, dpi=110)
    if kind == "svg":
        # Pictures are named by their content: one shown twice would give a drawing two elements of one name.
        return re.sub(rb'(<image\b[^>]*?) id="[^"]*"', rb"\1", sink.getvalue())
    return sink.getvalue()
