"""Gaussian noise in one narrow band of spatial frequencies (paper A, appendix on frequency-based noise).

x' = x + IFFT2(M * FFT2(delta)), delta ~ N(0, sigma^2) for every pixel and channel, M an annulus of the spectrum. The
paper's band edges are not known; four annuli of equal width are the default.
"""

from functools import partial
from typing import Annotated, Literal

import numpy as np
from jaxtyping import Bool, UInt8
from pydantic import Field

from pipeline.views.contract import NOISE_STATS, Changed, View, ViewRecipe
from pipeline.views.noise import add
from stores.specs import FrameSpec, ViewSpec

REVISION = 1
"""Increased when the same level gives other pixels."""


class FrequencyNoise(ViewRecipe):
    """Adds Gaussian noise of one frequency band, then clips to 0..255; labels do not change."""

    name: Literal["frequency-noise"]
    levels: Annotated[tuple[Annotated[float, Field(ge=0, le=1.5)], ...], Field(min_length=1)] = (
        *(0.125, 0.375),
        *(0.625, 0.875),
    )
    """Centres of the bands, as radius sqrt(fx^2 + fy^2) / 0.5 with frequencies in cycles a pixel of the
    (resized) source: 1 is the Nyquist frequency. A frame that
    shrinks its tiles smooths the highest bands before the model."""
    width: float = Field(default=0.1, gt=0, le=1.5)
    """Width of a band, in the same unit."""
    sigma: float = Field(default=40.0, gt=0, le=1000)
    """Standard deviation of the noise before it is filtered, in grey levels of 0..255."""
    rms: Literal["filtered", "sigma"] = "filtered"
    """Use the noise as filtered (bands of equal width differ in energy), or rescale it to sigma."""

    def at(self, level: float, frame: FrameSpec) -> View:
        """Return the view at one level."""
        spec = ViewSpec(
            name=self.name,
            revision=REVISION,
            parameters={"level": float(level), "width": self.width, "sigma": self.sigma, "rms": self.rms},
        )
        change = partial(_change, centre=level, width=self.width, sigma=self.sigma, scaled=self.rms == "sigma")
        return View(spec, change=change, sample_stats=NOISE_STATS)


def _change(
    pixels: UInt8[np.ndarray, "height width 3"],
    random: np.random.Generator,
    centre: float,
    width: float,
    sigma: float,
    scaled: bool,
) -> Changed:
    height, columns, _ = pixels.shape
    mask = band(height, columns, centre, width)[:, : columns // 2 + 1]
    noise = np.empty(pixels.shape, np.float32)
    for channel in range(3):
        drawn = random.standard_normal((height, columns)) * sigma
        # The spectrum of real noise and the annulus are symmetric, so half of the spectrum suffices.
        noise[:, :, channel] = np.fft.irfft2(np.fft.rfft2(drawn) * mask, s=(height, columns))
    energy = float(np.square(noise, dtype=np.float64).mean())
    if scaled and energy > 0:
        noise *= np.float32(sigma / np.sqrt(energy))
    return add(pixels, noise)


def band(height: int, width: int, centre: float, band_width: float) -> Bool[np.ndarray, "height width"]:
    """Return which frequencies belong to a band, in the order of FFT2 (frequency 0 first).

    Args:
        height: Rows of the image.
        width: Columns of the image.
        centre: Centre of the band as a radius, where 1 is the Nyquist frequency.
        band_width: Width of the band, in the same unit.
    """
    radius = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None]) / 0.5
    return np.abs(radius - centre) <= band_width / 2
