"""Accuracy of classes of whole images layer by layer: figure 10 of "What Do Self-Supervised ViTs Learn?"."""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from evaluate.figures import style
from evaluate.results.metrics import IMAGE_ACCURACY, MAJORITY_ACCURACY
from evaluate.results.table import Result

TOKENS = {
    "class-token": "class token",
    "mean-patch": "mean of patches",
    "class-and-mean": "class token and mean",
    "patch": "all patches",
}
"""Titles of what stands for an image."""
CLASSIFIERS = {**style.CLASSIFIERS, "attentive-probe": "attentive probe"}


def figure(table: pd.DataFrame, results: list[tuple[str, Result]]) -> Figure | None:
    """Return one panel a classifier and kind of token: a line a model over the layers, of the smallest k."""
    rows = style.metric_rows(table, "image-classification", IMAGE_ACCURACY)
    if rows.empty:
        return None
    if rows["k"].notna().any():
        rows = rows[rows["k"].isna() | (rows["k"] == rows["k"].min())]
    panels = [
        (classifier, token)
        for classifier in CLASSIFIERS
        for token in TOKENS
        if ((rows["classifier"] == classifier) & (rows["token"] == token)).any()
    ]
    columns = min(3, len(panels))
    lines = -(-len(panels) // columns)
    drawn, axes = style.new_figure((3.3 * columns + 0.8, 3.0 * lines + 0.9), columns, lines, sharey=True)
    majority = style.metric_rows(table, "image-classification", MAJORITY_ACCURACY)
    for panel, (classifier, token) in zip(axes.flat, panels, strict=False):
        some = rows[(rows["classifier"] == classifier) & (rows["token"] == token)]
        for model, look, _, part in style.by_model(some, table):
            style.curve(panel, part, "x_value", label=model, **look)
        if not majority.empty:
            panel.axhline(float(majority["value"].iloc[0]), color="#888888", linestyle=":", linewidth=1)
        panel.set_title(f"{CLASSIFIERS[classifier]}, {TOKENS[token]}", fontsize=10, loc="left")
        panel.set_xlabel("layer")
        panel.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    for panel in axes.flat[len(panels) :]:
        panel.set_visible(False)
    for line in axes:
        line[0].set_ylabel("accuracy of images")
    style.legend_above(drawn, axes[0, 0])
    style.name_conditions(drawn, rows.assign(layer=None, classifier=None, token=None))
    return drawn
