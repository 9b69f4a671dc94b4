"""CKA of all pairs of layers as heat maps, models grouped by their last layers, and corresponding layers by depth.

Papers B-1 and B-3 (pairs of layers), B-4 (models), B-5 (sub-layers) and B-6 (depth at which models diverge).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float64
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from evaluate.figures import style
from evaluate.results.metrics import CKA
from evaluate.results.preferred import last_layer
from evaluate.results.table import Result

MOST_MODELS = 8
"""Models whose pairs have panels; of more, the first."""
MOST_PAIRS = 6
"""Pairs of models whose sub-layers have panels; of more, the first."""
OUTPUT = "output"


@dataclass(frozen=True)
class PairOfModels:
    """CKA of all pairs of layers of two models, at one point of their blocks."""

    model: str
    reference: str
    point: str
    depths: list[float]
    """Of the model's layers, in blocks."""
    reference_depths: list[float]
    values: Float64[np.ndarray, "layer other"]
    low: Float64[np.ndarray, "layer other"]
    high: Float64[np.ndarray, "layer other"]
    units: tuple[str, str] = ("blocks", "blocks")
    """What the layers of either model are."""

    @property
    def corresponds(self) -> bool:
        """Whether these are two models whose layers correspond, for they are of the same depth."""
        return self.model != self.reference and self.depths == self.reference_depths

    @property
    def mean(self) -> float:
        """Mean over corresponding layers."""
        return float(np.diagonal(self.values).mean())

    @property
    def title(self) -> str:
        """Both models, or the one."""
        return self.model if self.model == self.reference else f"{self.model} and {self.reference}"


def _drawn_rows(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of CKA of one kind of token: that with most pairs of layers, the last one of several."""
    rows = style.metric_rows(table, "similarity", CKA)
    rows = rows[rows["level"].isna()]  # a view has one
    counts = rows["token"].value_counts()
    kinds = [kind for kind in dict.fromkeys(rows["token"]) if counts[kind] == counts.max()]
    return rows[rows["token"] == kinds[-1]] if kinds else rows


def _pairs(rows: pd.DataFrame) -> list[PairOfModels]:
    """Return the matrices of all pairs of models and points, in order of appearance."""
    rows = rows.assign(outcome=rows["outcome"].fillna(OUTPUT))
    own: dict[tuple[str, str], list[float]] = {}
    for (model, point), part in rows[rows["model"] == rows["reference"]].groupby(["model", "outcome"], sort=False):
        own[str(model), str(point)] = sorted({float(depth) for depth in part["x_value"]})
    pairs, stages = [], set(rows.loc[rows["array"].str.startswith("stage."), "model"])
    for (model, reference, point), part in rows.groupby(["model", "reference", "outcome"], sort=False):
        matrices = [
            part.pivot_table(index="layer", columns="x_value", values=name, dropna=False, aggfunc="first")
            .to_numpy(dtype=float, na_value=np.nan)
            for name in ("value", "low", "high")
        ]  # fmt: skip
        depths = own.get((str(model), str(point)), [])
        other_depths = sorted({float(depth) for depth in part["x_value"]})
        if matrices[0].shape == (len(depths), len(other_depths)):
            units = ["stages" if name in stages else "blocks" for name in (model, reference)]
            values, low, high = matrices
            names = str(model), str(reference), str(point)
            pairs.append(PairOfModels(*names, depths, other_depths, values, low, high, (units[0], units[1])))
    return pairs


def figure(table: pd.DataFrame, results: list[tuple[str, Result]]) -> Figure | None:
    """Return one heat map a pair of models, in a triangle of models; the first point where outputs are not compared."""
    rows = _drawn_rows(table)
    if rows.empty:
        return None
    if not (pairs := _pairs(rows)):
        return None
    points = list(dict.fromkeys(pair.point for pair in pairs))
    point = OUTPUT if OUTPUT in points else points[0]
    shown = {(pair.model, pair.reference): pair for pair in pairs if pair.point == point}
    models = list(dict.fromkeys(name for pair in shown for name in pair))[:MOST_MODELS]
    least = min(0.0, _least(shown.values()))
    side = 2.2 if len(models) > 1 else 3.4
    drawn, axes = style.new_figure((side * len(models) + 1.7, side * len(models) + 0.6), len(models), len(models))
    image = None
    for row, model in enumerate(models):
        for column, reference in enumerate(models):
            panel = axes[row][column]
            pair = shown.get((model, reference))
            if pair is None or row > column:
                panel.set_axis_off()
                continue
            image = _heat_map(panel, pair, least)
            if row == 0 and len(models) > 1:
                panel.set_title(style.wrapped(reference, 24), fontsize=8, loc="left")
            if row == column:
                panel.set_ylabel(style.wrapped(f"depth of {model}, {pair.units[0]}", 24), fontsize=8)
                panel.set_xlabel(style.wrapped(f"depth of {reference}, {pair.units[1]}", 24), fontsize=8)
    if image is not None:
        drawn.colorbar(image, ax=list(np.ravel(axes)), label="CKA", shrink=0.8, pad=0.02)
    style.name_conditions(drawn, rows, _more(rows, "" if point == OUTPUT else f"at {point} of every block"))
    return drawn


def by_model(table: pd.DataFrame, results: list[tuple[str, Result]]) -> Figure | None:
    """Return the tree of three or more models by the CKA of their last layers (average linkage)."""
    from scipy.cluster.hierarchy import dendrogram, linkage
    from scipy.spatial.distance import squareform

    rows = _drawn_rows(table)
    if rows.empty:
        return None
    last = {
        (pair.model, pair.reference): pair.values[-1, -1] for pair in _pairs(rows) if pair.point == OUTPUT
    }  # fmt: skip
    models = list(dict.fromkeys(name for pair in last for name in pair))
    apart = np.zeros((len(models), len(models)))
    for (one, other), value in last.items():
        place = models.index(one), models.index(other)
        apart[place] = apart[place[::-1]] = 1.0 - value if one != other else 0.0
    if len(models) < 3 or not np.isfinite(apart).all():
        return None
    drawn, [[panel]] = style.new_figure((6.4, 0.45 * len(models) + 1.3))
    tree = linkage(squareform(apart, checks=False), method="average")
    labels = [style.wrapped(model, 34) for model in models]
    dendrogram(tree, ax=panel, orientation="left", labels=labels, color_threshold=0,
               above_threshold_color=style.COLOURS[0], leaf_font_size=9)  # fmt: skip
    panel.set_xlabel("1 - CKA of last layers, mean over pairs of models")
    panel.grid(visible=False, axis="y")
    style.name_conditions(drawn, last_layer(rows), _more(rows))
    return drawn


def sublayers(table: pd.DataFrame, results: list[tuple[str, Result]]) -> Figure | None:
    """Return a row of heat maps a pair of models (the model itself where there is one), a column a point."""
    rows = _drawn_rows(table)
    pairs = [] if rows.empty else _pairs(rows)
    points = list(dict.fromkeys(pair.point for pair in pairs))
    if not set(points) - {OUTPUT}:
        return None
    having = {pair.title for pair in pairs if pair.point != OUTPUT}  # backbones of stages have the output alone
    pairs = [pair for pair in pairs if pair.title in having]
    between = [pair for pair in pairs if pair.model != pair.reference] or pairs
    titles = list(dict.fromkeys(pair.title for pair in between))[:MOST_PAIRS]
    least = min(0.0, _least(between))
    size = 1.9 * len(points) + 1.9, 1.9 * len(titles) + 0.8
    drawn, axes = style.new_figure(size, len(points), len(titles))
    image = None
    for row, title in enumerate(titles):
        for column, point in enumerate(points):
            panel = axes[row][column]
            pair = next((one for one in between if (one.title, one.point) == (title, point)), None)
            if pair is None:
                panel.set_axis_off()
                continue
            image = _heat_map(panel, pair, least)
            panel.set_title(f"{point}: {pair.mean:.2f}" if pair.corresponds else point, fontsize=9, loc="left")
            if column == 0:
                panel.set_ylabel(style.wrapped(f"depth of {pair.model}, {pair.units[0]}", 24), fontsize=8)
            panel.set_xlabel(style.wrapped(f"depth of {pair.reference}, {pair.units[1]}", 24), fontsize=8)
    if image is not None:
        drawn.colorbar(image, ax=list(np.ravel(axes)), label="CKA", shrink=0.8, pad=0.02)
    has_means = any(pair.corresponds for pair in between)
    style.name_conditions(drawn, rows, _more(rows, "beside each point the mean of equal depths" if has_means else ""))
    return drawn


def by_depth(table: pd.DataFrame, results: list[tuple[str, Result]]) -> Figure | None:
    """Return one line a pair of models of the same depth: CKA of corresponding outputs against depth."""
    rows = _drawn_rows(table)
    pairs = [] if rows.empty else [pair for pair in _pairs(rows) if pair.point == OUTPUT]
    same = [pair for pair in pairs if pair.corresponds and len(pair.depths) > 1]
    if not same:
        return None
    drawn, [[panel]] = style.new_figure((6.4, 4.2))
    panel.axhline(0.5, color="#5b5b5b", linewidth=0.9, linestyle=(0, (4, 3)))
    for number, pair in enumerate(same):
        look = style.look_of(number)
        value, low, high = (np.diagonal(part) for part in (pair.values, pair.low, pair.high))
        panel.plot(pair.depths, value, markersize=5, label=pair.title, **look)
        if np.isfinite(high - low).any():
            panel.fill_between(pair.depths, low, high, color=look["color"], alpha=0.15, linewidth=0, label=style.BAND)
    panel.set_xlabel("depth, blocks")
    panel.set_ylabel("CKA of the same depth")
    panel.set_ylim(min(-0.02, _least(same)), 1.02)
    style.legend_above(drawn, panel)
    style.name_conditions(drawn, rows, _more(rows))
    return drawn


def _more(rows: pd.DataFrame, words: str = "") -> str:
    """Return how many rows are compared, where these are tiles of images, and more words."""
    tiled = [title for title in rows["train"].dropna().unique() if " rows of " in title]
    return "; ".join(part for part in (" or ".join(tiled), words) if part)


def _least(pairs: Iterable[PairOfModels]) -> float:
    """Return the smallest value of some matrices."""
    return min((float(np.nanmin(pair.values)) for pair in pairs if np.isfinite(pair.values).any()), default=0.0)


def _heat_map(panel: Axes, pair: PairOfModels, least: float) -> Any:
    """Draw one matrix, the first layers at the bottom left."""
    image = panel.imshow(pair.values, origin="lower", vmin=least, vmax=1.0, cmap="viridis", aspect="auto")
    panel.grid(visible=False)
    for places, depths in (
        (panel.set_xticks, pair.reference_depths),
        (panel.set_yticks, pair.depths),
    ):
        step = max(1, -(-len(depths) // 6))
        shown = range(0, len(depths), step)
        places(list(shown), [f"{depths[place]:g}" for place in shown])
    panel.tick_params(labelsize=7)
    return image
