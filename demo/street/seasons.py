"""The style of a scene under its nuisances: light from noon to nightfall, leaves from summer to winter."""

from dataclasses import replace
from itertools import pairwise

import numpy as np

from demo.painting.canvas import Colour, Number
from demo.street.nuisances import Conditions, Nuisances
from demo.street.style import LIGHTS, Light, Style

_HOURS: tuple[tuple[float, Light], ...] = (
    (0.0, LIGHTS[0]),
    (0.45, LIGHTS[1]),
    (0.78, LIGHTS[3]),
    (1.0, Light("nightfall", ((0.10, 0.13, 0.30), (0.12, 0.13, 0.27)), (0.56, 0.42, 0.46), (0.34, 0.30, 0.40), -0.25,
                (0.66, 0.67, 0.86), 0.0, 1.3)),
)  # fmt: skip
_LEAVES: tuple[tuple[float, Colour], ...] = (
    (0.3, (0.46, 0.48, 0.12)),
    (0.5, (0.74, 0.52, 0.12)),
    (0.7, (0.62, 0.30, 0.12)),
    (1.0, (0.40, 0.34, 0.29)),
)
_TURF: tuple[tuple[float, Colour], ...] = ((0.5, (0.46, 0.46, 0.22)), (1.0, (0.52, 0.47, 0.32)))


def style_under(style: Style, nuisances: Nuisances, conditions: Conditions) -> Style:
    """Return the style of a scene in its light and season; without nuisances it is the same style.

    Args:
        style: Style of the scene without nuisances.
        nuisances: Which nuisances are on.
        conditions: What was drawn for the scene.
    """
    if nuisances.daytime:
        light = _light_at(conditions.daytime)
        style = replace(style, light=light, sky=light.sky[style.light.sky.index(style.sky)], horizon=light.horizon)
    elif nuisances.plain_light:
        light = LIGHTS[0]
        style = replace(style, light=light, sky=light.sky[0], horizon=light.horizon)
    if conditions.season:
        style = replace(
            style,
            leaves=_along(((0.0, style.leaves), *_LEAVES), conditions.season),
            turf=_along(((0.0, style.turf), *_TURF), conditions.season),
        )
    return style


def _light_at(daytime: Number) -> Light:
    """Return the light of a time of day; houses throw their shadows later, in `demo.street.weather`."""
    first, second = _HOURS[0], _HOURS[1]
    for before, after in pairwise(_HOURS):
        if before[0] <= daytime:
            first, second = before, after
    share = (daytime - first[0]) / (second[0] - first[0])
    early, late = first[1], second[1]
    return Light(
        name="daytime",
        sky=tuple(_mixed(one, other, share) for one, other in zip(early.sky, late.sky, strict=True)),
        horizon=_mixed(early.horizon, late.horizon, share),
        cloud=_mixed(early.cloud, late.cloud, share),
        clouds=_between(early.clouds, late.clouds, share),
        tint=_mixed(early.tint, late.tint, share),
        sun=0.3 * _between(early.sun, late.sun, share),  # too little for the painted shadows of the houses
        lamps=_between(early.lamps, late.lamps, share),
    )


def _mixed(one: Colour, other: Colour, share: Number) -> Colour:
    red, green, blue = (_between(a, b, share) for a, b in zip(one, other, strict=True))
    return red, green, blue


def _between(one: Number, other: Number, share: Number) -> float:
    return one * (1 - share) + other * share


def _along(stops: tuple[tuple[float, Colour], ...], at: Number) -> Colour:
    """Return the colour at a position between stops."""
    red, green, blue = (
        float(np.interp(at, [stop for stop, _ in stops], [colour[channel] for _, colour in stops]))
        for channel in range(3)
    )
    return red, green, blue
