"""The same tiles at other input sizes: the ladder of ground sample distances of paper A's Fig. 8.

Tiles are brought to the size by area interpolation (Scale-MAE's ``mae/eval/knn.py``); the model is built for it, so
that there are fewer or more patches of the model's own size.
"""

from typing import Annotated, Literal

from pydantic import Field

from pipeline.views.contract import View, ViewRecipe, scaled
from stores.specs import FrameSpec, ViewSpec

REVISION = 1
"""Raised when the same level gives other pixels."""


class InputSize(ViewRecipe):
    """Tiles are resized by area to another input size, for which the model is built again; labels are cut for it."""

    name: Literal["size"]
    levels: Annotated[tuple[Annotated[int, Field(ge=1, le=4096)], ...], Field(min_length=1)] = (56, 112, 224)
    """Shorter sides of the input, in pixels: multiples of every model's patch size."""

    def at(self, level: float, frame: FrameSpec) -> View:
        """Return the view at one level."""
        spec = ViewSpec(name=self.name, revision=REVISION, parameters={"level": int(level), "interpolation": "area"})
        return View(spec, input=scaled(frame.input, int(level)))
