"""Views of the samples, such as blur, noise and shift: one file a view, listed in one table."""

from typing import Annotated

from pydantic import Field

from pipeline.views.blur import Blur
from pipeline.views.colour_jitter import ColourJitter
from pipeline.views.contract import CLEAN, View, ViewRecipe
from pipeline.views.crop import Crop
from pipeline.views.flip import Flip
from pipeline.views.frequency_noise import FrequencyNoise
from pipeline.views.gaussian_blur import GaussianBlur
from pipeline.views.greyscale import Greyscale
from pipeline.views.noise import Noise
from pipeline.views.rotation import Rotation
from pipeline.views.scale import Scale
from pipeline.views.shift import Shift
from pipeline.views.size import InputSize

REVISION = 1
"""Increased when shared code gives other pixels, labels or correspondences; every view also has its own revision."""

VIEWS: dict[str, type[ViewRecipe]] = {
    "blur": Blur,
    "gaussian-blur": GaussianBlur,
    "noise": Noise,
    "frequency-noise": FrequencyNoise,
    "shift": Shift,
    "rotation": Rotation,
    "scale": Scale,
    "size": InputSize,
    "flip": Flip,
    "crop": Crop,
    "colour-jitter": ColourJitter,
    "greyscale": Greyscale,
}
"""The settings of every view, by the name used in experiments."""

AnyView = Annotated[
    Blur
    | GaussianBlur
    | Noise
    | FrequencyNoise
    | Shift
    | Rotation
    | Scale
    | InputSize
    | Flip
    | Crop
    | ColourJitter
    | Greyscale,
    Field(discriminator="name"),
]

__all__ = ["CLEAN", "REVISION", "VIEWS", "AnyView", "View", "ViewRecipe"]
