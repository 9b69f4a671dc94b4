"""Box blur, as in OpenCV's ``blur`` (paper A, Fig. 4: kernels of 10, 20, 30 and 40 pixels)."""

from functools import partial
from typing import Annotated, Literal

import numpy as np
from jaxtyping import Int64, UInt8, UInt32
from pydantic import Field

from pipeline.views.contract import Changed, View, ViewRecipe
from stores.specs import FrameSpec, ViewSpec

REVISION = 1
"""Increased when the same level gives other pixels."""

_VALUES_AT_ONCE = 1 << 19


class Blur(ViewRecipe):
    """Replaces every pixel by the mean of a square window; labels do not change."""

    name: Literal["blur"]
    levels: Annotated[tuple[Annotated[int, Field(ge=1, le=1024)], ...], Field(min_length=1)] = (10, 20, 30, 40)
    """Sides of the window, in pixels of the (resized) source."""

    def at(self, level: float, frame: FrameSpec) -> View:
        """Return the view at one level."""
        spec = ViewSpec(name=self.name, revision=REVISION, parameters={"level": int(level)})
        return View(spec, change=partial(_change, kernel=int(level)))


def _change(pixels: UInt8[np.ndarray, "height width 3"], random: np.random.Generator, kernel: int) -> Changed:
    return Changed(box_blur(pixels, kernel))


def box_blur(pixels: UInt8[np.ndarray, "height width 3"], kernel: int) -> UInt8[np.ndarray, "height width 3"]:
    """Return the mean over ``kernel`` x ``kernel`` pixels, rounded half to even.

    The window of pixel x is x - kernel // 2 up to x + kernel - 1 - kernel // 2 (OpenCV's default anchor), mirrored at
    the border without repeating the border pixel (its default border, BORDER_REFLECT_101). Sums are integers, so
    the result does not depend on their order. Slabs of rows are blurred one after another, which bounds the memory.
    """
    height, width, _ = pixels.shape
    before = kernel // 2
    columns = _mirrored(width, before, kernel)
    blurred = np.empty_like(pixels)
    slab = max(kernel, _VALUES_AT_ONCE // (3 * width))
    for start in range(0, height, slab):
        stop = min(height, start + slab)
        rows = _mirrored(height, before, kernel)[start : stop + kernel - 1]
        sums = _window_sums(pixels[rows].astype(np.uint32), kernel)
        sums = _window_sums(sums[:, columns].swapaxes(0, 1), kernel).swapaxes(0, 1)
        blurred[start:stop] = np.rint(sums / (kernel * kernel)).astype(np.uint8)
    return blurred


def _mirrored(extent: int, before: int, kernel: int) -> Int64[np.ndarray, " padded"]:
    """Return the index of every pixel of an axis that is mirrored at its ends, as often as the kernel asks for."""
    period = max(1, 2 * (extent - 1))
    index = np.arange(-before, extent + kernel - 1 - before) % period
    mirrored: np.ndarray = np.minimum(index, period - index) if extent > 1 else np.zeros_like(index)
    return mirrored


def _window_sums(values: UInt32[np.ndarray, "padded other 3"], kernel: int) -> UInt32[np.ndarray, "extent other 3"]:
    """Return the sums of ``kernel`` values along the first axis; running sums may wrap around, differences do not."""
    running = np.cumsum(values, axis=0, dtype=np.uint32)
    sums: np.ndarray = running[kernel - 1 :].copy()
    sums[1:] -= running[:-kernel]
    return sums
