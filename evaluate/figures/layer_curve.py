"""mIoU against the layer: paper A, section 4 and Fig. 3."""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from evaluate.figures.removal_curve import NAMES
from evaluate.figures.style import cells, curve, legend_above, looks, new_figure, smallest_k
from evaluate.results.table import Result


def figure(table: pd.DataFrame, answers: list[tuple[str, Result]]) -> Figure | None:
    """Return one panel a classifier that was asked about several layers, with nothing removed."""
    rows = cells(table[table["analysis"] == "patch-classification"], "patch_miou")
    rows = rows[(rows["m"] == 0) & (rows["x_name"] == "layer")]
    classifiers = [name for name in NAMES if rows.loc[rows["classifier"] == name, "x_value"].nunique() > 1]
    if not classifiers:
        return None
    styles = looks(table)
    drawn, panels = new_figure(max(6.4, 3.4 * len(classifiers) + 0.6), 3.9, len(classifiers), sharey=True)
    for axes, classifier in zip(panels, classifiers, strict=True):
        for model, part in rows[rows["classifier"] == classifier].groupby("model", sort=False):
            largest = smallest_k(part[part["n_train"] == part["n_train"].max()])
            curve(axes, largest, "x_value", styles[str(model)], str(model))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_title(NAMES[classifier], fontsize=10, loc="left")
        axes.set_xlabel("layer (block, counted from 0)")
    panels[0].set_ylabel("mIoU of patches")
    panels[0].set_ylim(bottom=0)
    legend_above(drawn, panels[0])
    return drawn
