"""Draws loss and scores of a training over its steps."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure


def draw_curve(name: str, log: Sequence[dict[str, Any]], path: Path) -> None:
    """Write the curves of a log as SVG.

    Args:
        name: Name of the backbone, in the title.
        log: Lines with ``step`` and some of ``loss``, ``probe`` and ``knn``.
        path: File to write.
    """
    figure = Figure(figsize=(7.2, 2.6), layout="constrained")
    FigureCanvasSVG(figure)
    left, right = figure.subplots(1, 2)
    for axes, keys, label in ((left, ("loss",), "loss"), (right, ("probe", "knn"), "patch mIoU, painted scenes")):
        for key in keys:
            points = [(line["step"], line[key]) for line in log if key in line]
            axes.plot([step for step, _ in points], [value for _, value in points], marker="." if key != "loss" else "")
            if points and len(keys) > 1:
                axes.annotate({"knn": "1-NN"}.get(key, key), points[-1], xytext=(4, 0), textcoords="offset points")
        axes.set_xlabel("step")
        axes.set_ylabel(label)
    left.set_title(name, loc="left")
    figure.savefig(path, metadata={"Date": None})
