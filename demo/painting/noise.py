"""Named random generators, and textures made with them."""

import hashlib
import math
from functools import cache

import numpy as np
from jaxtyping import Float32
from PIL import Image

PERIOD = 1024
"""Pixels after which the texture tables repeat, in both directions."""

_TABLE_SEED = "texture tables"
_COARSEST = 128  # table pixels


def generator_of(*key: int | str) -> np.random.Generator:
    """Return the random generator of a name, independent of all others."""
    name = "/".join(str(part) for part in key)
    return np.random.Generator(np.random.PCG64(int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")))


def smooth_noise(
    generator: np.random.Generator, shape: tuple[int, int], cell: int | float, octaves: int = 1
) -> Float32[np.ndarray, "height width"]:
    """Return noise of about -1..1 whose coarsest bumps are ``cell`` pixels wide; each octave halves both.

    Args:
        generator: Source of random numbers.
        shape: Height and width in pixels.
        cell: Width of the coarsest bumps in pixels.
        octaves: Number of octaves.
    """
    height, width = shape
    total = np.zeros(shape, np.float32)
    for octave in range(octaves):
        step = max(cell / 2**octave, 1.0)
        grid = generator.uniform(-1, 1, (math.ceil(height / step) + 2, math.ceil(width / step) + 2))
        bumps = Image.fromarray(grid.astype(np.float32)).resize((width, height), Image.Resampling.BICUBIC)
        total += np.asarray(bumps) / np.float32(2**octave)
    return total


@cache
def grain() -> Float32[np.ndarray, "height width"]:
    """Return white noise of unit variance, twice the period in both directions."""
    bits = generator_of(_TABLE_SEED, "grain").integers(0, 1 << 16, (4, PERIOD, PERIOD), np.uint16)
    # The sum of four uniform numbers is close to normal; its variance is 4/12.
    table = (bits.astype(np.float32).sum(0) / np.float32(1 << 16) - np.float32(2)) * np.float32(math.sqrt(3))
    return _frozen(np.tile(table, (2, 2)))


@cache
def bumps() -> Float32[np.ndarray, "height width"]:
    """Return smooth noise of about -1..1, five octaves from 128 pixels down, twice the period in both directions."""
    generator = generator_of(_TABLE_SEED, "bumps")
    table = np.zeros((PERIOD, PERIOD), np.float32)
    margin = 4
    for octave in range(5):
        step = _COARSEST >> octave
        count = PERIOD // step
        grid = generator.integers(-(1 << 15), 1 << 15, (count, count)).astype(np.float32) / np.float32(1 << 15)
        wrapped = np.pad(grid, margin, mode="wrap")
        size = (count + 2 * margin) * step
        wide = np.asarray(Image.fromarray(wrapped).resize((size, size), Image.Resampling.BICUBIC))
        inner = slice(margin * step, margin * step + PERIOD)
        table += wide[inner, inner] / np.float32(2**octave)
    return _frozen(np.tile(table, (2, 2)))


@cache
def weathering() -> Float32[np.ndarray, "height width"]:
    """Return grain plus bumps, the texture of painted surfaces."""
    return _frozen(grain() + bumps())


def window(
    table: Float32[np.ndarray, "period period"], row: int, column: int, height: int, width: int
) -> Float32[np.ndarray, "height width"]:
    """Return a part of a repeating table.

    Args:
        table: The table, twice the period in both directions.
        row: First row.
        column: First column.
        height: Number of rows.
        width: Number of columns.
    """
    row, column = row % PERIOD, column % PERIOD
    if height <= PERIOD and width <= PERIOD:
        return table[row : row + height, column : column + width]
    rows, columns = (row + np.arange(height)) % PERIOD, (column + np.arange(width)) % PERIOD
    return table[rows[:, None], columns]


def looked_up(
    table: Float32[np.ndarray, "period period"],
    down: Float32[np.ndarray, "*pixel"],
    across: Float32[np.ndarray, "*pixel"],
) -> Float32[np.ndarray, "*pixel"]:
    """Return the values of a repeating table at positions given in table pixels."""
    rows, columns = down.astype(np.int32) & (PERIOD - 1), across.astype(np.int32) & (PERIOD - 1)
    flat: np.ndarray = table.ravel().take(rows * table.shape[1] + columns)
    return flat


def wave(turns: Float32[np.ndarray, "*pixel"]) -> Float32[np.ndarray, "*pixel"]:
    """Return a smooth wave of period 1 between -1 and 1: two parabolas, close to the sine."""
    within = turns - np.floor(turns)
    half = np.where(within < 0.5, within, within - np.float32(0.5))
    arch = np.float32(16) * half * (np.float32(0.5) - half)
    return np.where(within < 0.5, arch, -arch).astype(np.float32)


def turned(share: int | float) -> tuple[float, float]:
    """Return a unit vector (x, y) turned by ``share`` of a full circle, spread almost evenly.

    The rational parametrisation of the circle: no sine, so equal bits everywhere.
    """
    quarter, rest = divmod(share % 1.0 * 4, 1.0)
    slope = rest * (0.7854 + 0.2146 * rest * rest)  # about the tangent of rest * 45 degrees
    x, y = (1 - slope * slope) / (1 + slope * slope), 2 * slope / (1 + slope * slope)
    return ((x, y), (-y, x), (-x, -y), (y, -x))[int(quarter) % 4]


def _frozen(table: np.ndarray) -> np.ndarray:
    table.setflags(write=False)
    return table
