"""mIoU of patches against removed features, layers and training images: paper A, Figs. 1b, 1c and 3, section 3.1."""

from collections.abc import Callable

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from evaluate.figures import style
from evaluate.results.metrics import PATCH_MIOU
from evaluate.results.preferred import preferred_rows
from evaluate.results.table import Result


def removal_curve(table: pd.DataFrame, results: list[tuple[str, Result]]) -> Figure | None:
    """Return the curves over m of the last layer and the training size with most m, None without several m."""
    rows = style.metric_rows(table, "patch-classification", PATCH_MIOU)

    def scale(axes: Axes, here: pd.DataFrame) -> None:
        # Linear up to 10, so that m = 0 is shown; logarithmic beyond.
        axes.set_xscale("symlog", linthresh=10, linscale=0.6)
        ticks = style.counts(here, "m")
        axes.set_xticks(ticks, [str(tick) for tick in ticks], rotation=60 if len(ticks) > 6 else 0)
        axes.minorticks_off()
        axes.set_xlim(left=-0.8)

    rows = rows[(rows["x_name"] == "layer") & rows["m"].notna()]
    return _panels(table, rows, ("m", "highest-variance features removed (m)"), scale, 0.0)


def layer_curve(table: pd.DataFrame, results: list[tuple[str, Result]]) -> Figure | None:
    """Return the curves over layers, nothing removed, of the training size with most layers; None without several."""
    rows = style.metric_rows(table, "patch-classification", PATCH_MIOU)
    rows = rows[(rows["m"] == 0) & (rows["x_name"] == "layer")]

    def scale(axes: Axes, here: pd.DataFrame) -> None:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))

    return _panels(table, rows, ("x_value", "layer (block, counted from 0)"), scale)


def train_size(table: pd.DataFrame, results: list[tuple[str, Result]]) -> Figure | None:
    """Return the curves over training sizes of the last layer, nothing removed, None without several sizes."""
    rows = style.metric_rows(table, "patch-classification", PATCH_MIOU)

    def scale(axes: Axes, here: pd.DataFrame) -> None:
        axes.set_xticks(style.counts(here, "n_train"))

    return _panels(table, rows[rows["m"] == 0], ("n_train", "training images"), scale)


def _panels(
    table: pd.DataFrame,
    rows: pd.DataFrame,
    x: tuple[str, str],
    scale: Callable[[Axes, pd.DataFrame], None],
    narrowest: float = 6.4,
) -> Figure | None:
    """Return one panel a classifier that has several values of the column and label ``x``, a curve a model."""
    column, label = x
    rows = preferred_rows(rows, column)
    classifiers = [name for name in style.CLASSIFIERS if rows.loc[rows["classifier"] == name, column].nunique() > 1]
    if not classifiers:
        return None
    size = max(narrowest, 3.4 * len(classifiers) + 0.6), 3.9
    drawn, [panels] = style.new_figure(size, len(classifiers), sharey=True)
    for axes, classifier in zip(panels, classifiers, strict=True):
        here = rows[rows["classifier"] == classifier]
        for model, look, _, part in style.by_model(here, table):
            style.curve(axes, part, column, label=model, **look)
        scale(axes, here)
        axes.set_title(style.CLASSIFIERS[classifier], fontsize=10, loc="left")
        axes.set_xlabel(label)
    panels[0].set_ylabel("mIoU of patches")
    panels[0].set_ylim(bottom=0)
    style.legend_above(drawn, panels[0])
    style.name_conditions(drawn, rows[rows["classifier"].isin(classifiers)])
    return drawn
