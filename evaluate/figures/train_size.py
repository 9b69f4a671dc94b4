"""mIoU against the number of training images: paper A, section 3.1."""

import pandas as pd
from matplotlib.figure import Figure

from evaluate.figures.removal_curve import NAMES
from evaluate.figures.style import cells, curve, legend_above, looks, new_figure, smallest_k
from evaluate.results.table import Result


def figure(table: pd.DataFrame, answers: list[tuple[str, Result]]) -> Figure | None:
    """Return one panel a classifier that was fitted on several training sizes, last layer, nothing removed."""
    rows = cells(table[table["analysis"] == "patch-classification"], "patch_miou")
    rows = rows[rows["m"] == 0]
    classifiers = [name for name in NAMES if rows.loc[rows["classifier"] == name, "n_train"].nunique() > 1]
    if not classifiers:
        return None
    styles = looks(table)
    drawn, panels = new_figure(max(6.4, 3.4 * len(classifiers) + 0.6), 3.9, len(classifiers), sharey=True)
    for axes, classifier in zip(panels, classifiers, strict=True):
        for model, part in rows[rows["classifier"] == classifier].groupby("model", sort=False):
            last = smallest_k(part[part["x_value"] == part["x_value"].max()])
            curve(axes, last, "n_train", styles[str(model)], str(model))
        axes.set_xticks(sorted({int(n) for n in rows.loc[rows["classifier"] == classifier, "n_train"]}))
        axes.set_title(NAMES[classifier], fontsize=10, loc="left")
        axes.set_xlabel("training images")
    panels[0].set_ylabel("mIoU of patches")
    panels[0].set_ylim(bottom=0)
    legend_above(drawn, panels[0])
    return drawn
