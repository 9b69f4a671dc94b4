"""Computes areas of polygons and clips them to rectangles."""

import itertools
from collections.abc import Sequence

Polygon = tuple[tuple[float, float], ...]
"""Corners (x, y) in pixels, without repeating the first; the edge from the last to the first closes it."""


def area(polygon: Sequence[tuple[float, float]]) -> float:
    """Return the area in square pixels (shoelace formula relative to the first corner, for precision)."""
    if not polygon:
        return 0.0
    x0, y0 = polygon[0]
    doubled = 0.0
    for (x1, y1), (x2, y2) in itertools.pairwise(polygon[1:]):
        doubled += (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
    return abs(doubled) / 2


def clip(polygon: Sequence[tuple[float, float]], rectangle: tuple[float, float, float, float]) -> Polygon:
    """Return the part of a polygon inside (left, top, right, bottom), empty if there is none.

    Sutherland and Hodgman, Reentrant polygon clipping, 1974: one side after another. Separate parts stay joined by
    edges without area, so that `area` of the result is right for concave polygons as well.
    """
    left, top, right, bottom = rectangle
    corners = tuple(polygon)
    for axis, limit, sign in ((0, left, 1.0), (0, right, -1.0), (1, top, 1.0), (1, bottom, -1.0)):
        corners = _clip_side(corners, axis, limit, sign)
    return corners


def _clip_side(corners: Polygon, axis: int, limit: float, sign: float) -> Polygon:
    kept: list[tuple[float, float]] = []
    for index, end in enumerate(corners):
        start = corners[index - 1]
        from_start, from_end = sign * (start[axis] - limit), sign * (end[axis] - limit)
        if (from_start < 0) != (from_end < 0):
            share = from_start / (from_start - from_end)
            other = start[1 - axis] + share * (end[1 - axis] - start[1 - axis])
            kept.append((limit, other) if axis == 0 else (other, limit))
        if from_end >= 0:
            kept.append(end)
    return tuple(kept)
