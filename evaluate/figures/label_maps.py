"""Predicted patch classes beside the truth: paper A, appendix (qualitative maps)."""

import textwrap
from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import UInt8
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from evaluate.results.table import Result
from stores.specs import VOID

GREY = (225, 225, 225)
"""Colour of void."""


def painted(
    classes: UInt8[np.ndarray, "height width"], colours: UInt8[np.ndarray, "classes 3"]
) -> UInt8[np.ndarray, "height width 3"]:
    """Return a class map in the data set's colours, void in grey."""
    palette = np.full((256, 3), GREY, np.uint8)
    palette[: len(colours)] = colours
    palette[VOID] = GREY
    return palette[classes]


def figure(table: pd.DataFrame, answers: list[tuple[str, Result]]) -> Figure | None:
    """Return one row an image: the truth, then every model's prediction for every m."""
    maps = [(model, answer) for model, answer in answers if "truth" in answer.arrays]
    if not maps:
        return None
    first = maps[0][1].arrays
    columns: list[tuple[str, np.ndarray]] = [("truth", first["truth"])]
    for model, answer in maps:
        for m, predicted in zip(answer.arrays["predicted_m"], answer.arrays["predicted"], strict=True):
            columns.append((f"{model}\n{f'without top {m}' if m else 'all features'}", predicted))
    n_images, height, width = first["truth"].shape
    cell = 1.9
    drawn = Figure(figsize=(cell * len(columns), (cell * height / width + 0.08) * n_images + 1.4), layout="constrained")
    axes = drawn.subplots(n_images, len(columns), squeeze=False)
    for place, (title, shown) in enumerate(columns):
        for image in range(n_images):
            panel = axes[image][place]
            panel.imshow(painted(shown[image], first["colours"]), interpolation="nearest")
            panel.set_xticks([])
            panel.set_yticks([])
            for side in panel.spines.values():
                side.set_visible(False)
        axes[0][place].set_title(_wrapped(title), fontsize=8)
    present = sorted({int(c) for _, shown in columns for c in np.unique(shown)} - {VOID})
    handles = [
        Patch(facecolor=_fraction(first["colours"][number]), label=str(first["class_names"][number]))
        for number in present
        if number < len(first["colours"])
    ]
    handles.append(Patch(facecolor=_fraction(GREY), label="void"))
    per_line = max(3, min(8, int(1.1 * len(columns))))
    drawn.legend(handles=handles, loc="outside lower left", ncols=per_line, fontsize=8, frameon=False)
    return drawn


def _fraction(colour: Sequence[int] | np.ndarray) -> tuple[float, float, float]:
    red, green, blue = (float(value) / 255.0 for value in colour)
    return red, green, blue


def _wrapped(title: str, width: int = 20) -> str:
    return "\n".join(part for line in title.split("\n") for part in textwrap.wrap(line, width))
