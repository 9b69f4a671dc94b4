"""In-context segmentation layer by layer, and with the features of highest variance removed."""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from evaluate.figures import style
from evaluate.results.preferred import last_layer
from evaluate.results.table import Result


def figure(table: pd.DataFrame, results: list[tuple[str, Result]]) -> Figure | None:
    """Return a line of panels for each size of the memory: mIoU of pixels by layer and, where asked, by m."""
    rows = style.metric_rows(table, "in-context-segmentation", "pixel_miou")
    if rows.empty:
        return None
    memories = list(dict.fromkeys(rows["outcome"]))
    by_m = rows["m"].nunique() > 1
    size = 8.4 if by_m else 5.0, 3.1 * len(memories) + 0.6
    drawn, axes = style.new_figure(size, 2 if by_m else 1, len(memories), sharey=True)
    for panels, memory in zip(axes, memories, strict=True):
        some = rows[rows["outcome"] == memory]
        for model, look, _, part in style.by_model(some[some["m"] == some["m"].min()], table):
            style.curve(panels[0], part, "x_value", label=model, **look)
        panels[0].set_title(memory, fontsize=10, loc="left")
        panels[0].set_xlabel("layer (from 0)")
        panels[0].xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        panels[0].set_ylabel("mIoU of pixels")
        if by_m:
            for model, look, _, part in style.by_model(last_layer(some), table):
                style.curve(panels[1], part, "m", label=model, **look)
            panels[1].set_xlabel("number m of removed features, last layer")
    style.legend_above(drawn, axes[0, 0])
    style.name_conditions(drawn, rows)
    return drawn
