"""Random crops of every tile, enlarged to the input size, without a change of aspect."""

import math
from functools import partial
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from pipeline.views.contract import View, ViewRecipe
from pipeline.views.placement import Placement
from stores.specs import FrameSpec, Size, ViewSpec

REVISION = 1
"""Increased when the same level shows another part of the source."""


class Crop(ViewRecipe):
    """Crops every tile at a random position, with the tile's aspect; labels are cropped alike."""

    name: Literal["crop"]
    levels: Annotated[tuple[Annotated[float, Field(gt=0, le=1)], ...], Field(min_length=1)] = (0.5,)
    """Shares of the tile's area."""

    def at(self, level: float, frame: FrameSpec) -> View:
        """Return the view at one level."""
        spec = ViewSpec(name=self.name, revision=REVISION, parameters={"level": float(level)})
        return View(spec, place=partial(_place, area=level))


def _place(tile: Size, random: np.random.Generator, area: float) -> Placement:
    side = math.sqrt(area)
    across, down = random.random(2)
    return Placement(
        xx=side,
        yy=side,
        x=float(across) * (1 - side) * tile.width,
        y=float(down) * (1 - side) * tile.height,
    )
