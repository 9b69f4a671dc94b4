"""Predicted patch classes beside the image and the truth: paper A, appendix (qualitative maps)."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import UInt8
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from evaluate.figures import style
from evaluate.figures.feature_treatments import treatment_title
from evaluate.results.table import Result
from stores.specs import VOID

GREY = (225, 225, 225)
"""Colour of void."""
CELL = 1.9
"""Width of a map, in inches."""


def _painted(
    classes: UInt8[np.ndarray, "height width"], colours: UInt8[np.ndarray, "classes 3"]
) -> UInt8[np.ndarray, "height width 3"]:
    """Return a class map in the data set's colours, void in grey."""
    palette = np.full((256, 3), GREY, np.uint8)
    palette[: len(colours)] = colours
    palette[VOID] = GREY
    return palette[classes]


def figure(table: pd.DataFrame, results: list[tuple[str, Result]]) -> Figure | None:
    """Return one row an image: the image where it is stored, the truth, then each model's prediction for every m or
    treatment."""
    drawn_from = [(model, result) for model, result in results if "truth" in result.arrays]
    if not drawn_from:
        return None
    by = [next((row.get("classifier") for row in result.rows), None) for _, result in drawn_from]
    several = len(set(by)) > 1
    maps = [
        (f"{model}\n{style.CLASSIFIERS.get(str(name), name)}" if several else model, result.arrays)
        for (model, result), name in zip(drawn_from, by, strict=True)
    ]
    first = maps[0][1]
    columns = [("truth", first["truth"])]
    for model, arrays in maps:
        for m, predicted in zip(arrays["predicted_m"], arrays["predicted"], strict=True):
            treatment = arrays.get("treatment")
            done = style.removal_title(int(m)) if treatment is None else treatment_title(str(treatment))
            columns.append((f"{model}\n{done}", predicted))
    n_images, height, width = first["truth"].shape
    # Models of different grids have pictures of different sizes, all of the same images.
    pictures = next((arrays["pictures"] for _, arrays in maps if "pictures" in arrays), None)
    before = 0 if pictures is None else 1
    n_columns = len(columns) + before
    size = CELL * n_columns, (CELL * height / width + 0.08) * n_images + 1.15
    drawn, axes = style.new_figure(size, n_columns, n_images)
    if pictures is not None:
        for image, line in enumerate(axes):
            line[0].imshow(pictures[image], interpolation="nearest")
            style.hide_axes(line[0])
        axes[0][0].set_title("image", fontsize=8)
    for column, (title, shown) in enumerate(columns, start=before):
        for image in range(n_images):
            axes[image][column].imshow(_painted(shown[image], first["colours"]), interpolation="nearest")
            style.hide_axes(axes[image][column])
        axes[0][column].set_title(style.wrapped(title, 20), fontsize=8)
    present = sorted({int(c) for _, shown in columns for c in np.unique(shown)} - {VOID})
    handles = [
        Patch(facecolor=_fraction(first["colours"][number]), label=str(first["class_names"][number]))
        for number in present
        if number < len(first["colours"])
    ]
    handles.append(Patch(facecolor=_fraction(GREY), label="void"))
    style.legend(drawn, handles, fontsize=8)
    style.name_conditions(drawn, table[table["analysis"] == "label-maps"])
    return drawn


def _fraction(colour: Sequence[int] | np.ndarray) -> tuple[float, float, float]:
    red, green, blue = (float(value) / 255.0 for value in colour)
    return red, green, blue
