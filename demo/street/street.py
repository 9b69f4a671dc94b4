"""A street with its objects, painted from far to near at one time."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float32

from demo.painting.canvas import Number
from demo.street.canvas import Camera, Canvas
from demo.street.fronts import Lot, paint_fronts
from demo.street.scenery import FAR, Road, Side, paint_far_end, paint_ground, paint_sky
from demo.street.spot import Spot
from demo.street.style import Style

_NEAREST = 0.9  # metres ahead of the camera; objects whose far end is nearer are not painted

Painter = Callable[[Spot, np.random.Generator, Number], None]
"""Paints an object at a spot, with its own random numbers, at a time in seconds."""


@dataclass(frozen=True)
class Thing:
    """An object that stands or moves on the street."""

    paint: Painter
    seed: int
    x: Number
    """Metres to the right of the middle of the camera's lane, at time 0."""
    z: Number
    """Metres along the street to its nearer end, at time 0."""
    length: Number = 0.0
    """Metres along the street."""
    across: Number = 0.0
    """Speed to the right, in metres a second."""
    along: Number = 0.0
    """Speed along the street, in metres a second."""
    bounds: tuple[Number, Number] | None = None
    """Range in metres across the street in which it moves back and forth; None if it does not cross."""
    instances: Mapping[str, int] = field(default_factory=dict)
    """Instance number by label name; scenery has none."""

    def place(self, time: Number) -> tuple[Number, Number]:
        """Return x and z at a time, in metres."""
        x = self.x + self.across * time
        if self.bounds:
            low, high = self.bounds
            round_trip = (x - low) % (2 * (high - low))
            x = low + min(round_trip, 2 * (high - low) - round_trip)
        return x, self.z + self.along * time


@dataclass(frozen=True)
class Street:
    """Everything that is chosen at random, once; painting adds no randomness."""

    seed: int
    style: Style
    camera: Camera
    """At time 0."""
    speed: Number
    """Of the camera along the street, in metres a second."""
    sides: tuple[Side, Side]
    road: Road
    lots: list[Lot]
    things: list[Thing]

    def camera_at(self, time: Number) -> Camera:
        """Return the camera at a time; a driving camera sways slightly."""
        sway = 1.0 if self.speed else 0.0
        return Camera(
            focal=self.camera.focal,
            vanishing_x=self.camera.vanishing_x + sway * 0.02 * self.camera.focal * _swing(time / 5.0),
            horizon=self.camera.horizon + sway * 0.004 * self.camera.focal * _swing(time / 0.9),
            height=self.camera.height,
            x=sway * 0.12 * _swing(time / 7.0),
            z=self.speed * time,
        )


def paint_street(canvas: Canvas, street: Street, sky: Float32[np.ndarray, "height width 3"], time: Number) -> None:
    """Paint a street as it is at one time.

    Args:
        canvas: Canvas to paint on.
        street: The street.
        sky: Picture of the sky.
        time: Time in seconds.
    """
    camera, style = street.camera_at(time), street.style
    paint_sky(canvas, sky)
    paint_far_end(canvas, camera, style, np.random.Generator(np.random.PCG64(street.seed)))
    paint_ground(canvas, camera, style, street.sides, street.road)
    paint_fronts(canvas, camera, style, street.lots)
    still = canvas.origin
    for x, z, thing in sorted(
        ((*thing.place(time), thing) for thing in street.things), key=lambda item: (-item[1], item[0])
    ):
        ahead = z - camera.z
        if not _NEAREST < ahead + thing.length < FAR:
            continue
        spot = Spot(canvas, camera, x, ahead, lamps=style.light.lamps, instances=thing.instances)
        column, row = spot.at(0, 0)
        canvas.origin = (still[0] - int(row), still[1] - int(column))
        thing.paint(spot, np.random.Generator(np.random.PCG64(thing.seed)), time)
    canvas.origin = still


def _swing(turns: Number) -> float:
    """Return a wave of period 1 between -1 and 1, made of parabolas."""
    within = turns % 1.0
    half = within % 0.5
    return (16 if within < 0.5 else -16) * half * (0.5 - half)
