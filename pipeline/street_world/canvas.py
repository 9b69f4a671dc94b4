"""A picture and its label map, painted with the same masks, seen by a pinhole camera."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32
from PIL import Image, ImageDraw

Number = int | float  # in full, because the run-time checker of the tests takes no int for a float
Colour = tuple[Number, Number, Number]
"""RGB, 0..1."""
Point = tuple[Number, Number]
"""(x, y) in pixels, or (sideways, up) in metres."""

_CIRCLE = tuple((math.cos(angle), math.sin(angle)) for angle in np.linspace(0, 2 * math.pi, 20, endpoint=False))
_HAZE_LENGTH = 260.0  # metres after which 1/e of an object's own colour is left


@dataclass(frozen=True)
class Camera:
    """A pinhole camera that looks along the street; X points right, Y up from the ground, Z ahead, in metres."""

    focal: Number
    """Focal length, in pixels."""
    vanishing_x: Number
    """Column where the street ends, in pixels."""
    horizon: Number
    """Row of the horizon, in pixels."""
    height: Number = 1.4
    """Height above the ground, in metres."""

    def project(self, x: Number, y: Number, z: Number) -> Point:
        """Return the pixel that shows a point given in metres."""
        return self.vanishing_x + self.focal * x / z, self.horizon + self.focal * (self.height - y) / z


def smooth_noise(
    generator: np.random.Generator, shape: tuple[int, int], cell: Number, octaves: int = 1
) -> Float32[np.ndarray, "height width"]:
    """Return noise of about -1..1 whose coarsest bumps are ``cell`` pixels wide; each octave halves both."""
    height, width = shape
    total = np.zeros(shape, np.float32)
    for octave in range(octaves):
        step = max(cell / 2**octave, 1.0)
        grid = generator.uniform(-1, 1, (math.ceil(height / step) + 2, math.ceil(width / step) + 2))
        bumps = Image.fromarray(grid.astype(np.float32)).resize((width, height), Image.Resampling.BICUBIC)
        total += np.asarray(bumps) / np.float32(2**octave)
    return total


class Canvas:
    """What has been painted so far; later strokes cover earlier ones in the picture and in the labels alike."""

    def __init__(self, height: int, width: int, haze: Colour, generator: np.random.Generator) -> None:
        self.height = height
        self.width = width
        self.haze = np.array(haze, np.float32)
        self.picture = np.zeros((height, width, 3), np.float32)
        self.labels = np.zeros((height, width), np.uint8)
        self.fine = generator.standard_normal((height, width), np.float32)
        self.coarse = smooth_noise(generator, (height, width), cell=width / 40, octaves=3)

    def hazy(self, colour: Float32[np.ndarray, "*pixel 3"], distance: Number) -> Float32[np.ndarray, "*pixel 3"]:
        """Return the colour as seen from this many metres away."""
        own = np.float32(math.exp(-distance / _HAZE_LENGTH))
        return colour * own + self.haze * (1 - own)

    def paint(
        self,
        rows: slice,
        columns: slice,
        mask: Bool[np.ndarray, "row column"],
        colour: Float32[np.ndarray, "row column 3"] | Float32[np.ndarray, "1 1 3"],
        label: int,
        grain: Number,
        distance: Number = 0.0,
    ) -> None:
        """Paint the mask, placed at the window, with a colour and its texture."""
        texture = 1 + np.float32(grain / 2) * (self.fine[rows, columns][mask] + self.coarse[rows, columns][mask])
        own = colour[0] if colour.shape[:2] == (1, 1) else colour[mask]
        self.picture[rows, columns][mask] = self.hazy(own * texture[:, None], distance)
        self.labels[rows, columns][mask] = label

    def polygon(
        self, points: Sequence[Point], colour: Colour, label: int, distance: Number, grain: Number = 0.08
    ) -> None:
        """Paint a polygon given in pixels; it is at least one pixel wide wherever it is in the picture."""
        window = self._window(points)
        if window is None:
            return
        rows, columns, mask = window
        flat = np.array(colour, np.float32).reshape(1, 1, 3)
        self.paint(rows, columns, mask, flat, label, grain, distance)

    def ellipse(
        self, centre: Point, radii: Point, colour: Colour, label: int, distance: Number, grain: Number = 0.08
    ) -> None:
        """Paint an upright ellipse given in pixels."""
        points = [(centre[0] + radii[0] * x, centre[1] + radii[1] * y) for x, y in _CIRCLE]
        self.polygon(points, colour, label, distance, grain)

    def darken(self, centre: Point, radii: Point, factor: Number) -> None:
        """Cast a soft shadow, an ellipse given in pixels, without touching the labels."""
        window = self._window([(centre[0] + radii[0] * x, centre[1] + radii[1] * y) for x, y in _CIRCLE])
        if window is None:
            return
        rows, columns, mask = window
        self.picture[rows, columns][mask] *= np.float32(factor)

    def _window(self, points: Sequence[Point]) -> tuple[slice, slice, Bool[np.ndarray, "row column"]] | None:
        """Return the window around a polygon and its mask in there, or None when it is out of the picture."""
        xs, ys = [x for x, _ in points], [y for _, y in points]
        left, right = max(0, math.floor(min(xs))), min(self.width, math.floor(max(xs)) + 1)
        top, bottom = max(0, math.floor(min(ys))), min(self.height, math.floor(max(ys)) + 1)
        if left >= right or top >= bottom:
            return None
        mask = Image.new("L", (right - left, bottom - top))
        ImageDraw.Draw(mask).polygon([(x - left, y - top) for x, y in points], fill=1)
        return slice(top, bottom), slice(left, right), np.asarray(mask) == 1
