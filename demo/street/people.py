"""Paints people on foot and on bicycles."""

import numpy as np

from demo.painting.canvas import Colour, Number
from demo.street.spot import Spot, lit
from demo.street.vehicles import paint_cycle

_SKIN: Colour = (0.80, 0.60, 0.48)


def paint_person(
    spot: Spot, name: str, generator: np.random.Generator, seat: Number = 0.0, step: Number | None = None
) -> None:
    """Paint a person on foot or on a seat.

    Args:
        spot: Where to paint.
        name: Label name.
        generator: Source of random numbers.
        seat: Height of the seat in metres; 0 for people on foot.
        step: Distance of the legs, -1..1; None for a random stance.
    """
    scale = generator.uniform(0.88, 1.08)
    coat: Colour = tuple((0.35 * generator.uniform(0.2, 1.6) + 0.45 * generator.uniform(0.0, 1.0, 3)).tolist())
    skin: Colour = tuple((generator.uniform(0.45, 1.05) * np.array(_SKIN)).tolist())
    cloth: Colour = tuple((generator.uniform(0.1, 0.4) * np.array((0.9, 0.95, 1.15))).tolist())
    if not seat:
        spot.shadow(0.45, 0.65)
    drawn = generator.uniform(0.05, 0.24)
    stride = drawn if step is None else 0.24 * step
    swing = 0.0 if step is None else 0.1 * step

    def up(height: Number) -> float:
        return seat + (height - (0.85 if seat else 0.0)) * scale

    foot = up(0.45) if seat else 0.0
    for direction in (-1, 1):
        hip, heel = 0.08 * direction, stride * direction
        leg = [(hip - 0.09, up(0.9)), (hip + 0.09, up(0.9)), (heel + 0.07, foot), (heel - 0.07, foot)]
        spot.shape(leg, cloth, name)
        arm = [(0.2, 1.42, 0), (0.29, 1.36, 0), (0.3, 0.85, swing), (0.2, 0.85, swing)]
        sleeve = [(across * direction - sway, up(height)) for across, height, sway in arm]
        spot.shape(sleeve, lit(coat, 0.8), name)
    torso = [(-0.22, up(1.45)), (0.22, up(1.45)), (0.19, up(0.85)), (-0.19, up(0.85))]
    spot.shape(torso, coat, name)
    spot.disc(0, up(1.62), 0.13 * scale, skin, name)
    hair = [(-0.12, up(1.66)), (0.12, up(1.66)), (0.09, up(1.76)), (-0.09, up(1.76))]
    spot.shape(hair, (0.17, 0.12, 0.09), name)


def paint_cyclist(
    spot: Spot, colour: Colour, generator: np.random.Generator, step: Number | None = None, along: bool = False
) -> None:
    """Paint a rider on a bicycle, from the side or from behind.

    Args:
        spot: Where to paint.
        colour: Colour of the bicycle.
        generator: Source of random numbers.
        step: Distance of the legs, -1..1.
        along: Whether the bicycle points along the street.
    """
    paint_cycle(spot, "bicycle", colour, along)
    paint_person(spot, "rider", generator, seat=0.85, step=step)
