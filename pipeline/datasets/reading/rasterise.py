"""Rasterises outlines into a map with one class per pixel.

A pixel belongs to an outline when its centre lies inside (even-odd rule; a centre on a left or upper edge is inside,
on a right or lower edge outside, so that outlines with a common edge share no pixel and skip none). Large outlines are
below small ones; of equal areas the later one in the list is on top.
"""

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from jaxtyping import Bool, Float64, Int64, UInt8

from pipeline.datasets.contract import Dataset, Source
from pipeline.datasets.reading.images import image_size
from pipeline.datasets.reading.polygons import Polygon, area
from stores.errors import UserError
from stores.specs import VOID, Size

REVISION = 1
"""Increased when the same outlines give other pixels."""

MOST_CELLS = 1 << 32
"""Largest number of pixels in the bounding boxes of all objects of an image; painting them takes about a minute."""

_CELLS_AT_ONCE = 1 << 22
_CELLS_PER_FRACTION = 500
_EPSILON = float(np.finfo(np.float64).eps)


class _Work:
    """Counts the work of painting one map, so that a hostile annotation ends in a sentence and not in hours."""

    def __init__(self) -> None:
        self.cells = 0

    def add(self, cells: int) -> None:
        """Add the pixels of a bounding box; raises UserError when they are too many in all."""
        self.cells += cells
        if self.cells > MOST_CELLS:
            raise UserError(
                f"its objects cover more than {MOST_CELLS:,} pixels in all, counted with those below others: "
                "cut the image into tiles, or remove objects"
            )


def paint(size: Size, outlines: Sequence[tuple[Polygon, int]], background: int) -> UInt8[np.ndarray, "height width"]:
    """Return a map of this size with the class id of every pixel, ``background`` outside of all outlines.

    ``outlines`` are corners (x, y) in pixels, where pixel i covers i..i+1, with their class id; parts outside the
    map are ignored. The topmost outline is painted first and the others where nothing is painted yet, so that those
    that cannot be seen cost little. Raises UserError when the bounding boxes cover too many pixels in all.
    """
    classes = np.full((size.height, size.width), background, np.uint8)
    free = np.ones(classes.shape, bool)
    n_free = classes.size
    areas = [area(polygon) for polygon, _ in outlines]
    work = _Work()
    for index in sorted(range(len(outlines)), key=lambda index: (areas[index], -index)):
        if n_free == 0:
            break
        polygon, class_id = outlines[index]
        xs, ys = zip(*polygon, strict=True)
        top, bottom = _centres(min(ys), max(ys), size.height)
        left, right = _centres(min(xs), max(xs), size.width)
        if top >= bottom or left >= right or not free[top:bottom, left:right].any():
            work.add(1)
            continue
        ends = _edges(polygon)
        step = max(1, _CELLS_AT_ONCE // (right - left + 1))
        for start in range(top, bottom, step):
            stop = min(bottom, start + step)
            here = free[start:stop, left:right]
            inside = _inside(ends, (start, stop), (left, right), work) & here
            classes[start:stop, left:right][inside] = class_id
            here[inside] = False
            n_free -= int(inside.sum())
    return classes


def _inside(
    ends: Float64[np.ndarray, "edge 4"], rows: tuple[int, int], columns: tuple[int, int], work: _Work
) -> Bool[np.ndarray, "rows columns"]:
    """Return which pixels of some rows and columns have their centre inside an outline.

    Args:
        ends: Edges as x0, y0, x1, y1 with y0 <= y1.
        rows: First row, and the one after the last.
        columns: First column, and the one after the last.
        work: Counts the cells.
    """
    n_rows, n_columns = rows[1] - rows[0], columns[1] - columns[0]
    work.add(n_rows * n_columns)
    y = np.arange(*rows) + 0.5
    crossings = np.zeros(n_rows * (n_columns + 1), np.int64)
    step = max(1, _CELLS_AT_ONCE // n_rows)
    for start in range(0, len(ends), step):
        x0, y0, x1, y1 = ends[start : start + step].T
        work.add(len(x0) * n_rows // 8)
        edge, row = np.nonzero((y0[:, None] <= y) & (y < y1[:, None]))
        first = _first_centre_right_of(x0[edge], y0[edge], x1[edge], y1[edge], y[row], work)
        first = np.clip(first, *columns) - columns[0]
        crossings += np.bincount(row * (n_columns + 1) + first, minlength=len(crossings))
    passed = np.cumsum(crossings.reshape(n_rows, n_columns + 1)[:, :n_columns], axis=1)
    inside: np.ndarray = passed % 2 == 1
    return inside


def _edges(polygon: Polygon) -> Float64[np.ndarray, "edge 4"]:
    """Return the edges from the upper to the lower end, so that a common edge of two outlines is computed alike."""
    end = np.array(polygon, np.float64)
    start = np.roll(end, 1, axis=0)
    swapped = (start[:, 1] > end[:, 1]) | ((start[:, 1] == end[:, 1]) & (start[:, 0] > end[:, 0]))
    return np.where(swapped[:, None], np.hstack([end, start]), np.hstack([start, end]))


def _centres(low: float, high: float, extent: int) -> tuple[int, int]:
    """Return the first pixel whose centre is at or after ``low`` and the first at or after ``high``, in the map."""
    return max(0, math.ceil(low - 0.5)), min(extent, math.ceil(high - 0.5))


def _first_centre_right_of(
    x0: np.ndarray, y0: np.ndarray, x1: np.ndarray, y1: np.ndarray, y: np.ndarray, work: _Work
) -> Int64[np.ndarray, " crossing"]:
    """Return the first column whose centre is not left of where each edge crosses its row's line of centres.

    Where float64 cannot tell on which side a centre lies, exact fractions are used; on vertical edges it can.

    Args:
        x0: Column of each edge's upper end.
        y0: Its row.
        x1: Column of each edge's lower end.
        y1: Its row.
        y: Line of centres, as a row coordinate.
        work: Counts the exact computations, each as many cells.
    """
    crossing = x0 + (y - y0) / (y1 - y0) * (x1 - x0) - 0.5
    column = np.ceil(crossing)
    bound = 16 * _EPSILON * (np.abs(x0) + np.abs(x1) + 1)
    unclear = np.flatnonzero((np.abs(crossing - np.rint(crossing)) <= bound) & (x0 != x1))
    work.add(_CELLS_PER_FRACTION * len(unclear))
    for index in unclear.tolist():
        ax, ay, bx, by, at = (Fraction(float(values[index])) for values in (x0, y0, x1, y1, y))
        column[index] = math.ceil(ax + (at - ay) / (by - ay) * (bx - ax) - Fraction(1, 2))
    return column.astype(np.int64)


def painted_objects(dataset: Dataset, source: Source) -> UInt8[np.ndarray, "height width"]:
    """Return a source's objects, including ignored ones, rasterised on class 0; all void without labels.

    Raises UserError as `paint` does, naming the file.
    """
    size = image_size(source.image)
    if source.label is None:
        return np.full((size.height, size.width), VOID, np.uint8)
    outlines = [(entry.polygon, entry.category) for entry in dataset.objects(source)]
    try:
        return paint(size, outlines, background=0)
    except UserError as error:
        raise UserError(f"{source.label} cannot be painted on {source.name}: {error}") from error
