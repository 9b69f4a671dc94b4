"""The [frame] table of an experiment: sizes, tiles and the filter that resizes images."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator

from stores.specs import FrameSpec

Interpolation = Literal["bicubic", "bilinear", "lanczos", "nearest", "box"]
"""Filters of Pillow for resizing images; labels are always resized with nearest."""


class FrameRecipe(FrameSpec):
    """How source images are resized and cut into model inputs; the same for all models of an experiment.

    The source is resized to ``resize`` (if given), cut into ``tile`` sized tiles in row-major order (if given,
    otherwise it is one tile), and every tile is resized to ``input``.
    """

    interpolation: Interpolation | None = None
    """Filter that resizes images for all models that have none of their own in [[models]], so that corruptions reach
    all models alike; by default each model's."""

    def canonical(self) -> dict[str, Any]:
        """Return the frame as plain JSON values, without an interpolation that is not set."""
        return self.model_dump(mode="json", exclude={"interpolation"} if self.interpolation is None else None)

    @property
    def spec(self) -> FrameSpec:
        """The frame as sets record it; the interpolation is part of a model's record."""
        return FrameSpec.model_validate(self.model_dump(exclude={"interpolation"}))


def _of_spec(frame: Any) -> Any:
    """Return a frame of a set as one of an experiment."""
    is_plain = isinstance(frame, FrameSpec) and not isinstance(frame, FrameRecipe)
    return FrameRecipe.model_validate(frame.model_dump()) if is_plain else frame


Frame = Annotated[FrameRecipe, BeforeValidator(_of_spec)]
"""A frame, also from the record of a set."""
