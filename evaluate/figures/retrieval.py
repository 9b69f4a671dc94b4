"""Outcomes of the nearest clean patch of a transformed patch: paper A, section 3.3, Figs. 5 and 6 (A-11 to A-15)."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from evaluate.figures import style
from evaluate.results.metrics import SHARE, UPPER_BOUND
from evaluate.results.preferred import preferred_rows
from evaluate.results.table import Result

COLOURS = {
    "same-patch": "#0072B2",
    "same-category": "#56B4E9",
    "same-supercategory": "#E69F00",
    "other-category": "#D55E00",
    "background": "#cfcfcf",
}
"""Outcomes from best to worst, dark blue to grey; neighbours differ in lightness too."""


def figure(table: pd.DataFrame, results: list[tuple[str, Result]]) -> Figure | None:
    """Return stacked shares over the level with everything in the gallery: a column a model, a row a view."""
    return _stacked(table, "nothing left out")


def without_own_tile(table: pd.DataFrame, results: list[tuple[str, Result]]) -> Figure | None:
    """Return the same with the query's own tile left out of the gallery."""
    return _stacked(table, "tile left out")


def _stacked(table: pd.DataFrame, reference: str) -> Figure | None:
    table = table[table["reference"] == reference]
    shares = style.metric_rows(table, "retrieval", SHARE)
    shares = shares[shares["view"] != "clean"]
    if shares.empty:
        return None
    shares, bounds = preferred_rows(shares), preferred_rows(style.metric_rows(table, "retrieval", UPPER_BOUND))
    views = list(dict.fromkeys(shares["view"]))
    columns = list(dict.fromkeys((str(model), int(m)) for model, m in zip(shares["model"], shares["m"], strict=True)))
    size = max(1.9 * len(columns) + 0.7, 4.6), 1.55 * len(views) + 1.3
    drawn, axes = style.new_figure(size, len(columns), len(views), sharey=True, sharex="row")
    for line, view in zip(axes, views, strict=True):
        for panel, (model, m) in zip(line, columns, strict=True):
            part, bound = (
                rows[(rows["view"] == view) & (rows["model"] == model) & (rows["m"] == m)] for rows in (shares, bounds)
            )
            _panel(panel, part, bound)
        line[0].set_ylabel(f"{view}\n% of queries", fontsize=9)
    for panel, (model, m) in zip(axes[0], columns, strict=True):
        panel.set_title(str(model) if not m else f"{model}\nwithout top {m}", fontsize=9)
    for panel in axes[-1]:
        panel.set_xlabel("level of the view", fontsize=9)
    handles: list[Patch | Line2D] = [
        Patch(color=colour, label=name.replace("-", " ")) for name, colour in COLOURS.items()
    ]
    if not bounds.empty:
        handles.append(Line2D([], [], color="black", linewidth=2.0, label="upper bound of same patch"))
    style.legend(drawn, handles, fontsize=9)
    style.name_conditions(drawn, shares)
    return drawn


def _panel(panel: Axes, shares: pd.DataFrame, bounds: pd.DataFrame) -> None:
    """Draw the shares of one view, model and m over the level, with the upper bound as a line."""
    wide = shares.pivot_table(index="level", columns="outcome", values="value", aggfunc="first").astype(float)
    wide = wide.reindex(columns=list(COLOURS)).fillna(0.0).sort_index() * 100.0
    if wide.empty:
        panel.set_axis_off()
        return
    levels = wide.index.to_numpy(dtype=float)
    # One level alone has no area: it becomes a bar.
    if len(levels) == 1:
        bottom = 0.0
        for outcome, colour in COLOURS.items():
            panel.bar([levels[0]], [wide[outcome].iloc[0]], 0.5, bottom, color=colour)
            bottom += float(wide[outcome].iloc[0])
        panel.set_xlim(levels[0] - 0.6, levels[0] + 0.6)
    else:
        panel.stackplot(levels, wide.to_numpy().T, colors=list(COLOURS.values()), linewidth=0)
        panel.set_xlim(levels[0], levels[-1])
    if not bounds.empty:
        bounds = bounds.sort_values("level")
        at, height = style.numbers(bounds, "level"), style.numbers(bounds, "value") * 100.0
        if len(at) == 1:
            at, height = np.array([at[0] - 0.25, at[0] + 0.25]), height.repeat(2)
        panel.plot(at, height, color="black", linewidth=2.0)
    panel.set_ylim(0.0, 100.5)
    panel.grid(visible=False)
    ticks = levels if len(levels) <= 5 else levels[:: len(levels) // 4]
    panel.set_xticks(ticks, [f"{level:g}" for level in ticks], fontsize=8)
