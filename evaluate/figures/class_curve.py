"""IoU of classes layer by layer, easy and hard classes apart: paper A, section 4 and Fig. 3 (experiment A-4)."""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from evaluate.figures import style
from evaluate.results.metrics import PATCH_IOU
from evaluate.results.preferred import preferred_rows
from evaluate.results.table import Result


def figure(table: pd.DataFrame, results: list[tuple[str, Result]]) -> Figure | None:
    """Return two panels of nearest neighbours' mean IoU over layers; every class is a thin line."""
    rows = table[(table["analysis"] == "patch-classification") & (table["metric"] == PATCH_IOU)]
    rows = rows[(rows["classifier"] == "knn") & (rows["m"] == 0) & (rows["x_name"] == "layer")]
    easy = {str(name) for _, result in results for name in result.arrays.get("easy_classes", ())}
    if rows.empty or rows["x_value"].nunique() < 2 or not easy:
        return None
    rows = preferred_rows(rows, "x_value")
    rows = rows.drop_duplicates(["model", "class", "x_value"])
    groups = [("easy classes", rows[rows["class"].isin(easy)]), ("other classes", rows[~rows["class"].isin(easy)])]
    groups = [(title, part) for title, part in groups if part["value"].notna().any()]
    drawn, [panels] = style.new_figure((max(6.4, 3.6 * len(groups) + 0.6), 3.9), len(groups), sharey=True)
    for panel, (title, group) in zip(panels, groups, strict=True):
        for model, look, _, part in style.by_model(group, table):
            for _, line in part.sort_values("x_value").groupby("class"):
                thin = {"color": look["color"], "alpha": 0.25, "linewidth": 0.8}
                panel.plot(style.numbers(line, "x_value"), style.numbers(line, "value"), **thin)
            mean = part.assign(value=style.numbers(part, "value")).groupby("x_value")["value"].mean().sort_index()
            panel.plot(
                mean.index.to_numpy(dtype=float),
                mean,
                label=model,
                markersize=4.5,
                linewidth=1.8,
                clip_on=False,
                **look,
            )
        panel.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        panel.set_title(f"{title} ({group['class'].nunique()})", fontsize=10, loc="left")
        panel.set_xlabel("layer (block, counted from 0)")
    panels[0].set_ylabel("IoU, nearest neighbours")
    panels[0].set_ylim(bottom=0)
    style.legend_above(drawn, panels[0])
    style.name_conditions(drawn, rows)
    return drawn
