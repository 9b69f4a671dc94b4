"""Paints one object seen from above: its shape inside a rectangle, its colours and its shadow."""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float32

from demo.painting.canvas import Canvas, Colour, Number
from demo.satellite.plot import Patch, Plot, patch_of


def toned(colour: Colour, factor: Number) -> Colour:
    """Return a colour made lighter or darker."""
    red, green, blue = (part * factor for part in colour)
    return red, green, blue


@dataclass
class Sprite:
    """A shape being painted, in coordinates of its rectangle, so that nothing lies outside it."""

    patch: Patch
    u: Float32[np.ndarray, "row column"]
    """From the middle towards the front, in metres."""
    v: Float32[np.ndarray, "row column"]
    """From the middle to the right, in metres."""
    length: float
    """Half of the rectangle's length, in metres."""
    width: float
    """Half of the rectangle's width, in metres."""
    pixel: Number
    """Metres in a pixel."""
    mask: Bool[np.ndarray, "row column"] = field(init=False)
    colour: Float32[np.ndarray, "row column 3"] = field(init=False)

    def __post_init__(self) -> None:
        self.mask = np.zeros(self.u.shape, np.bool_)
        self.colour = np.zeros((*self.u.shape, 3), np.float32)

    def fill(self, region: Bool[np.ndarray, "row column"], colour: Colour) -> None:
        """Add a region to the shape, in one colour."""
        region = region & self.patch.inside
        self.mask |= region
        self.colour[region] = colour

    def draw(self, region: Bool[np.ndarray, "row column"], colour: Colour) -> None:
        """Colour a region of the existing shape."""
        self.colour[region & self.mask] = colour

    def shade(self, factor: Float32[np.ndarray, "row column"]) -> None:
        """Multiply all colours, pixel by pixel."""
        self.colour *= factor[..., None]

    def box(self, u: Number, v: Number, half_length: Number, half_width: Number) -> Bool[np.ndarray, "row column"]:
        """Return an upright box around a point, in metres.

        Args:
            u: Centre towards the front, in metres.
            v: Centre to the right, in metres.
            half_length: Half of the length in metres.
            half_width: Half of the width in metres.
        """
        return (np.abs(self.u - np.float32(u)) <= half_length) & (np.abs(self.v - np.float32(v)) <= half_width)

    def outline(
        self, u: Number, v: Number, half_length: Number, half_width: Number, line: Number
    ) -> Bool[np.ndarray, "row column"]:
        """Return the border of a box.

        Args:
            u: Centre towards the front, in metres.
            v: Centre to the right, in metres.
            half_length: Half of the length in metres.
            half_width: Half of the width in metres.
            line: Width of the border, inwards, in metres.
        """
        return self.box(u, v, half_length, half_width) & ~self.box(u, v, half_length - line, half_width - line)

    def disc(self, u: Number, v: Number, radius: Number) -> Bool[np.ndarray, "row column"]:
        """Return a disc around a point, in metres."""
        du, dv = self.u - np.float32(u), self.v - np.float32(v)
        return du * du + dv * dv <= np.float32(radius * radius)

    def line(self, width: Number) -> float:
        """Return a line's width in metres, at least a visible one."""
        return max(float(width), 0.8 * self.pixel)


def sprite_of(plot: Plot, canvas: Canvas, pixel: Number) -> Sprite | None:
    """Return an empty sprite on a plot, or None where no pixel lies in it."""
    patch = patch_of(plot, canvas.height, canvas.width)
    if patch is None:
        return None
    length, width = (part * pixel for part in plot.half)
    return Sprite(patch, patch.along * np.float32(length), patch.across * np.float32(width), length, width, pixel)


def cast_shadow(
    canvas: Canvas,
    patch: Patch,
    mask: Bool[np.ndarray, "row column"],
    shift: tuple[int, int],
    factor: Number,
) -> None:
    """Darken the pixels on which the mask's shadow falls.

    Args:
        canvas: Canvas to darken.
        patch: Window of the mask.
        mask: Shape that casts the shadow.
        shift: Rows and columns to the end of the shadow.
        factor: Brightness of the shadow, 0..1.
    """
    farthest = max(abs(shift[0]), abs(shift[1]))
    steps = range(1, farthest + 1) if farthest < 4 else (farthest // 3, 2 * farthest // 3, farthest)
    (top, bottom), (left, right) = (patch.rows.start, patch.rows.stop), (patch.columns.start, patch.columns.stop)
    low, high = (min(0, shift[0]), min(0, shift[1])), (max(0, shift[0]), max(0, shift[1]))
    dark = np.zeros((bottom - top + high[0] - low[0], right - left + high[1] - low[1]), np.bool_)
    for step in steps:
        down, aside = shift[0] * step // farthest - low[0], shift[1] * step // farthest - low[1]
        dark[down : down + bottom - top, aside : aside + right - left] |= mask
    first_row, first_column = top + low[0], left + low[1]
    cut_top, cut_left = max(0, -first_row), max(0, -first_column)
    dark = dark[cut_top : canvas.height - first_row, cut_left : canvas.width - first_column]
    row, column = first_row + cut_top, first_column + cut_left
    canvas.picture[row : row + dark.shape[0], column : column + dark.shape[1]][dark] *= np.float32(factor)
