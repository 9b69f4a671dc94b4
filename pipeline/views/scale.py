"""Scaling about the tile's centre (paper A, section 3.3)."""

from functools import partial
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from pipeline.views.contract import View, ViewRecipe
from pipeline.views.placement import Fill, Placement, about_centre
from stores.specs import FrameSpec, Size, ViewSpec

REVISION = 1
"""Increased when the same level shows another part of the source."""


class Scale(ViewRecipe):
    """Enlarges or shrinks the content of every tile about its centre; labels are scaled alike."""

    name: Literal["scale"]
    levels: Annotated[tuple[Annotated[float, Field(ge=0.05, le=20)], ...], Field(min_length=1)] = (0.8, 0.9, 1.1, 1.2)
    """Factors; below 1 the content shrinks."""
    fill: Fill = "black"
    """Content around a shrunk tile: black with void labels, or the source around the tile (parent)."""

    def at(self, level: float, frame: FrameSpec) -> View:
        """Return the view at one level."""
        spec = ViewSpec(name=self.name, revision=REVISION, parameters={"level": float(level), "fill": self.fill})
        return View(spec, place=partial(_place, factor=level, fill=self.fill))


def _place(tile: Size, random: np.random.Generator, factor: float, fill: Fill) -> Placement:
    return about_centre(tile, 1 / factor, 0.0, 0.0, 1 / factor, fill)
