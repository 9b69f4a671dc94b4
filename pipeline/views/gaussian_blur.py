"""Gaussian blur, an alternative reading of paper A's blur kernels."""

from functools import partial
from typing import Annotated, Literal

import numpy as np
from jaxtyping import UInt8
from pydantic import Field

from pipeline.views.contract import Changed, View, ViewRecipe
from stores.specs import FrameSpec, ViewSpec

REVISION = 1
"""Increased when the same level gives other pixels."""


class GaussianBlur(ViewRecipe):
    """Replaces every pixel by a Gaussian mean of its surroundings; labels do not change."""

    name: Literal["gaussian-blur"]
    levels: Annotated[tuple[Annotated[int, Field(ge=1, le=1024)], ...], Field(min_length=1)] = (10, 20, 30, 40)
    """Widths of the kernel, in pixels of the (resized) source; the standard deviation is a sixth of it."""

    def at(self, level: float, frame: FrameSpec) -> View:
        """Return the view at one level."""
        spec = ViewSpec(name=self.name, revision=REVISION, parameters={"level": int(level)})
        return View(spec, change=partial(_change, width=int(level)))


def _change(pixels: UInt8[np.ndarray, "height width 3"], random: np.random.Generator, width: int) -> Changed:
    """Blur with 2 (width // 2) + 1 taps an axis, mirrored at the border as in `blur`."""
    from scipy.ndimage import gaussian_filter

    sigma, radius = width / 6, width // 2
    blurred = np.empty_like(pixels)
    for channel in range(3):  # one after another, which bounds the memory
        plane = gaussian_filter(
            pixels[:, :, channel].astype(np.float64), (sigma, sigma), radius=(radius, radius), mode="mirror"
        )
        blurred[:, :, channel] = np.rint(plane).clip(0, 255)
    return Changed(blurred)
