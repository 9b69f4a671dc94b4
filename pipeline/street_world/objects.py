"""What stands or moves on the street, each painted around the metre where it touches the ground."""

from dataclasses import dataclass

import numpy as np

from pipeline.datasets.cityscapes import LABEL_IDS
from pipeline.street_world.canvas import Camera, Canvas, Colour, Number, Point

_BLACK: Colour = (0.07, 0.07, 0.08)
_GLASS: Colour = (0.20, 0.25, 0.29)
_STEEL: Colour = (0.42, 0.44, 0.45)
_SKIN: Colour = (0.74, 0.56, 0.45)
_TYRE: Colour = (0.10, 0.10, 0.11)


@dataclass(frozen=True)
class Spot:
    """A place on the ground and the tools to paint there."""

    canvas: Canvas
    camera: Camera
    x: Number
    """Metres to the right of the camera."""
    z: Number
    """Metres ahead."""
    light: Number = 1.0

    def at(self, across: Number, up: Number, ahead: Number = 0.0) -> Point:
        """Return the pixel of a point given in metres from the spot."""
        return self.camera.project(self.x + across, up, max(self.z + ahead, 0.8))

    def shape(self, points: list[tuple[Number, Number]], colour: Colour, name: str, grain: Number = 0.06) -> None:
        """Paint an upright polygon that faces the camera; points are (across, up) in metres."""
        self.solid([(across, up, 0.0) for across, up in points], colour, name, grain)

    def solid(
        self, points: list[tuple[Number, Number, Number]], colour: Colour, name: str, grain: Number = 0.06
    ) -> None:
        """Paint a polygon in space; points are (across, up, ahead) in metres."""
        pixels = [self.at(*point) for point in points]
        self.canvas.polygon(pixels, _lit(colour, self.light), LABEL_IDS[name], self.z, grain)

    def disc(self, across: Number, up: Number, radius: Number, colour: Colour, name: str) -> None:
        """Paint a disc that faces the camera, in metres."""
        pixels = self.camera.focal * radius / self.z
        self.canvas.ellipse(self.at(across, up), (pixels, pixels), _lit(colour, self.light), LABEL_IDS[name], self.z)

    def shadow(self, radius: Number, factor: Number = 0.6) -> None:
        """Darken the ground around the spot, in metres."""
        wide = self.camera.focal * radius / self.z
        self.canvas.darken(self.at(0, 0), (wide, max(1.0, 0.14 * wide)), factor)


def _lit(colour: Colour, light: Number) -> Colour:
    red, green, blue = (min(1.0, part * light) for part in colour)
    return red, green, blue


def _board(half: Number, low: Number, high: Number, across: Number = 0.0) -> list[tuple[Number, Number]]:
    return [(across - half, low), (across + half, low), (across + half, high), (across - half, high)]


def paint_car(spot: Spot, colour: Colour, oncoming: bool, generator: np.random.Generator) -> None:
    """Paint a car, 1.8 m wide and 4.2 m long: the flank towards the camera, the roof, then its end."""
    tall, name = generator.uniform(1.4, 1.75), "car"
    half, roof, belt, length, rake = 0.9, 0.68, 0.92, 4.2, 0.4
    spot.shadow(1.25, 0.5)
    inner = -1 if spot.x > 0 else 1
    hull = [(0.0, 0.28), (0.0, belt), (3.4, belt), (length, 0.8), (length, 0.28)]
    spot.solid([(inner * half, up, ahead) for ahead, up in hull], _lit(colour, 0.72), name)
    for low, high, start, end, shade in ((belt, tall, 0.0, 3.4, 0.72), (belt + 0.05, tall - 0.08, 0.25, 3.05, 0)):
        flank = [(half, low, start), (roof, high, start + rake), (roof, high, end - 0.75), (half, low, end)]
        tone = _lit(colour, shade) if shade else _GLASS
        spot.solid([(inner * across, up, ahead) for across, up, ahead in flank], tone, name)
    for axle in (0.8, 3.4):
        spot.solid(_wheel(inner * half, axle, 0.33), _TYRE, name)
    lid = [(-roof, rake), (roof, rake), (roof, 2.65), (-roof, 2.65)]
    spot.solid([(across, tall, ahead) for across, ahead in lid], _lit(colour, 1.1), name)
    for wheel in (-0.68, 0.68):
        spot.shape(_board(0.13, 0.0, 0.4, wheel), _TYRE, name)
    rear = [(-half, belt, 0.0), (half, belt, 0.0), (roof, tall, rake), (-roof, tall, rake)]
    spot.solid(rear, _lit(colour, 0.95), name)
    pane = [(-0.75, belt + 0.04, 0.0), (0.75, belt + 0.04, 0.0), (0.58, tall - 0.09, rake), (-0.58, tall - 0.09, rake)]
    spot.solid(pane, _GLASS, name)
    spot.shape(_board(half, 0.28, belt), colour, name)
    lamp: Colour = (0.98, 0.96, 0.85) if oncoming else (0.75, 0.08, 0.06)
    for across in (-0.7, 0.7):
        spot.shape(_board(0.15, 0.66, 0.82, across), lamp, name)
    spot.shape(_board(half - 0.05, 0.28, 0.42), _BLACK, name)
    spot.shape(_board(0.26, 0.46, 0.58), (0.9, 0.9, 0.86), name)


def _wheel(across: Number, axle: Number, radius: Number) -> list[tuple[Number, Number, Number]]:
    """Return a wheel of a flank."""
    turns = np.linspace(0, 2 * np.pi, 14, endpoint=False)
    return [(across, float(radius + radius * np.sin(turn)), float(axle + radius * np.cos(turn))) for turn in turns]


def paint_heavy(spot: Spot, name: str, colour: Colour) -> None:
    """Paint a bus or a truck, 2.5 m wide and 3.2 m tall."""
    half, low, tall, length = 1.25, 0.4, 3.2, 10.0 if name == "bus" else 7.5
    spot.shadow(1.7, 0.5)
    inner = -half if spot.x > 0 else half
    flank = [(0.0, low), (length, low), (length, tall), (0.0, tall)]
    spot.solid([(inner, up, ahead) for ahead, up in flank], _lit(colour, 0.75), name)
    for axle in (1.6, length - 1.8):
        spot.solid(_wheel(inner, axle, 0.48), _TYRE, name)
    if name == "bus":
        for first in np.arange(0.5, length - 1.5, 1.6).tolist():
            pane = [(first, 1.5), (first + 1.35, 1.5), (first + 1.35, 2.6), (first, 2.6)]
            spot.solid([(inner, up, ahead) for ahead, up in pane], _GLASS, name)
    for wheel in (-0.95, 0.95):
        spot.shape(_board(0.17, 0.0, 0.6, wheel), _TYRE, name)
    spot.shape(_board(half, low, tall), colour, name)
    if name == "bus":
        spot.shape(_board(half - 0.15, 1.5, 2.6), _GLASS, name)
        spot.shape(_board(0.8, 2.75, 3.05), (0.95, 0.75, 0.2), name)
    else:
        spot.shape(_board(half - 0.1, 0.9, tall - 0.12), _lit(colour, 0.88), name)
        spot.shape(_board(0.03, 0.9, tall - 0.12), _BLACK, name)
    for across in (-1.05, 1.05):
        spot.shape(_board(0.13, 0.55, 0.8, across), (0.75, 0.08, 0.06), name)


def paint_person(spot: Spot, name: str, generator: np.random.Generator, seat: Number = 0.0) -> None:
    """Paint a person, or a rider whose legs end at the ``seat`` metres above the ground."""
    scale = generator.uniform(0.88, 1.08)
    coat: Colour = tuple(generator.uniform(0.08, 0.85, 3).tolist())
    cloth: Colour = tuple((generator.uniform(0.1, 0.4) * np.array((0.9, 0.95, 1.15))).tolist())
    if not seat:
        spot.shadow(0.45, 0.65)
    stride = generator.uniform(0.05, 0.24)

    def up(height: Number) -> float:
        return seat + (height - (0.85 if seat else 0.0)) * scale

    foot = up(0.45) if seat else 0.0
    for direction in (-1, 1):
        hip, heel = 0.08 * direction, stride * direction
        leg = [(hip - 0.09, up(0.9)), (hip + 0.09, up(0.9)), (heel + 0.07, foot), (heel - 0.07, foot)]
        spot.shape(leg, cloth, name)
        arm = [(0.2, 1.42), (0.29, 1.36), (0.3, 0.85), (0.2, 0.85)]
        spot.shape([(across * direction, up(height)) for across, height in arm], _lit(coat, 0.8), name)
    torso = [(-0.22, up(1.45)), (0.22, up(1.45)), (0.19, up(0.85)), (-0.19, up(0.85))]
    spot.shape(torso, coat, name)
    spot.disc(0, up(1.62), 0.13 * scale, _SKIN, name)
    hair = [(-0.12, up(1.66)), (0.12, up(1.66)), (0.09, up(1.76)), (-0.09, up(1.76))]
    spot.shape(hair, (0.17, 0.12, 0.09), name)


def paint_cycle(spot: Spot, name: str, colour: Colour) -> None:
    """Paint a bicycle or a motorcycle from the side."""
    spot.shadow(0.85, 0.65)
    radius, base = (0.34, 0.55) if name == "bicycle" else (0.32, 0.68)
    for across in (-base, base):
        spot.disc(across, radius, radius, _TYRE, name)
        spot.disc(across, radius, radius * (0.78 if name == "bicycle" else 0.5), _STEEL, name)
    if name == "bicycle":
        spot.shape([(-base, 0.34), (-0.15, 0.8), (0.4, 0.8), (base, 0.34), (0.45, 0.7), (-0.08, 0.4)], colour, name)
        spot.shape([(0.35, 0.95), (0.6, 1.02), (0.62, 0.96), (0.42, 0.8)], _BLACK, name)
        spot.shape([(-0.32, 0.9), (-0.05, 0.9), (-0.08, 0.84), (-0.28, 0.84)], _BLACK, name)
    else:
        spot.shape([(-0.6, 0.35), (-0.75, 0.85), (0.2, 0.95), (0.55, 0.75), (0.45, 0.3)], colour, name)
        spot.shape([(-0.7, 0.82), (0.05, 0.82), (0.05, 0.92), (-0.75, 0.98)], _BLACK, name)
        spot.shape([(0.35, 0.9), (0.5, 1.15), (0.58, 1.1), (0.65, 0.4), (0.55, 0.4)], _STEEL, name)


def paint_cyclist(spot: Spot, colour: Colour, generator: np.random.Generator) -> None:
    """Paint a rider on a bicycle."""
    paint_cycle(spot, "bicycle", colour)
    paint_person(spot, "rider", generator, seat=0.85)


def paint_pole(spot: Spot, tall: Number, arm: Number) -> None:
    """Paint a lamp post; the lamp hangs ``arm`` metres to the side, 0 for none."""
    spot.shape([(-0.09, 0), (0.09, 0), (0.06, tall), (-0.06, tall)], _STEEL, "pole")
    if arm:
        spot.shape([(0, tall), (0, tall - 0.14), (arm, tall + 0.16), (arm, tall + 0.3)], _STEEL, "pole")
        lamp = [(0.7, 0.1), (1.25, 0.2), (1.25, 0.36), (0.7, 0.3)]
        spot.shape([(arm * across, tall + up) for across, up in lamp], (0.8, 0.8, 0.75), "pole")


def paint_sign(spot: Spot, generator: np.random.Generator) -> None:
    """Paint a traffic sign on its pole: a disc, a triangle or a board."""
    paint_pole(spot, 2.6, 0)
    kind, name = generator.integers(3), "traffic sign"
    if kind == 0:
        spot.disc(0, 2.5, 0.42, (0.80, 0.10, 0.10), name)
        spot.disc(0, 2.5, 0.28, (0.95, 0.95, 0.93), name)
    elif kind == 1:
        spot.shape([(-0.5, 2.15), (0.5, 2.15), (0, 3.0)], (0.82, 0.12, 0.10), name)
        spot.shape([(-0.27, 2.28), (0.27, 2.28), (0, 2.72)], (0.96, 0.93, 0.85), name)
    else:
        spot.shape(_board(0.55, 2.1, 2.9), (0.10, 0.28, 0.65), name)
        shaft, head = (
            [(-0.08, 2.55), (-0.08, 2.25), (0.08, 2.25), (0.08, 2.55)],
            [(0.25, 2.55), (0, 2.82), (-0.25, 2.55)],
        )
        spot.shape(shaft + head, (0.95, 0.95, 0.95), name)


def paint_traffic_light(spot: Spot, generator: np.random.Generator) -> None:
    """Paint a traffic light with one of its three lamps on."""
    paint_pole(spot, 3.4, 0)
    name, on = "traffic light", int(generator.integers(3))
    spot.shape(_board(0.26, 2.45, 3.5), _BLACK, name)
    lamps: tuple[Colour, ...] = ((0.98, 0.15, 0.1), (1.0, 0.75, 0.1), (0.2, 0.95, 0.45))
    for lamp, colour in enumerate(lamps):
        spot.disc(0, 3.3 - 0.32 * lamp, 0.15, colour if lamp == on else _lit(colour, 0.25), name)


def paint_tree(spot: Spot, leaves: Colour, generator: np.random.Generator) -> None:
    """Paint a trunk and a crown of overlapping clumps, light on top."""
    name = "vegetation"
    trunk, crown = generator.uniform(1.9, 2.8), generator.uniform(1.4, 2.3)
    spot.shadow(0.8, 0.75)
    spot.shape([(-0.16, 0), (0.16, 0), (0.1, trunk + 0.8), (-0.1, trunk + 0.8)], (0.30, 0.23, 0.17), name, 0.2)
    clumps = sorted((generator.uniform(-1, 1), generator.uniform(-0.75, 1.0)) for _ in range(16))
    pixels = spot.camera.focal / spot.z
    for across, up in sorted(clumps, key=lambda clump: clump[1]):
        inward = 1 - 0.35 * abs(up)
        radius = crown * generator.uniform(0.3, 0.48) * pixels
        tone = spot.light * (0.85 + 0.22 * up + generator.uniform(-0.1, 0.1))
        centre = spot.at(across * inward * crown * 0.8, trunk + crown * (0.85 + 0.75 * up))
        spot.canvas.ellipse(centre, (radius, radius * 0.85), _lit(leaves, tone), LABEL_IDS[name], spot.z, 0.3)
