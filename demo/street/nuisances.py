"""What varies from scene to scene whatever stands in it: time of day, haze, wet road, season and the camera.

Every nuisance is drawn from a random generator of its own, named by the scene and the nuisance. So none of them depends
on the classes in a scene, and switching one on or off leaves the others, the labels and the objects as they are.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

from demo.painting.canvas import Number
from demo.painting.noise import generator_of


@dataclass(frozen=True, kw_only=True)
class Nuisances:
    """How strongly each nuisance varies between scenes: 0 off (the default), 1 as far as it looks natural."""

    daytime: Number = 0.0
    """From noon over evening to nightfall: colours, lamps, and shadows that houses cast over everything."""
    haze: Number = 0.0
    wetness: Number = 0.0
    """Wet road and pavement: darker, and they mirror what stands behind them. Half of the scenes stay dry."""
    exposure: Number = 0.0
    colour_cast: Number = 0.0
    noise: Number = 0.0
    """Of the sensor."""
    season: Number = 0.0
    """From summer over autumn to bare trees: colours of leaves and grass."""
    plain_light: bool = False
    """Give all scenes the same light and exposure, without the four lights that they otherwise have (``daytime``
    replaces these as well); with this alone, a world without any nuisance of light."""

    def __post_init__(self) -> None:
        for name, strength in asdict(self).items():
            if not 0 <= strength <= 1:
                raise ValueError(f"the nuisance {name} has strength {strength}: give a number from 0 to 1")

    @property
    def strengths(self) -> Mapping[str, Number]:
        """Strengths by name, without ``plain_light``."""
        return {name: value for name, value in asdict(self).items() if name != "plain_light"}


OFF = Nuisances()
ALL = Nuisances(daytime=1.0, haze=1.0, wetness=1.0, exposure=1.0, colour_cast=1.0, noise=1.0, season=1.0)
"""Everything at full strength."""


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """The nuisances of one scene; the defaults change nothing."""

    daytime: Number = 0.0
    """0 noon, 1 nightfall."""
    sun: Number = 0.0
    """Side of the sun: -1 left, 1 right; 0 where it is not drawn."""
    skew: Number = 0.0
    """Metres along the street by which shadows move for every metre across."""
    haze: Number = 0.0
    """0 none, 1 thick."""
    wetness: Number = 0.0
    """0 dry, 1 soaked."""
    exposure: Number = 1.0
    """Factor of all light."""
    warmth: Number = 0.0
    """Colour cast from -1 (blue) to 1 (amber)."""
    greenness: Number = 0.0
    """Colour cast from -1 (magenta) to 1 (green)."""
    noise: Number = 0.012
    """Standard deviation of the sensor's noise, where white is 1."""
    season: Number = 0.0
    """0 summer, 0.5 autumn, 1 bare trees."""


COLUMNS = tuple(field.name for field in fields(Conditions))
"""Names of the values recorded for every frame."""


def draw_conditions(nuisances: Nuisances, *scene: int | str) -> Conditions:
    """Return the nuisances of a scene, from the strengths and the key of the scene alone.

    Args:
        nuisances: Strengths.
        scene: Seed of the world and name of the scene.
    """
    drawn: dict[str, Number] = {}
    for name, strength in nuisances.strengths.items():
        if strength:
            first, second, third = generator_of("nuisance", name, *scene).uniform(size=3).tolist()
            drawn.update(_values(name, strength, first, 2 * second - 1, 2 * third - 1))
    return Conditions(**drawn)


def _values(name: str, strength: Number, share: Number, side: Number, turn: Number) -> dict[str, Number]:
    """Return one nuisance's values from a share of 0..1 and two of -1..1."""
    if name == "daytime":
        return {"daytime": strength * share, "sun": 1.0 if side > 0 else -1.0, "skew": turn}
    if name == "haze":
        return {"haze": strength * share * share}
    if name == "wetness":
        return {"wetness": strength * max(0.0, 2 * share - 1)}
    if name == "exposure":
        stops = strength * (2 * share - 1)  # a factor of 1.4 either way, without a power
        return {"exposure": 1 + 0.4 * stops if stops > 0 else 1 / (1 - 0.4 * stops)}
    if name == "colour_cast":
        return {"warmth": strength * (2 * share - 1), "greenness": strength * side}
    if name == "noise":
        return {"noise": 0.012 + strength * 0.045 * share * share}
    return {"season": strength * share}
