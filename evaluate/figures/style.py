"""Style of all figures: one look a model everywhere, readable in grey, the same bytes for the same numbers."""

import io
import re
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal, cast

import matplotlib as mpl
import numpy as np
import pandas as pd
from jaxtyping import Float64
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure

from evaluate.results.preferred import conditions
from stores.errors import UserError

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
BAND = "_interval"
"""Label of the band of an interval; with its underscore it enters no legend."""


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
        look = look_of(number)
        shift = (index - (len(models) - 1) / 2) / len(models)
        entries.append((str(model), look, shift, rows[rows["model"] == model]))
    return entries


def look_of(number: int) -> dict[str, Any]:
    """Return colour, marker and dash of a line by its number, from 0; the first 49 differ from each other."""
    later = number + number // len(COLOURS)
    return {
        "color": COLOURS[number % len(COLOURS)],
        "marker": MARKERS[later % len(MARKERS)],
        "linestyle": DASHES[later % len(DASHES)],
    }


def metric_rows(table: pd.DataFrame, analysis: str, metric: str) -> pd.DataFrame:
    """Return the rows of one analysis and metric without a class, each once: several analyses may share a result."""
    rows = table[(table["analysis"] == analysis) & (table["metric"] == metric) & table["class"].isna()]
    # Everything that tells rows apart, the results' own names left out.
    return rows.drop_duplicates(
        ["data_set", "model", "view", "level", "array", "token", "classifier", "distance", "train", "m", "treatment",
         "k", "x_name", "x_value", "outcome", "reference"]
    )  # fmt: skip


def numbers(rows: pd.DataFrame, name: str) -> Float64[np.ndarray, " row"]:
    """Return a column as float64, empty cells as nan."""
    return rows[name].to_numpy(dtype=float, na_value=float("nan"))


def counts(rows: pd.DataFrame, name: str) -> list[int]:
    """Return the values of a column of whole numbers, increasing."""
    return sorted({int(value) for value in rows[name]})


_GIVEN: ContextVar[tuple[Axes, ...]] = ContextVar("axes to draw into", default=())


@contextmanager
def drawn_into(axes: Sequence[Axes]) -> Iterator[None]:
    """Within this block figures are drawn into these axes, one a panel, and no figure is made."""
    token = _GIVEN.set(tuple(axes))
    try:
        yield
    finally:
        _GIVEN.reset(token)


def new_figure(
    size: tuple[float, float],
    columns: int = 1,
    rows: int = 1,
    layout: Literal["constrained"] | None = "constrained",
    **options: Any,
) -> tuple[Figure, Any]:
    """Return a figure with axes by row and column; within `drawn_into`, the given axes and their figure.

    Raises UserError when another number of axes was given.

    Args:
        size: width and height, in inches.
        columns: number of columns of panels.
        rows: number of rows of panels.
        layout: None where the caller places the panels.
        options: further options of matplotlib's ``subplots``.
    """
    if given := _GIVEN.get():
        if len(given) != rows * columns:
            raise UserError(
                f"the figure has {rows * columns} panel{'s' if rows * columns > 1 else ''} ({rows} x {columns}), and "
                f"{len(given)} axes were given: make them with plt.subplots({rows}, {columns})"
            )
        return cast("Figure", given[0].figure), np.array(given, dtype=object).reshape(rows, columns)
    with mpl.rc_context(SETTINGS):
        figure = Figure(figsize=size, layout=layout)
        return figure, figure.subplots(rows, columns, squeeze=False, **options)


def place_panels(figure: Figure, *margins: float, **spaces: float) -> None:
    """Set margins and spaces as ``subplots_adjust`` does, unless the axes were given."""
    if not _GIVEN.get():
        figure.subplots_adjust(*margins, **spaces)


def legend_above(figure: Figure, axes: Axes) -> None:
    """Put one legend of all models above the panels, where it covers no data: those of a panel, then of the others."""
    found: dict[str, Any] = {}
    for panel in (axes,) if _GIVEN.get() else (axes, *figure.axes):
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    legend(figure, list(found.values()))


def legend(figure: Figure, handles: Sequence[Any], **options: Any) -> None:
    """Put a legend above the panels, in as many columns as fit; in axes that were given, within the first.

    Figures are made for a legend of two lines and grow by what it has more, so that it takes nothing from the panels.
    """
    longest = max((len(handle.get_label()) for handle in handles), default=1)
    if given := _GIVEN.get():
        given[0].legend(handles=handles, **{"fontsize": 8, **options})
        return
    width, height = figure.get_size_inches()
    characters = int(width * 12)  # about 12 an inch
    fitting = max(1, int(characters / (longest + 8)))
    labels = [wrapped(handle.get_label(), characters - 8) for handle in handles]
    columns = [labels[start::fitting] for start in range(fitting)]
    n_lines = max((sum(label.count("\n") + 1 for label in column) for column in columns), default=0)
    figure.set_size_inches(width, height + 0.2 * max(0, n_lines - 2))
    options = {"loc": "outside upper left", "ncols": fitting, "frameon": False, **options}
    figure.legend(handles=handles, labels=labels, **options)


def name_conditions(figure: Figure, rows: pd.DataFrame, more: str = "") -> None:
    """Write under the panels what the drawn rows were computed with: layer, k, m, training images, tokens, and more."""
    text = "; ".join(part for part in (conditions(rows), more) if part)
    if given := _GIVEN.get():
        given[0].annotate(wrapped(text, 60), (0, 0), (0, -36), "axes fraction", "offset points", fontsize=7, va="top")
        return
    width, height = figure.get_size_inches()
    text = wrapped(text[:1].upper() + text[1:], int(16 * width))
    below = 0.155 * (text.count("\n") + 1) + 0.08  # inches
    share = below / (height + below)
    panels = [(axes, axes.get_position()) for axes in figure.axes]
    figure.set_size_inches(width, height + below)
    if (engine := figure.get_layout_engine()) is not None:
        engine.set(rect=(0.0, share, 1.0, 1.0 - share))  # type: ignore[call-arg]
    else:
        for axes, box in panels:
            axes.set_position((box.x0, share + (1 - share) * box.y0, box.width, (1 - share) * box.height))
    figure.text(0.06 / width, 0.06 / (height + below), text, fontsize=8.5, color="#5b5b5b", va="bottom")


def interval_marks(figure: Figure) -> str:
    """Return what shows intervals in a figure: ``Bands``, ``Bars``, or nothing where none is drawn."""
    bars = [one for axes in figure.axes for one in axes.containers if isinstance(one, ErrorbarContainer)]
    bands = [one for axes in figure.axes for one in axes.collections if one.get_label() == BAND]
    return "Bands" if bands else "Bars" if any(one.has_xerr or one.has_yerr for one in bars) else ""


def has_colour_maps(figure: Figure) -> bool:
    """Return whether a figure shows pictures, or numbers as colours: they have a meaning and cannot follow the page."""
    return any(axes.images or any(isinstance(one, QuadMesh) for one in axes.collections) for axes in figure.axes)


def curve(axes: Axes, rows: pd.DataFrame, x: str, **style: Any) -> None:
    """Draw value against the column ``x`` with its interval as a band, of a single value as a bar."""
    rows = rows.sort_values(x)
    look = {"markersize": 4.5, "linewidth": 1.5, "clip_on": False, **style}
    axes.plot(numbers(rows, x), numbers(rows, "value"), **look)
    low, high = numbers(rows, "low"), numbers(rows, "high")
    if len(rows) == 1:
        axes.errorbar(numbers(rows, x), numbers(rows, "value"), error_bars(rows), fmt="none", ecolor=style["color"])
    elif np.isfinite(high - low).any():
        axes.fill_between(numbers(rows, x), low, high, color=style["color"], alpha=0.15, linewidth=0, label=BAND)


def marks(axes: Axes, rows: pd.DataFrame, **style: Any) -> None:
    """Draw a mark a row with its interval, at the positions that ``style`` holds as ``x`` or ``y``."""
    value, bars = numbers(rows, "value"), error_bars(rows)
    data: dict[str, Any] = {"x": value, "xerr": bars} if "y" in style else {"y": value, "yerr": bars}
    axes.errorbar(**data, **{"elinewidth": 1.2, "clip_on": False, **style, "linestyle": "none"})


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


def _wrap_upright_labels(figure: Figure) -> None:
    """Break upright labels that are longer than their axes: they would run into those above and below."""
    height = figure.get_size_inches()[1]
    for axes in figure.axes:
        label = axes.yaxis.label
        characters = int(13 * axes.get_position().height * height * 10 / float(label.get_fontsize()))
        if label.get_text() and label.get_rotation() == 90 and characters > 0:
            label.set_text(wrapped(label.get_text(), max(12, characters)))


def save(figure: Figure, kind: str) -> bytes:
    """Return the figure as ``svg``, ``pdf`` or ``png``; equal figures give equal bytes."""
    _wrap_upright_labels(figure)
    sink = io.BytesIO()
    metadata: dict[str, Any] = {"svg": {"Date": None, "Creator": None}, "pdf": {"CreationDate": None}}.get(kind, {})
    with mpl.rc_context(SETTINGS), warnings.catch_warnings():
        # Letters that the font lacks, of a title in Chinese for example, are drawn as boxes: the tables have them.
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        figure.savefig(sink, format=kind, metadata=metadata, dpi=110)
    if kind == "svg":
        # Pictures are named by their content: one shown twice would give a drawing two elements of one name.
        drawn = re.sub(rb'(<image\b[^>]*?) id="[^"]*"', rb"\1", sink.getvalue())
        # Clip paths are named by where panels lie in every bit, and the layout's last bits vary from run to run.
        clips: dict[bytes, bytes] = {}
        return re.sub(
            rb'(?<=id="|rl\(#)p[0-9a-f]{10}\b', lambda name: clips.setdefault(name[0], b"p%d" % len(clips)), drawn
        )
    return sink.getvalue()
