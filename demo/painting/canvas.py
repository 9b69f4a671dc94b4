"""A canvas that paints a picture, its label map and its instance map with the same masks."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, UInt8

from demo.painting.noise import PERIOD, grain, weathering, window

Number = int | float  # both, because the tests' run-time type checker does not accept int for float
Colour = tuple[Number, Number, Number]
"""RGB, 0..1."""
Point = tuple[Number, Number]
"""(x, y) in pixels, or (sideways, up) in metres."""


@dataclass(frozen=True)
class Extent:
    """The pixels that an instance covers, or would cover without occlusion."""

    left: int
    top: int
    right: int
    """One past the last column."""
    bottom: int
    """One past the last row."""
    pixels: int


def extent_of(mask: Bool[np.ndarray, "height width"]) -> Extent | None:
    """Return the extent of a mask, or None of an empty one."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return None
    pixels = int(np.count_nonzero(mask))
    return Extent(int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1, pixels)


class Canvas:
    """A picture with labels and instances; later strokes cover earlier ones in all three."""

    def __init__(self, height: int, width: int, generator: np.random.Generator) -> None:
        self.height = height
        self.width = width
        self.picture = np.zeros((height, width, 3), np.float32)
        self.labels = np.zeros((height, width), np.uint8)
        self.instances = np.zeros((height, width), np.uint16)
        self.strokes: dict[int, Bool[np.ndarray, "height width"]] = {}
        """All pixels painted for an instance, including covered ones."""
        self.origin = (int(generator.integers(PERIOD)), int(generator.integers(PERIOD)))
        """Row and column of the texture table at the upper left corner; moving objects shift it."""

    def paint(
        self,
        rows: slice,
        columns: slice,
        mask: Bool[np.ndarray, "row column"],
        colour: Float32[np.ndarray, "pixel 3"] | Float32[np.ndarray, "3"],
        label: int,
        texture: Number,
        instance: int = 0,
    ) -> None:
        """Paint a mask in one colour, or with one colour per pixel.

        Args:
            rows: Rows of the window.
            columns: Columns of the window.
            mask: Pixels of the window to paint.
            colour: RGB 0..1, for all pixels or for each pixel of the mask.
            label: Label of the painted pixels.
            texture: Strength of the texture.
            instance: Instance number of the painted pixels; 0 for none.
        """
        down, across = self.origin[0] + rows.start, self.origin[1] + columns.start
        worn = window(weathering(), down, across, *mask.shape)[mask]
        worn *= np.float32(texture / 2)
        worn += 1
        self.picture[rows, columns][mask] = colour * worn[:, None]
        self.labels[rows, columns][mask] = label
        self.instances[rows, columns][mask] = instance
        if instance:
            if instance not in self.strokes:
                self.strokes[instance] = np.zeros((self.height, self.width), np.bool_)
            self.strokes[instance][rows, columns] |= mask

    def whole(self, instance: int) -> Extent | None:
        """Return the extent of everything painted for an instance, including covered pixels."""
        return extent_of(self.strokes[instance]) if instance in self.strokes else None

    def developed(
        self, generator: np.random.Generator, tint: Colour = (1.0, 1.0, 1.0), noise: Number = 0.012
    ) -> UInt8[np.ndarray, "height width 3"]:
        """Return the picture with tint, vignette and sensor noise, RGB 0..255."""
        y = np.linspace(-1, 1, self.height, dtype=np.float32)[:, None]
        x = np.linspace(-1, 1, self.width, dtype=np.float32)[None, :]
        border = np.float32(255) - np.float32(25) * (x**2 + y**2)
        light = self.picture * border[..., None]
        light *= np.array(tint, np.float32)
        speckle = np.float32(255 * noise)
        for channel in range(3):
            row, column = (int(place) for place in generator.integers(PERIOD, size=2))
            light[..., channel] += speckle * window(grain(), row, column, self.height, self.width)
        np.clip(light, 0, 255, out=light)
        developed: np.ndarray = np.rint(light, out=light).astype(np.uint8)
        return developed
