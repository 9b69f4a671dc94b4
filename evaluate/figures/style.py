"""How all figures look: one colour a model everywhere, readable in grey, the same bytes for the same numbers."""

import io
import re
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


def looks(table: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Return colour, marker and dash of each model of a table, in order of appearance."""
    models = list(dict.fromkeys(table["model"].dropna()))
    return {
        model: {
            "color": COLOURS[place % len(COLOURS)],
            "marker": MARKERS[place % len(MARKERS)],
            "linestyle": DASHES[place % len(DASHES)],
        }
        for place, model in enumerate(models)
    }


def new_figure(width: float, height: float, columns: int = 1, **options: Any) -> tuple[Figure, list[Axes]]:
    """Return a figure of this size, in inches, with axes side by side."""
    with mpl.rc_context(SETTINGS):
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.subplots(1, columns, squeeze=False, **options)
    return figure, list(axes[0])


def legend_above(figure: Figure, axes: Axes) -> None:
    """Put one legend of all models above the panels, where it covers no data."""
    handles, labels = axes.get_legend_handles_labels()
    longest = max((len(label) for label in labels), default=1)
    fitting = int(figure.get_figwidth() * 12 / (longest + 8))  # about 12 characters an inch
    figure.legend(handles, labels, loc="outside upper left", ncols=max(1, fitting), frameon=False)


def curve(axes: Axes, part: pd.DataFrame, x: str, look: dict[str, Any], label: str | None) -> None:
    """Draw value against ``x`` with its interval as a band, where there is one."""
    part = part.sort_values(x)
    positions = part[x].to_numpy(dtype=float)
    values, low, high = (part[name].to_numpy(dtype=float, na_value=float("nan")) for name in ("value", "low", "high"))
    axes.plot(positions, values, label=label, markersize=4.5, linewidth=1.5, **look)
    axes.fill_between(positions, low, high, color=look["color"], alpha=0.15, linewidth=0)


def cells(table: pd.DataFrame, metric: str, classifier: str | None = None) -> pd.DataFrame:
    """Return the rows of one metric without a class, each cell once: several questions may share one."""
    rows = table[(table["metric"] == metric) & table["class"].isna()]
    if classifier is not None:
        rows = rows[rows["classifier"] == classifier]
    # Everything that tells cells apart, the results' own names left out.
    return rows.drop_duplicates(
        ["data_set", "model", "view", "level", "array", "token", "classifier", "train", "m", "k", "x_name", "x_value",
         "outcome", "reference"]
    )  # fmt: skip


def last_array(rows: pd.DataFrame) -> pd.DataFrame:
    """Return each model's rows of the array that was asked for last: the last layer."""
    last = rows.groupby("model", sort=False)["array"].transform("last")
    return rows[rows["array"] == last]


def numbers(rows: pd.DataFrame, name: str) -> Float64[np.ndarray, " row"]:
    """Return a column as float64, empty cells as nan."""
    return rows[name].to_numpy(dtype=float, na_value=float("nan"))


def grid_figure(width: float, height: float, rows: int, columns: int, **options: Any) -> tuple[Figure, Any]:
    """Return a figure of this size, in inches, with rows of axes."""
    with mpl.rc_context(SETTINGS):
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False, **options)
    return figure, axes


def error_bars(rows: pd.DataFrame) -> Float64[np.ndarray, "2 row"] | None:
    """Return how far the interval reaches below and above the value; None when no row has one."""
    value, low, high = (numbers(rows, name) for name in ("value", "low", "high"))
    reach = np.stack([value - low, high - value])
    return None if np.isnan(reach).all() else np.clip(np.nan_to_num(reach), 0.0, None)


def smallest_k(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the smallest k (1 in the paper); probes have none."""
    return rows if rows["k"].isna().all() else rows[rows["k"] == rows["k"].min()]


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
