"""Rasterises outlines into a map with one class per pixel.

A pixel belongs to an outline when its centre lies inside (even-odd rule; a centre on a left or upper edge is inside,
on a right or lower edge outside, so that outlines with a common edge share no pixel and skip none). Large outlines are
painted first and small ones over them; of equal areas the later one in the list is on top.
"""

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from jaxtyping import Bool, Int64, UInt8

from pipeline.datasets.contract import Dataset, Source
from pipeline.datasets.reading.images import image_size
from pipeline.datasets.reading.polygons import Polygon, area
from stores.specs import VOID, Size

REVISION = 1
"""Increased when the same outlines give other pixels."""

_EPSILON = float(np.finfo(np.float64).eps)


def paint(size: Size, outlines: Sequence[tuple[Polygon, int]], background: int) -> UInt8[np.ndarray, "height width"]:
    """Return a map of this size with the class id of every pixel, ``background`` outside of all outlines.

    ``outlines`` are corners (x, y) in pixels, where pixel i covers i..i+1, with their class id; parts outside the
    map are ignored.
    """
    classes = np.full((size.height, size.width), background, np.uint8)
    areas = [area(polygon) for polygon, _ in outlines]
    for index in sorted(range(len(outlines)), key=lambda index: (-areas[index], index)):
        polygon, class_id = outlines[index]
        top, left, inside = _inside(polygon, size)
        rows, columns = inside.shape
        classes[top : top + rows, left : left + columns][inside] = class_id
    return classes


def _inside(polygon: Polygon, size: Size) -> tuple[int, int, Bool[np.ndarray, "rows columns"]]:
    """Return the first row, the first column, and which pixels from there on have their centre inside."""
    xs, ys = zip(*polygon, strict=True)
    top, bottom = _centres(min(ys), max(ys), size.height)
    left, right = _centres(min(xs), max(xs), size.width)
    rows, columns = bottom - top, right - left
    if rows <= 0 or columns <= 0:
        return 0, 0, np.zeros((0, 0), bool)
    # From the upper to the lower end, so that a common edge of two outlines is computed identically.
    ends = np.array([sorted((a, b), key=lambda end: end[::-1]) for a, b in _edges(polygon)], np.float64)
    x0, y0, x1, y1 = ends.reshape(-1, 4).T
    y = np.arange(top, bottom) + 0.5
    edge, row = np.nonzero((y0[:, None] <= y) & (y < y1[:, None]))
    first = _first_centre_right_of(x0[edge], y0[edge], x1[edge], y1[edge], y[row])
    first = np.clip(first, left, right) - left
    crossings = np.bincount(row * (columns + 1) + first, minlength=rows * (columns + 1))
    passed = np.cumsum(crossings.reshape(rows, columns + 1)[:, :columns], axis=1)
    return top, left, passed % 2 == 1


def _edges(polygon: Polygon) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    return [(polygon[index - 1], corner) for index, corner in enumerate(polygon)]


def _centres(low: float, high: float, extent: int) -> tuple[int, int]:
    """Return the first pixel whose centre is at or after ``low`` and the first at or after ``high``, in the map."""
    return max(0, math.ceil(low - 0.5)), min(extent, math.ceil(high - 0.5))


def _first_centre_right_of(
    x0: np.ndarray, y0: np.ndarray, x1: np.ndarray, y1: np.ndarray, y: np.ndarray
) -> Int64[np.ndarray, " crossing"]:
    """Return the first column whose centre is not left of where each edge crosses its row's line of centres.

    Where float64 cannot tell on which side a centre lies, exact fractions are used.
    """
    crossing = x0 + (y - y0) / (y1 - y0) * (x1 - x0) - 0.5
    column = np.ceil(crossing)
    bound = 16 * _EPSILON * (np.abs(x0) + np.abs(x1) + 1)
    for index in np.flatnonzero(np.abs(crossing - np.rint(crossing)) <= bound).tolist():
        ax, ay, bx, by, at = (Fraction(float(values[index])) for values in (x0, y0, x1, y1, y))
        column[index] = math.ceil(ax + (at - ay) / (by - ay) * (bx - ax) - Fraction(1, 2))
    return column.astype(np.int64)


def painted_objects(dataset: Dataset, source: Source) -> UInt8[np.ndarray, "height width"]:
    """Return a source's objects, including ignored ones, rasterised on class 0; all void without labels."""
    size = image_size(source.image)
    if source.label is None:
        return np.full((size.height, size.width), VOID, np.uint8)
    return paint(size, [(entry.polygon, entry.category) for entry in dataset.objects(source)], background=0)
