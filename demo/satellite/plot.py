"""Rotated rectangles with exact corners, and the pixels inside them."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32

from demo.painting.canvas import Number, Point

_STEPS = 16  # a pixel; so few that every product below is exact in float64
_RATIO_STEPS = 64
_THIN_STEPS = 4096  # for roads and lines, whose ratio is small


@dataclass(frozen=True)
class Plot:
    """A rotated rectangle; make it by ``plot_at``, which rounds it so that its corners are exact."""

    x: float
    """Centre, in pixels; the upper left corner of the picture is (0, 0), the centre of its first pixel (0.5, 0.5)."""
    y: float
    ahead: tuple[float, float]
    """From the centre to the middle of the front side, in pixels."""
    ratio: float
    """Width over length."""

    @property
    def half(self) -> tuple[float, float]:
        """Half of length and width, in pixels."""
        length = math.sqrt(self.ahead[0] * self.ahead[0] + self.ahead[1] * self.ahead[1])
        return length, length * self.ratio

    @property
    def area(self) -> float:
        """Area in square pixels."""
        length, width = self.half
        return 4 * length * width

    @property
    def corners(self) -> tuple[tuple[float, float], ...]:
        """The corners as seen in the picture: clockwise from the front left one, exact."""
        (ax, ay), ratio = self.ahead, self.ratio
        bx, by = -ay * ratio, ax * ratio
        return tuple(
            (self.x + front * ax + side * bx, self.y + front * ay + side * by)
            for front, side in ((1, -1), (1, 1), (-1, 1), (-1, -1))
        )

    def is_inside(self, height: int, width: int) -> bool:
        """Return whether the whole rectangle is in the picture."""
        return all(0 <= x <= width and 0 <= y <= height for x, y in self.corners)


@dataclass(frozen=True)
class Patch:
    """The window around a plot: which pixels have their centre in it, and their coordinates in the plot."""

    rows: slice
    columns: slice
    inside: Bool[np.ndarray, "row column"]
    along: Float32[np.ndarray, "row column"]
    """-1 at the rear side .. 1 at the front side."""
    across: Float32[np.ndarray, "row column"]
    """-1 at the left side .. 1 at the right side."""


def plot_at(centre: Point, direction: Point, length: Number, width: Number) -> Plot:
    """Return the plot closest to a centre, direction, length and width.

    Args:
        centre: Centre in pixels.
        direction: Unit vector to the front.
        length: Length in pixels.
        width: Width in pixels.
    """
    x, y = (math.floor(part * _STEPS + 0.5) / _STEPS for part in centre)
    ahead_x, ahead_y = (math.floor(part * length / 2 * _STEPS + 0.5) / _STEPS for part in direction)
    steps = _RATIO_STEPS if 8 * width > length else _THIN_STEPS
    ratio = max(1, math.floor(width / length * steps + 0.5)) / steps
    return Plot(x, y, (ahead_x, ahead_y), ratio)


def patch_of(plot: Plot, height: int, width: int) -> Patch | None:
    """Return the patch of a plot in a picture, or None when no pixel's centre lies in it."""
    xs, ys = zip(*plot.corners, strict=True)
    left, right = max(0, math.floor(min(xs))), min(width, math.ceil(max(xs)))
    top, bottom = max(0, math.floor(min(ys))), min(height, math.ceil(max(ys)))
    if left >= right or top >= bottom:
        return None
    x = np.arange(left, right, dtype=np.float64)[None, :] + (0.5 - plot.x)
    y = np.arange(top, bottom, dtype=np.float64)[:, None] + (0.5 - plot.y)
    (ax, ay), ratio = plot.ahead, plot.ratio
    square = ax * ax + ay * ay
    along, across = x * ax + y * ay, y * ax - x * ay  # exact: few binary digits
    inside = (np.abs(along) <= square) & (np.abs(across) <= square * ratio)
    if not inside.any():
        return None
    return Patch(
        slice(top, bottom),
        slice(left, right),
        inside,
        (along / square).astype(np.float32),
        (across / (square * ratio)).astype(np.float32),
    )
