"""Outlines as geometry: their area, and the part of them that lies in a rectangle."""

import itertools
from collections.abc import Sequence

Polygon = tuple[tuple[float, float], ...]
"""Corners (x, y) in pixels, without repeating the first; the edge from the last to the first closes it."""


def area(polygon: Sequence[tuple[float, float]]) -> float:
    """Return the area in square pixels (the shoelace formula, taken from the first corner to spare digits)."""
    if not polygon:
        return 0.0
    x0, y0 = polygon[0]
    doubled = 0.0
    for (x1, y1), (x2, y2) in itertools.pairwise(polygon[1:]):
        doubled += (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
    return abs(doubled) / 2


def clip(polygon: Sequence[tuple[float, float]], rectangle: tuple[float, float, float, float]) -> Polygon:
    """Return the part of a polygon inside (left, top, right, bottom), empty where there is none.

    Sutherland and Hodgman, Reentrant polygon clipping, 1974: one side after another. What falls apart stays
    joined by edges of no area, so that `area` of the result is right for polygons that are not convex too.
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
