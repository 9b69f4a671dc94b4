"""mIoU against the number of removed features, nearest neighbours beside the probe: paper A, Figs. 1b and 1c."""

import pandas as pd
from matplotlib.figure import Figure

from evaluate.figures.style import cells, curve, legend_above, looks, new_figure, smallest_k
from evaluate.results.table import Result

NAMES = {"knn": "nearest neighbours", "probe": "linear probe"}


def figure(table: pd.DataFrame, answers: list[tuple[str, Result]]) -> Figure | None:
    """Return the curves of the array and training size for which most m were asked, None without a sweep."""
    rows = cells(table[table["analysis"] == "patch-classification"], "patch_miou")
    rows = rows[rows["m"].notna()]
    classifiers = [name for name in NAMES if rows.loc[rows["classifier"] == name, "m"].nunique() > 1]
    if not classifiers:
        return None
    styles = looks(table)
    drawn, panels = new_figure(3.4 * len(classifiers) + 0.6, 3.9, len(classifiers), sharey=True)
    for axes, classifier in zip(panels, classifiers, strict=True):
        for model, part in rows[rows["classifier"] == classifier].groupby("model", sort=False):
            last = part[part["x_value"] == part["x_value"].max()]
            last = smallest_k(last[last["n_train"] == last["n_train"].max()])
            curve(axes, last, "m", styles[str(model)], str(model))
        # Linear up to 10, so that m = 0 has a place; logarithmic beyond.
        axes.set_xscale("symlog", linthresh=10, linscale=0.6)
        ticks = sorted({int(m) for m in rows.loc[rows["classifier"] == classifier, "m"]})
        axes.set_xticks(ticks, [str(tick) for tick in ticks], rotation=60 if len(ticks) > 6 else 0)
        axes.minorticks_off()
        axes.set_xlim(left=-0.8)
        axes.set_title(NAMES[classifier], fontsize=10, loc="left")
        axes.set_xlabel("highest-variance features removed (m)")
    panels[0].set_ylabel("mIoU of patches")
    panels[0].set_ylim(bottom=0)
    legend_above(drawn, panels[0])
    return drawn
