"""Accuracy of a linear probe of whole images against the number of features that it reads."""

import pandas as pd
from matplotlib.figure import Figure

from evaluate.analyses.information import ALL, COMPONENTS, RANDOM
from evaluate.figures import style
from evaluate.results.metrics import IMAGE_ACCURACY
from evaluate.results.preferred import last_layer
from evaluate.results.table import Result

PANELS = {RANDOM: "random features", COMPONENTS: "leading principal components"}


def figure(table: pd.DataFrame, results: list[tuple[str, Result]]) -> Figure | None:
    """Return a panel of random features and one of principal components: a line a model, all features at its end."""
    rows = style.metric_rows(table, "information", IMAGE_ACCURACY)
    if rows.empty:
        return None
    rows = last_layer(rows)
    rows = rows[rows["token"] == rows["token"].iloc[0]]
    drawn, [panels] = style.new_figure((8.2, 3.7), 2, sharey=True)
    for panel, (outcome, title) in zip(panels, PANELS.items(), strict=True):
        for model, look, _, part in style.by_model(rows, table):
            style.curve(panel, part[part["outcome"].isin([outcome, ALL])], "x_value", label=model, **look)
        panel.set_xscale("log")
        panel.set_title(title, fontsize=10, loc="left")
        panel.set_xlabel("number of features read")
    panels[0].set_ylabel("accuracy of images")
    style.legend_above(drawn, panels[0])
    style.name_conditions(drawn, rows)
    return drawn
