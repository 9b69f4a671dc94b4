"""The style of a city and the light of a scene."""

from dataclasses import dataclass

import numpy as np

from demo.painting.canvas import Colour, Number


@dataclass(frozen=True)
class Light:
    """The light of one time of day."""

    name: str
    sky: tuple[Colour, ...]
    """Colours overhead to choose from."""
    horizon: Colour
    cloud: Colour
    clouds: Number
    """Cover, -1 (none) .. 1 (all)."""
    tint: Colour
    """Factors that multiply every colour."""
    sun: Number
    """Contrast between the sunny and the shady side, 0..1."""
    lamps: Number
    """Brightness of lit windows and headlights against their surroundings; 0 for none."""


LIGHTS = (
    Light("day", ((0.36, 0.56, 0.84), (0.42, 0.60, 0.82)), (0.80, 0.87, 0.93), (0.97, 0.97, 0.97), -0.2,
          (1.06, 1.04, 1.0), 1.0, 0.0),
    Light("afternoon", ((0.40, 0.54, 0.78), (0.46, 0.56, 0.72)), (0.95, 0.87, 0.74), (0.99, 0.93, 0.84), -0.3,
          (1.10, 1.0, 0.86), 1.0, 0.0),
    Light("overcast", ((0.62, 0.66, 0.70), (0.56, 0.60, 0.66)), (0.80, 0.82, 0.83), (0.84, 0.85, 0.86), 0.6,
          (0.94, 0.97, 1.0), 0.15, 0.15),
    Light("dusk", ((0.24, 0.28, 0.50), (0.30, 0.29, 0.46)), (0.98, 0.66, 0.46), (0.86, 0.58, 0.56), -0.25,
          (0.70, 0.62, 0.72), 0.3, 1.0),
)  # fmt: skip
"""From noon to dusk; all are equally likely."""

_FACADES: tuple[tuple[Colour, ...], ...] = (
    ((0.74, 0.68, 0.56), (0.66, 0.60, 0.52), (0.80, 0.76, 0.68)),
    ((0.60, 0.38, 0.30), (0.68, 0.50, 0.42), (0.55, 0.44, 0.40)),
    ((0.58, 0.60, 0.62), (0.70, 0.71, 0.70), (0.48, 0.50, 0.54)),
    ((0.78, 0.70, 0.50), (0.70, 0.56, 0.50), (0.62, 0.66, 0.60)),
)
_PAVINGS: tuple[Colour, ...] = ((0.60, 0.58, 0.56), (0.62, 0.54, 0.50), (0.54, 0.55, 0.58))
_LEAVES: tuple[Colour, ...] = ((0.24, 0.40, 0.16), (0.30, 0.42, 0.18), (0.20, 0.34, 0.18), (0.42, 0.40, 0.14))


@dataclass(frozen=True)
class Style:
    """The style of a city in one light."""

    light: Light
    sky: Colour
    horizon: Colour
    asphalt: Number
    paving: Colour
    facades: tuple[Colour, ...]
    leaves: Colour
    storeys: int
    green: Number
    """Share of lots that are parks instead of houses, 0..1."""
    turf: Colour = (0.36, 0.50, 0.22)


def draw_style(city: np.random.Generator, scene: np.random.Generator) -> Style:
    """Choose the style of a city, and the light of a scene, at random."""
    light = LIGHTS[scene.integers(len(LIGHTS))]
    return Style(
        light=light,
        sky=light.sky[scene.integers(len(light.sky))],
        horizon=light.horizon,
        asphalt=city.uniform(0.28, 0.40),
        paving=_PAVINGS[city.integers(len(_PAVINGS))],
        facades=_FACADES[city.integers(len(_FACADES))],
        leaves=_LEAVES[city.integers(len(_LEAVES))],
        storeys=int(city.integers(3, 6)),
        green=city.uniform(0.18, 0.32),
    )
