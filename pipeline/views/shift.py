"""Diagonal shift by whole pixels (paper A, section 3.3)."""

from functools import partial
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from pipeline.views.contract import View, ViewRecipe
from pipeline.views.placement import Placement
from stores.specs import FrameSpec, Size, ViewSpec

REVISION = 1
"""Increased when the same level shows another part of the source."""


class Shift(ViewRecipe):
    """Cuts tiles further right and down, so that their content moves left and up; labels are shifted alike.

    The new content is the source around the tile; beyond the source it is black and void.
    """

    name: Literal["shift"]
    levels: Annotated[tuple[Annotated[int, Field(ge=-4096, le=4096)], ...], Field(min_length=1)] = (1, 2, 3, 4)
    """Pixels of the (resized) source along both axes."""

    def at(self, level: float, frame: FrameSpec) -> View:
        """Return the view at one level."""
        spec = ViewSpec(name=self.name, revision=REVISION, parameters={"level": int(level)})
        return View(spec, place=partial(_place, pixels=int(level)))


def _place(tile: Size, random: np.random.Generator, pixels: int) -> Placement:
    return Placement(x=float(pixels), y=float(pixels), fill="parent")
