"""Queries under a view and the clean patches nearest to them, framed in their tiles: paper A, section 3.3."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from evaluate.figures import style
from evaluate.figures.retrieval import COLOURS
from evaluate.results.table import Result
from evaluate.scoring.retrieval.outcomes import OUTCOMES

CELL = 1.35
"""Width of a tile, in inches."""
LEFT, TOP = 1.25, 0.3
"""Room for titles, in inches."""
MOST = 200
"""Tiles of one figure; with more models or views fewer queries are shown, but one of each."""


def figure(table: pd.DataFrame, results: list[tuple[str, Result]]) -> Figure | None:
    """Return one row a query, model and m: the query's tile, then those of its nearest patches, the outcome below."""
    shown = [(model, result.arrays) for model, result in results if "example_tiles" in result.arrays]
    lines = [(model, arrays, line) for model, arrays in shown for line in _fitting(arrays, len(shown))]
    if not lines:
        return None
    n_columns = 1 + lines[0][1]["example_outcome"].shape[1]
    height, width = lines[0][1]["example_tiles"].shape[1:3]
    cell = CELL * height / width + 0.22
    size = LEFT + CELL * n_columns, TOP + cell * len(lines)
    drawn, axes = style.new_figure(size, n_columns, len(lines), layout=None)
    style.place_panels(drawn, LEFT / size[0], 0.2 / size[1], 0.995, 1.0 - TOP / size[1], wspace=0.04, hspace=0.26)
    for panels, (model, arrays, line) in zip(axes, lines, strict=True):
        rows, columns = (int(number) for number in arrays["example_grid"])
        names = [str(arrays["example_category"][line])]
        names += [OUTCOMES[number] for number in arrays["example_outcome"][line]]
        for index, (panel, name) in enumerate(zip(panels, names, strict=True)):
            tile = arrays["example_tiles"][arrays["example_tile"][line, index]]
            panel.imshow(tile, extent=(0, columns, rows, 0), interpolation="nearest", aspect="equal")
            row, column = divmod(int(arrays["example_patch"][line, index]), columns)
            # White below the colour, so that the frame shows on every picture.
            for colour, thickness in (("white", 2.8), (COLOURS[name] if index else "black", 1.4)):
                panel.add_patch(Rectangle((column, row), 1, 1, fill=False, edgecolor=colour, linewidth=thickness))
            style.hide_axes(panel)
            panel.set_xlabel(name.replace("-", " ") if index else name, fontsize=8, labelpad=2)
        m = int(arrays["example_m"][line])
        words = [model, str(arrays["example_view"][line]), *([f"without top {m}"] if m else [])]
        label = style.wrapped("\n".join(words), 20)
        panels[0].set_ylabel(label, fontsize=7.5, rotation=0, ha="right", va="center", labelpad=4)
    titles = ["query", *("nearest" if rank == 1 else f"{rank}. nearest" for rank in range(1, n_columns))]
    for panel, title in zip(axes[0], titles, strict=True):
        panel.set_title(title, fontsize=9)
    searched = table[(table["analysis"] == "retrieval") & table["k"].notna()]
    # Without k: the columns say which neighbour.
    style.name_conditions(drawn, searched.assign(k=searched["k"].where(searched["k"] < 0)))
    return drawn


def _fitting(arrays: dict[str, np.ndarray], n_models: int) -> list[int]:
    """Return the lines of one model that are shown: as many queries of every view and m as fit."""
    keys = list(zip(arrays["example_view"], arrays["example_m"], strict=True))
    n_groups = len(set(keys)) * n_models
    most = max(1, MOST // (arrays["example_tile"].shape[1] * n_groups))
    views = [view for view, _ in keys]
    # A query's lines with and without the leading features stand together.
    order = sorted((views.index(view), keys[:line].count((view, m)), m, line) for line, (view, m) in enumerate(keys))
    return [line for _, number, _, line in order if number < most]
