"""Gaussian pixel noise (paper A, Fig. 4: standard deviations of 10, 20, 30 and 40 grey levels)."""

from functools import partial
from typing import Annotated, Literal

import numpy as np
from jaxtyping import Float32, UInt8
from pydantic import Field

from pipeline.views.contract import NOISE_STATS, Changed, View, ViewRecipe
from stores.specs import FrameSpec, ViewSpec

REVISION = 1
"""Increased when the same level gives other pixels."""


class Noise(ViewRecipe):
    """Adds independent Gaussian noise to every value, then clips to 0..255; labels do not change."""

    name: Literal["noise"]
    levels: Annotated[tuple[Annotated[float, Field(gt=0, le=255)], ...], Field(min_length=1)] = (10.0, 20.0, 30.0, 40.0)
    """Standard deviations, in grey levels of 0..255."""

    def at(self, level: float, frame: FrameSpec) -> View:
        """Return the view at one level."""
        spec = ViewSpec(name=self.name, revision=REVISION, parameters={"level": float(level)})
        return View(spec, change=partial(_change, sigma=level), sample_stats=NOISE_STATS)


def _change(pixels: UInt8[np.ndarray, "height width 3"], random: np.random.Generator, sigma: float) -> Changed:
    noise = random.standard_normal(pixels.shape, dtype=np.float32)
    noise *= np.float32(sigma)
    return add(pixels, noise)


def add(pixels: UInt8[np.ndarray, "height width 3"], noise: Float32[np.ndarray, "height width 3"]) -> Changed:
    """Return pixels with noise in grey levels added, rounded and clipped."""
    noisy = pixels + noise
    np.clip(np.rint(noisy, out=noisy), 0, 255, out=noisy)
    return Changed(noisy.astype(np.uint8), noise)
