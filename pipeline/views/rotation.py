"""Rotation about the tile's centre (paper A, section 3.3)."""

import math
from functools import partial
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from pipeline.views.contract import View, ViewRecipe
from pipeline.views.placement import Fill, Placement, about_centre
from stores.specs import FrameSpec, Size, ViewSpec

REVISION = 1
"""Increased when the same level shows another part of the source."""


class Rotation(ViewRecipe):
    """Rotates every tile counterclockwise about its centre; labels are rotated alike."""

    name: Literal["rotation"]
    levels: Annotated[tuple[Annotated[float, Field(ge=-180, le=180)], ...], Field(min_length=1)] = (
        *(5.0, 10.0),
        *(15.0, 20.0),
    )
    """Degrees, counterclockwise."""
    fill: Fill = "black"
    """Content of the corners: black with void labels, or the source around the tile (parent)."""

    def at(self, level: float, frame: FrameSpec) -> View:
        """Return the view at one level."""
        spec = ViewSpec(name=self.name, revision=REVISION, parameters={"level": float(level), "fill": self.fill})
        return View(spec, place=partial(_place, degrees=level, fill=self.fill))


def _place(tile: Size, random: np.random.Generator, degrees: float, fill: Fill) -> Placement:
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    # y points downwards: rotating the image by +degrees looks up its pixels at -degrees.
    return about_centre(tile, cosine, -sine, sine, cosine, fill)
