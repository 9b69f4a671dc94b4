"""Geometry of patch tokens against depth: norms, activations, rank, structure, position and spread, a line a model."""

from typing import Any, NamedTuple

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from evaluate.figures import style
from evaluate.results import metrics
from evaluate.results.preferred import last_layer
from evaluate.results.table import Result

ANALYSIS = "feature-geometry"
DOTS: Any = (0, (1, 1.5))
NORMS = "solid: as the block left them; dotted: after the final norm"


class Panel(NamedTuple):
    """One panel: which rows it shows, and its axis."""

    metric: str
    label: str
    outcome: str | None = None
    """Value of the column ``outcome`` (or its beginning); None for rows without one."""
    m: int | None = None
    logarithmic: bool = False


NORM_PANELS = (
    Panel(metrics.NORM_MEDIAN, "median length of a token\n(units of the features)", logarithmic=True),
    Panel(metrics.NORM_OUTLIER_SHARE, "patches longer than\nmedian + k MAD (share)", "all patches"),
    Panel(metrics.NORM_OUTLIER_SHARE, "the same of corner patches (share)", "corners"),
    Panel(metrics.NORM_BIMODALITY, "Sarle's coefficient of the lengths\n(5/9 is uniform)"),
)
ACTIVATION_PANELS = (
    Panel(metrics.LARGEST_TO_MEDIAN, "largest magnitude\n(medians of the magnitude)", logarithmic=True),
    Panel(metrics.MASSIVE_IMAGES, "images with a massive activation (share)"),
    Panel(metrics.CHANNEL_KURTOSIS, "kurtosis over the features\n(3 is normal)", logarithmic=True),
    Panel(metrics.COSINE_SHARE, "share of the mean cosine\nof the leading feature", m=1),
)
RANK_PANELS = (
    Panel(metrics.RANKME, "RankMe, not centred (dimensions)", "not centred"),
    Panel(metrics.RANKME, "RankMe, centred (dimensions)", "centred"),
    Panel(metrics.DECAY_EXPONENT, "alpha-ReQ, centred\n(exponent of the decay)", "centred, ranks"),
    Panel(metrics.PARTICIPATION_RATIO, "participation ratio, centred,\nbias corrected (dimensions)", "centred, bias"),
    Panel(metrics.STABLE_RANK, "stable rank, centred (dimensions)", "centred"),
)
STRUCTURE_PANELS = (
    Panel(metrics.LDS, "LDS: neighbours less far patches\n(cosine)"),
    Panel(metrics.CDS, "CDS: decay of the cosine\n(a patch of distance)"),
    Panel(metrics.RMSC, "RMSC: contrast of the tokens\n(lengths of a token)"),
    Panel(metrics.SRSS, "SRSS: own class near less others far\n(cosine)"),
)
POSITION_PANELS = (
    Panel(metrics.POSITION_R2, "R² of the patch's row, other images", "row"),
    Panel(metrics.POSITION_R2, "R² of the patch's column, other images", "column"),
    Panel(metrics.POSITION_SHARE, "share of the variance\nthat position explains"),
)
SPREAD_PANELS = (
    Panel(metrics.SHARE_WITHIN_IMAGES, "share of the variance within images"),
    Panel(metrics.MEAN_COSINE, "mean cosine, tokens of one image", "tokens of one image"),
    Panel(metrics.MEAN_COSINE, "mean cosine, tokens of two images", "tokens of two images"),
    Panel(metrics.MEAN_COSINE, "mean cosine, means of two images", "means of two images"),
    Panel(metrics.UNIFORMITY, "uniformity of tokens (nats)", "tokens"),
)


def norms(table: pd.DataFrame, results: list[tuple[str, Result]]) -> Figure | None:
    """Return lengths and outliers against depth."""
    return _panels(table, NORM_PANELS)


def activation(table: pd.DataFrame, results: list[tuple[str, Result]]) -> Figure | None:
    """Return massive activations and outlier features against depth."""
    return _panels(table, ACTIVATION_PANELS)


def rank(table: pd.DataFrame, results: list[tuple[str, Result]]) -> Figure | None:
    """Return effective ranks against depth."""
    return _panels(table, RANK_PANELS)


def position(table: pd.DataFrame, results: list[tuple[str, Result]]) -> Figure | None:
    """Return how well tokens tell their position against depth."""
    return _panels(table, POSITION_PANELS)


def spread(table: pd.DataFrame, results: list[tuple[str, Result]]) -> Figure | None:
    """Return the variance within images, mean cosines and uniformity against depth."""
    return _panels(table, SPREAD_PANELS)


def structure(table: pd.DataFrame, results: list[tuple[str, Result]]) -> Figure | None:
    """Return spatial structure against depth."""
    return _panels(table, STRUCTURE_PANELS)


def by_distance(table: pd.DataFrame, results: list[tuple[str, Result]]) -> Figure | None:
    """Return the mean cosine of two patches against their distance, in the last layer of each model."""
    rows = style.metric_rows(table, ANALYSIS, metrics.DISTANCE_COSINE)
    if rows.empty:
        return None
    rows = last_layer(rows)
    drawn, [[axes]] = style.new_figure((6.4, 4.0))
    for model, look, _, part in style.by_model(rows, table):
        style.curve(axes, part, "x_value", label=model, **look)
    axes.set_xlabel("Manhattan distance on the grid (patches)")
    axes.set_ylabel("mean cosine of two patches")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    style.legend_above(drawn, axes)
    style.name_conditions(drawn, rows)
    return drawn


def intrinsic_dimension(table: pd.DataFrame, results: list[tuple[str, Result]]) -> Figure | None:
    """Return the intrinsic dimension against depth, a panel a kind of vector."""
    return _by_token(table, "intrinsic-dimension", metrics.INTRINSIC_DIMENSION, "intrinsic dimension (TwoNN)")


def lidar(table: pd.DataFrame, results: list[tuple[str, Result]]) -> Figure | None:
    """Return LiDAR against depth, a panel a kind of vector."""
    return _by_token(table, "lidar", metrics.LIDAR, "LiDAR (dimensions)")


_TOKENS = {
    "patch": "patch tokens",
    "class-token": "class token",
    "mean-patch": "mean of patch tokens",
    "class-and-mean": "class token and mean",
}


def _by_token(table: pd.DataFrame, analysis: str, metric: str, label: str) -> Figure | None:
    rows = style.metric_rows(table, analysis, metric)
    if rows.empty:
        return None
    tokens = [name for name in _TOKENS if (rows["token"] == name).any()]
    drawn, [panels] = style.new_figure((max(6.4, 0.6 + 3.4 * len(tokens)), 3.8), len(tokens))
    for axes, token in zip(panels, tokens, strict=True):
        _lines(axes, rows[rows["token"] == token], table)
        axes.set_title(_TOKENS[token], fontsize=10, loc="left")
        axes.set_ylim(bottom=0.0)
        _depth(axes, label)
    style.legend_above(drawn, panels[0])
    style.name_conditions(drawn, rows, _which_norms(rows))
    return drawn


def _panels(table: pd.DataFrame, panels: tuple[Panel, ...]) -> Figure | None:
    shown = [(panel, _rows_of(table, panel)) for panel in panels]
    shown = [(panel, rows) for panel, rows in shown if rows["value"].notna().any()]
    if not shown:
        return None
    drawn, [axes_of] = style.new_figure((max(6.4, 0.6 + 2.9 * len(shown)), 3.6), len(shown))
    for axes, (panel, rows) in zip(axes_of, shown, strict=True):
        _lines(axes, rows, table)
        if panel.logarithmic and (style.numbers(rows, "value") > 0).all():
            axes.set_yscale("log")
        elif not style.numbers(rows, "value").any():
            axes.set_ylim(0.0, 1.0)  # a share that is 0 everywhere has no scale of its own
        _depth(axes, panel.label)
    every = pd.concat([rows for _, rows in shown])
    style.legend_above(drawn, axes_of[0])
    style.name_conditions(drawn, every, _which_norms(every))
    return drawn


def _rows_of(table: pd.DataFrame, panel: Panel) -> pd.DataFrame:
    rows = style.metric_rows(table, ANALYSIS, panel.metric)
    of_tokens = rows["reference"].isna()  # of a model with both, captured covariances would repeat its tokens' ranks
    rows = rows[of_tokens | ~rows["model"].isin(rows.loc[of_tokens, "model"])]
    if panel.outcome is not None:
        exact = (rows["outcome"] == panel.outcome).fillna(False)
        begins = rows["outcome"].str.startswith(panel.outcome, na=False)
        rows = rows[exact if exact.any() else begins]
    return rows if panel.m is None else rows[(rows["m"] == panel.m).fillna(False)]


def _lines(axes: Axes, rows: pd.DataFrame, table: pd.DataFrame) -> None:
    """Draw a solid line a model, and a dotted one of its tokens after the final norm where there are both."""
    for model, look, _, part in style.by_model(rows, table):
        normed = part["normed"].fillna(False).astype(bool)
        both = normed.any() and not normed.all()
        for some, line in ((part[~normed], {}), (part[normed], {"linestyle": DOTS, "marker": None} if both else {})):
            if len(some):
                label = None if both and line else model
                style.curve(axes, some, "x_value", label=label, **{**look, "linestyle": "-", **line})


def _which_norms(rows: pd.DataFrame) -> str:
    normed = rows["normed"].fillna(False).astype(bool)
    if normed.any() and not normed.all():
        return NORMS
    return "after the final norm" if normed.any() else ""


def _depth(axes: Axes, label: str) -> None:
    axes.set_xlabel("depth (blocks)")
    axes.set_ylabel(label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
