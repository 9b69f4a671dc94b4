"""R² of number and place of an image's objects, told from one vector of it, layer by layer."""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from evaluate.figures import style
from evaluate.figures.image_classification import TOKENS
from evaluate.results.metrics import R2
from evaluate.results.table import Result

TARGETS = {
    "count": "number of objects",
    "distance": "distance of the nearest object",
    "position": "place of the largest object",
}


def figure(table: pd.DataFrame, results: list[tuple[str, Result]]) -> Figure | None:
    """Return a row of panels a kind of token, one panel a target: a line a model over the layers."""
    rows = style.metric_rows(table, "object-positions", R2)
    if rows.empty:
        return None
    targets = [target for target in TARGETS if (rows["outcome"] == target).any()]
    tokens = [token for token in TOKENS if (rows["token"] == token).any()]
    size = (3.2 * len(targets) + 0.8, 2.8 * len(tokens) + 0.9)
    drawn, axes = style.new_figure(size, len(targets), len(tokens), sharey="col")
    for line, token in zip(axes, tokens, strict=True):
        for panel, target in zip(line, targets, strict=True):
            some = rows[(rows["outcome"] == target) & (rows["token"] == token)]
            for model, look, _, part in style.by_model(some, table):
                style.curve(panel, part, "x_value", label=model, **look)
            panel.axhline(0.0, color="#888888", linewidth=0.8)
            panel.set_title(f"{TARGETS[target]},\n{TOKENS[token]}", fontsize=9, loc="left")
            panel.set_xlabel("layer")
            panel.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        line[0].set_ylabel("R² on held-out images")
    style.legend_above(drawn, axes[0, 0])
    style.name_conditions(drawn, rows.assign(layer=None, token=None))
    return drawn
