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
    luma = (pixels.astype(np.int64) @ np.array(_LUMA))[:, :, None] / 1000
    return Changed(np.rint(pixels + share * (luma - pixels)).clip(0, 255).astype(np.uint8))
