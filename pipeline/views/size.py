"""Other input sizes for the same tiles, as in paper A's Fig. 8 on ground sample distances.

Tiles are resized by area interpolation (Scale-MAE's ``mae/eval/knn.py``). The model is built for the new size, so that
the number of patches changes and their size does not.
"""

from typing import Annotated, Literal

from pydantic import Field

from pipeline.views.contract import View, ViewRecipe, scaled
from stores.specs import FrameSpec, ViewSpec

REVISION = 1
"""Increased when the same level gives other pixels."""


class InputSize(ViewRecipe):
    """Resizes tiles by area to another input size, for which the model is built again; labels are resized alike."""

    name: Literal["size"]
    levels: Annotated[tuple[Annotated[int, Field(ge=1, le=4096)], ...], Field(min_length=1)] = (56, 112, 224)
    """Shorter sides of the input, in pixels; multiples of every model's patch size."""

    def at(self, level: float, frame: FrameSpec) -> View:
        """Return the view at one level."""
        spec = ViewSpec(name=self.name, revision=REVISION, parameters={"level": int(level), "interpolation": "area"})
        return View(spec, input=scaled(frame.input, int(level)))
