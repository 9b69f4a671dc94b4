"""Box blur, as in OpenCV's ``blur`` (paper A, Fig. 4: kernels of 10, 20, 30 and 40 pixels)."""

from functools import partial
from typing import Annotated, Literal

import numpy as np
from jaxtyping import UInt8
from pydantic import Field

from pipeline.views.contract import Changed, View, ViewRecipe
from stores.specs import FrameSpec, ViewSpec

REVISION = 1
"""Increased when the same level gives other pixels."""


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
    the result does not depend on their order.
    """
    before = kernel // 2
    sums = pixels.astype(np.int64)
    for axis in (0, 1):
        pads = [(0, 0)] * 3
        pads[axis] = (before, kernel - 1 - before)
        padded = np.pad(sums, pads, mode="reflect")
        pads[axis] = (1, 0)
        running = np.pad(np.cumsum(padded, axis=axis), pads)
        extent = pixels.shape[axis]
        upper = np.take(running, range(kernel, kernel + extent), axis=axis)
        sums = upper - np.take(running, range(extent), axis=axis)
    return np.rint(sums / (kernel * kernel)).astype(np.uint8)
