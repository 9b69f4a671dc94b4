"""Paints the ground seen from above: grass, fields, water, concrete, roads; none of it is an object."""

import numpy as np
from jaxtyping import Bool, Float32

from demo.painting.canvas import Canvas, Colour, Number
from demo.painting.noise import bumps, smooth_noise, window
from demo.satellite.plot import Plot, patch_of
from demo.satellite.works import ASPHALT

GRASS: Colour = (0.38, 0.46, 0.24)
CONCRETE: Colour = (0.62, 0.61, 0.58)
_WATER: tuple[Colour, ...] = ((0.10, 0.25, 0.34), (0.13, 0.30, 0.32), (0.16, 0.28, 0.28))
_CROPS: tuple[tuple[Colour, Number], ...] = (
    ((0.45, 0.52, 0.24), 3.0),
    ((0.66, 0.58, 0.34), 2.0),
    ((0.30, 0.42, 0.20), 2.4),
    ((0.52, 0.42, 0.30), 4.0),
    ((0.74, 0.68, 0.44), 0.0),
    ((0.40, 0.50, 0.30), 0.0),
)
"""Colour, and distance of the rows in metres; 0 for no rows."""


def cover(canvas: Canvas, colour: Colour, generator: np.random.Generator) -> None:
    """Fill the whole picture with one kind of ground, in large and small patches."""
    shape = (canvas.height, canvas.width)
    row, column = (int(place) for place in generator.integers(1024, size=2))
    tone = np.float32(1) + np.float32(0.10) * smooth_noise(generator, shape, cell=max(shape) / 3, octaves=2)
    tone += np.float32(0.10) * window(bumps(), row, column, *shape)
    np.multiply(tone[..., None], np.array(colour, np.float32), out=canvas.picture)


def strip(canvas: Canvas, plot: Plot, colour: Colour, worn: Number = 0.08) -> None:
    """Paint a plot in one colour.

    Args:
        canvas: Canvas to paint on.
        plot: The plot.
        colour: RGB, 0..1.
        worn: Strength of the texture.
    """
    patch = patch_of(plot, canvas.height, canvas.width)
    if patch is not None:
        canvas.paint(patch.rows, patch.columns, patch.inside, np.array(colour, np.float32), 0, worn)


def field(canvas: Canvas, plot: Plot, pixel: Number, generator: np.random.Generator) -> None:
    """Paint a field with rows along the plot.

    Args:
        canvas: Canvas to paint on.
        plot: The plot.
        pixel: Metres in a pixel.
        generator: Source of random numbers.
    """
    colour, rows = _CROPS[generator.integers(len(_CROPS))]
    tint = generator.uniform(0.9, 1.1)
    patch = patch_of(plot, canvas.height, canvas.width)
    if patch is None:
        return
    tone = np.full(int(np.count_nonzero(patch.inside)), tint, np.float32)
    if rows:
        metres = patch.across[patch.inside] * np.float32(plot.half[1] * pixel)
        share = (metres + np.float32(1000)) / np.float32(max(rows, 4 * pixel))
        tone *= np.where(share - np.floor(share) < 0.45, np.float32(0.86), np.float32(1.05))
    canvas.paint(patch.rows, patch.columns, patch.inside, tone[:, None] * np.array(colour, np.float32), 0, 0.14)


def road(canvas: Canvas, plot: Plot, pixel: Number, verge: Number = 1.2) -> None:
    """Paint a road with pavements and a dashed centre line along a plot.

    Args:
        canvas: Canvas to paint on.
        plot: The plot.
        pixel: Metres in a pixel.
        verge: Width of the pavement on each side, in metres.
    """
    patch = patch_of(plot, canvas.height, canvas.width)
    if patch is None:
        return
    half = plot.half[1] * pixel
    across = patch.across * np.float32(half)
    along = patch.along * np.float32(plot.half[0] * pixel)
    tone = np.where(np.abs(across) < np.float32(half - verge), np.float32(ASPHALT[0]), np.float32(0.60))
    line = np.float32(max(0.15, 0.8 * pixel) / 2)
    dashes = (np.abs(across) < line) & ((along + np.float32(3000)) % 9 < 4.5)
    edges = np.abs(np.abs(across) - np.float32(half - verge - 0.5)) < line
    tone = np.where(dashes | edges, np.float32(0.82), tone)[patch.inside]
    colour = tone[:, None] * np.array((1.0, 1.0, 1.01), np.float32)
    canvas.paint(patch.rows, patch.columns, patch.inside, colour, 0, 0.07)


def water(canvas: Canvas, mask: Bool[np.ndarray, "height width"], generator: np.random.Generator) -> None:
    """Paint water on a mask, with fine ripples and broad currents."""
    shape = (canvas.height, canvas.width)
    row, column = (int(place) for place in generator.integers(1024, size=2))
    tone = np.float32(1) + np.float32(0.12) * smooth_noise(generator, shape, cell=max(shape) / 4)[mask]
    tone += np.float32(0.05) * window(bumps(), row, column, *shape)[mask]
    colour = np.array(_WATER[generator.integers(len(_WATER))], np.float32)
    everywhere = slice(0, canvas.height), slice(0, canvas.width)
    canvas.paint(*everywhere, mask, tone[:, None] * colour, 0, 0.06)


def heights(
    canvas: Canvas, plot: Plot, generator: np.random.Generator, ragged: Number
) -> Float32[np.ndarray, "height width"]:
    """Return the position of every pixel across a plot, whose width is -1..1, with a ragged edge.

    Args:
        canvas: Canvas that the plot is on.
        plot: The plot.
        generator: Source of random numbers.
        ragged: Size of the irregularities.
    """
    y = np.arange(canvas.height, dtype=np.float32)[:, None] + np.float32(0.5 - plot.y)
    x = np.arange(canvas.width, dtype=np.float32)[None, :] + np.float32(0.5 - plot.x)
    (ax, ay), (length, width) = plot.ahead, plot.half
    across = (y * np.float32(ax) - x * np.float32(ay)) / np.float32(length * width)
    shape = (canvas.height, canvas.width)
    if ragged:
        across = across + np.float32(ragged) * smooth_noise(generator, shape, cell=max(shape) / 4, octaves=4)
    return across.astype(np.float32)
