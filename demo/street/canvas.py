"""A canvas with a pinhole camera and haze."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32
from PIL import Image, ImageDraw

from demo.painting.canvas import Canvas as PlainCanvas
from demo.painting.canvas import Colour, Number, Point
from demo.painting.noise import turned

CORNERS = tuple(turned(share / 20) for share in range(20))
"""Unit vectors to the corners of a polygon that approximates a circle."""
_HAZE_LENGTH = 260.0  # metres after which about 1/e of an object's own colour is left


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
    x: Number = 0.0
    """Position across the street, in metres."""
    z: Number = 0.0
    """Position along the street, in metres."""

    def project(self, x: Number, y: Number, z: Number) -> Point:
        """Return the pixel that shows a point; x and y in metres on the street, z in metres ahead of the camera."""
        return (
            self.vanishing_x + self.focal * (x - self.x) / z,
            self.horizon + self.focal * (self.height - y) / z,
        )


class Canvas(PlainCanvas):
    """A canvas on which distant strokes are paler."""

    def __init__(self, height: int, width: int, haze: Colour, generator: np.random.Generator) -> None:
        super().__init__(height, width, generator)
        self.haze = np.array(haze, np.float32)
        self.depth = np.full((height, width), np.inf, np.float32)
        """Metres along the camera's axis to what each pixel shows; infinite in the sky."""

    def paint_far(
        self,
        rows: slice,
        columns: slice,
        mask: Bool[np.ndarray, "row column"],
        colour: Float32[np.ndarray, "pixel 3"] | Float32[np.ndarray, "3"],
        label: int,
        texture: Number,
        distance: Number,
        instance: int = 0,
        depth: Float32[np.ndarray, " pixel"] | None = None,
    ) -> None:
        """Paint a mask as seen from a distance.

        Args:
            rows: Rows of the window.
            columns: Columns of the window.
            mask: Pixels of the window to paint.
            colour: RGB 0..1, for all pixels or for each pixel of the mask.
            label: Label of the painted pixels.
            texture: Strength of the texture.
            distance: Distance in metres, which adds haze.
            instance: Instance number of the painted pixels; 0 for none.
            depth: Distance of each pixel of the mask, in metres; by default ``distance``.
        """
        far = max(distance, 0.0) / _HAZE_LENGTH
        own = np.float32(1 / (1 + far + far * far / 2))  # close to exp(-far), and the same on every processor
        self.paint(rows, columns, mask, colour * own + self.haze * (1 - own), label, texture * float(own), instance)
        self.depth[rows, columns][mask] = distance if depth is None else depth

    def polygon(
        self,
        points: Sequence[Point],
        colour: Colour,
        label: int,
        distance: Number,
        texture: Number = 0.08,
        instance: int = 0,
    ) -> None:
        """Paint a polygon; it is at least one pixel wide.

        Args:
            points: Corners in pixels.
            colour: RGB, 0..1.
            label: Label of the painted pixels.
            distance: Distance in metres, which adds haze.
            texture: Strength of the texture.
            instance: Instance number of the painted pixels; 0 for none.
        """
        window = self._window(points)
        if window is None:
            return
        rows, columns, mask = window
        self.paint_far(rows, columns, mask, np.array(colour, np.float32), label, texture, distance, instance)

    def ellipse(
        self,
        centre: Point,
        radii: Point,
        colour: Colour,
        label: int,
        distance: Number,
        texture: Number = 0.08,
        instance: int = 0,
    ) -> None:
        """Paint an upright ellipse.

        Args:
            centre: Centre in pixels.
            radii: Horizontal and vertical radius in pixels.
            colour: RGB, 0..1.
            label: Label of the painted pixels.
            distance: Distance in metres, which adds haze.
            texture: Strength of the texture.
            instance: Instance number of the painted pixels; 0 for none.
        """
        points = [(centre[0] + radii[0] * x, centre[1] + radii[1] * y) for x, y in CORNERS]
        self.polygon(points, colour, label, distance, texture, instance)

    def darken(self, points: Sequence[Point], factor: Number) -> None:
        """Darken a polygon given in pixels; labels and instances do not change."""
        window = self._window(points)
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
        painted = np.frombuffer(mask.tobytes(), np.bool_).reshape(bottom - top, right - left)
        return slice(top, bottom), slice(left, right), painted
