"""Tokens of a few images in two dimensions, by class and by image, and how a layer moves those of one image."""

from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from evaluate.figures import style
from evaluate.results.table import Result
from stores.specs import VOID

CELL = 2.9
"""Width of a map, in inches."""
MAPS = (("token_pca", "principal components"), ("token_tsne", "t-SNE"))
GREY = "#d9d9d9"
"""Colour of patches without a class."""


def flat(table: pd.DataFrame, results: list[tuple[str, Result]]) -> Figure | None:
    """Return one row a model: principal components and t-SNE, each by class where there are some and by image."""
    shown = [(model, result.arrays) for model, result in results if "token_pca" in result.arrays]
    if not shown:
        return None
    has_classes = any("token_class" in arrays for _, arrays in shown)
    ways = ["token_class", "token_image"] if has_classes else ["token_image"]
    columns = [(name, title, way) for name, title in MAPS for way in ways]
    drawn, axes = style.new_figure((CELL * len(columns) + 0.3, CELL * len(shown) + 0.8), len(columns), len(shown))
    for number, (panels, (model, arrays)) in enumerate(zip(axes, shown, strict=True)):
        for panel, (name, title, way) in zip(panels, columns, strict=True):
            _scatter(panel, arrays[name], _colours(arrays, way))
            by = "by class" if way == "token_class" else "by image"
            panel.set_title("" if number else f"{title}, {by}", fontsize=9)
        panels[0].set_ylabel(style.wrapped(model, 24), fontsize=9)
    present = {int(one) for _, arrays in shown for one in np.unique(arrays.get("token_class", []))} - {VOID}
    first = next((arrays for _, arrays in shown if "token_class" in arrays), {})
    handles = [
        Patch(facecolor=tuple(first["colours"][number] / 255), label=str(first["class_names"][number]))
        for number in sorted(present)
    ]
    if handles:
        style.legend(drawn, handles, fontsize=8)
    return drawn


def _colours(arrays: dict[str, np.ndarray], way: str) -> list[Any]:
    """Return a colour a token."""
    if way == "token_image" or "token_class" not in arrays:
        shades = mpl.colormaps["turbo"](np.linspace(0.02, 0.98, int(arrays["token_image"].max()) + 1))
        return [tuple(shades[number]) for number in arrays["token_image"]]
    palette = arrays["colours"] / 255
    return [GREY if number == VOID else tuple(palette[number]) for number in arrays["token_class"]]


def _scatter(panel: Axes, places: np.ndarray, colours: list[Any]) -> None:
    panel.scatter(places[:, 0], places[:, 1], c=colours, s=3.0, linewidths=0, rasterized=True)
    panel.set_xticks([])
    panel.set_yticks([])


def moves(table: pd.DataFrame, results: list[tuple[str, Result]]) -> Figure | None:
    """Return one panel a model: an arrow a token, from before a layer to after it, in three dimensions."""
    shown = [(model, result.arrays) for model, result in results if "token_moves" in result.arrays]
    if not shown:
        return None
    size = 4.2 * len(shown) + 0.3, 4.4
    drawn, [panels] = style.new_figure(size, len(shown), subplot_kw={"projection": "3d"})
    for panel, (model, arrays) in zip(panels, shown, strict=True):
        before, after = arrays["token_moves"]
        step = (after - before).T
        if panel.name == "3d":
            panel.quiver(*before.T, *step, color="#555555", linewidth=0.5, arrow_length_ratio=0.15)
            panel.scatter(*before.T, color=style.COLOURS[0], s=5, depthshade=False, label="before", rasterized=True)
            panel.scatter(*after.T, color=style.COLOURS[1], s=5, depthshade=False, label="after", rasterized=True)
            panel.set_zlabel("direction 3", fontsize=8)
            panel.set_box_aspect(None, zoom=0.85)
            panel.tick_params(labelsize=7)
        else:  # axes of a figure of the reader's own
            arrows: Any = {"angles": "xy", "scale_units": "xy", "scale": 1, "color": "#555555", "width": 0.002}
            panel.quiver(*before[:, :2].T, *step[:2], **arrows)
            panel.scatter(*before[:, :2].T, color=style.COLOURS[0], s=5, label="before")
            panel.scatter(*after[:, :2].T, color=style.COLOURS[1], s=5, label="after")
        panel.set_xlabel("direction 1", fontsize=8)
        panel.set_ylabel("direction 2", fontsize=8)
        panel.set_title(style.wrapped(f"{model}: {arrays['token_moves_title']}", 40), fontsize=9)
    style.legend_above(drawn, panels[0])
    return drawn
