"""Colour jitter with SimCLR's strengths (Chen et al. 2020, appendix A), with random factors per source."""

from functools import partial
from typing import Annotated, Literal

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageEnhance
from pydantic import Field

from pipeline.views.contract import Changed, View, ViewRecipe
from stores.specs import FrameSpec, ViewSpec

REVISION = 1
"""Increased when the same level gives other pixels."""


class ColourJitter(ViewRecipe):
    """Changes brightness, contrast, saturation and hue by random factors per source; labels do not change."""

    name: Literal["colour-jitter"]
    levels: Annotated[tuple[Annotated[float, Field(gt=0, le=2)], ...], Field(min_length=1)] = (1.0,)
    """Strengths s: factors from 1 +- 0.8 s (never below 0), hue turned by up to 0.2 s of a circle."""

    def at(self, level: float, frame: FrameSpec) -> View:
        """Return the view at one level."""
        spec = ViewSpec(name=self.name, revision=REVISION, parameters={"level": float(level)})
        return View(spec, change=partial(_change, strength=level))


def _change(pixels: UInt8[np.ndarray, "height width 3"], random: np.random.Generator, strength: float) -> Changed:
    brightness, contrast, saturation = (max(0.0, 1 + 0.8 * strength * (2 * u - 1)) for u in random.random(3).tolist())
    image = Image.fromarray(np.ascontiguousarray(pixels))
    image = ImageEnhance.Brightness(image).enhance(brightness)
    image = ImageEnhance.Contrast(image).enhance(contrast)
    image = ImageEnhance.Color(image).enhance(saturation)
    turn = round(256 * 0.2 * strength * (2 * float(random.random()) - 1))
    hue, *others = image.convert("HSV").split()
    turned = hue.point([(value + turn) % 256 for value in range(256)])
    return Changed(np.array(Image.merge("HSV", (turned, *others)).convert("RGB")))
