"""Reduced or no colour."""

from functools import partial
from typing import Annotated, Literal

import numpy as np
from jaxtyping import UInt8
from pydantic import Field

from pipeline.views.contract import Changed, View, ViewRecipe
from stores.specs import FrameSpec, ViewSpec

REVISION = 1
"""Increased when the same level gives other pixels."""

_VALUES_AT_ONCE = 1 << 19
_LUMA = (299, 587, 114)  # thousandths, ITU-R BT.601


class Greyscale(ViewRecipe):
    """Blends every pixel with its luma (ITU-R BT.601); labels do not change."""

    name: Literal["greyscale"]
    levels: Annotated[tuple[Annotated[float, Field(gt=0, le=1)], ...], Field(min_length=1)] = (1.0,)
    """Weights of the luma; 1 is grey."""

    def at(self, level: float, frame: FrameSpec) -> View:
        """Return the view at one level."""
        spec = ViewSpec(name=self.name, revision=REVISION, parameters={"level": float(level)})
        return View(spec, change=partial(_change, share=level))


def _change(pixels: UInt8[np.ndarray, "height width 3"], random: np.random.Generator, share: float) -> Changed:
    grey = np.empty_like(pixels)
    slab = max(1, _VALUES_AT_ONCE // (3 * pixels.shape[1]))
    for start in range(0, len(pixels), slab):
        rows = pixels[start : start + slab]
        luma = (rows.astype(np.int64) @ np.array(_LUMA))[:, :, None] / 1000
        grey[start : start + slab] = np.rint(rows + share * (luma - rows)).clip(0, 255)
    return Changed(grey)
