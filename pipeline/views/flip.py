"""Mirrored tiles."""

from functools import partial
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from pipeline.views.contract import View, ViewRecipe
from pipeline.views.placement import Placement
from stores.specs import FrameSpec, Size, ViewSpec

REVISION = 1
"""Increased when the same level shows another part of the source."""


class Flip(ViewRecipe):
    """Mirrors every tile; labels are mirrored alike."""

    name: Literal["flip"]
    levels: Annotated[tuple[Literal[1, 2], ...], Field(min_length=1)] = (1,)
    """1 mirrors left and right, 2 top and bottom."""

    def at(self, level: float, frame: FrameSpec) -> View:
        """Return the view at one level."""
        spec = ViewSpec(name=self.name, revision=REVISION, parameters={"level": int(level)})
        return View(spec, place=partial(_place, upside_down=level == 2))


def _place(tile: Size, random: np.random.Generator, upside_down: bool) -> Placement:
    if upside_down:
        return Placement(yy=-1.0, y=float(tile.height))
    return Placement(xx=-1.0, x=float(tile.width))
