"""Chooses the objects of a street, their positions and motion at random."""

from functools import partial

import numpy as np

from demo.painting.canvas import Colour, Number
from demo.street.canvas import Camera
from demo.street.fronts import draw_lots
from demo.street.furniture import paint_pole, paint_sign, paint_traffic_light, paint_tree
from demo.street.people import paint_cyclist, paint_person
from demo.street.scenery import FAR, Road, Side
from demo.street.spot import Spot
from demo.street.street import Painter, Street, Thing
from demo.street.style import Style
from demo.street.vehicles import paint_car, paint_cycle, paint_heavy

_PAINTS: tuple[Colour, ...] = (
    (0.82, 0.83, 0.84),
    (0.14, 0.15, 0.17),
    (0.50, 0.52, 0.54),
    (0.60, 0.10, 0.10),
    (0.12, 0.22, 0.45),
    (0.55, 0.53, 0.45),
    (0.16, 0.32, 0.26),
)
_STEPS = 1.7  # a second
_HEAVY = {"bus": 10.0, "truck": 7.5}  # lengths, in metres


class Placing:
    """Collects the objects of a street, with the random generator and the next instance number."""

    def __init__(self, generator: np.random.Generator, moving: bool) -> None:
        self.generator = generator
        self.moving = moving
        self.things: list[Thing] = []
        self._instances = 0

    def put(self, x: Number, z: Number, paint: Painter, *names: str, **motion: Number | tuple[Number, Number]) -> None:
        """Place an object; each label name gets its own instance."""
        numbers = {name: self._instances + step for step, name in enumerate(names, start=1)}
        self._instances += len(names)
        seed = int(self.generator.integers(2**63))
        self.things.append(Thing(paint, seed, float(x), float(z), instances=numbers, **motion))  # type: ignore[arg-type]

    def body(self) -> Colour:
        """Return the colour of a vehicle."""
        return _PAINTS[self.generator.integers(len(_PAINTS))]

    def car(self, x: Number, z: Number, oncoming: bool, along: Number = 0.0) -> None:
        """Place a car that drives ``along`` the street, in metres a second."""
        self.put(x, z, partial(_car, self.body(), oncoming), "car", length=4.2, along=along)

    def heavy(self, x: Number, z: Number, name: str, along: Number = 0.0) -> None:
        """Place a bus or a truck."""
        self.put(x, z, partial(_heavy, name, self.body()), name, length=_HEAVY[name], along=along)

    def person(self, x: Number, z: Number, walks: bool, **motion: Number | tuple[Number, Number]) -> None:
        """Place somebody on foot."""
        self.put(x, z, partial(_person, walks), "person", **motion)

    def cyclist(self, x: Number, z: Number, along: bool, **motion: Number | tuple[Number, Number]) -> None:
        """Place a bicycle with its rider; ``along`` is whether it points along the street."""
        self.put(x, z, partial(_cyclist, self.body(), along), "bicycle", "rider", **motion)


def draw_street(
    style: Style, height: int, width: int, generator: np.random.Generator, speed: Number = 0.0, seconds: Number = 0.0
) -> Street:
    """Choose a street at random, for a picture or a video.

    In a picture objects need not avoid later collisions.

    Args:
        style: Style of the city.
        height: Height of the picture in pixels.
        width: Width of the picture in pixels.
        generator: Source of random numbers.
        speed: Speed of the camera along the street, in metres a second.
        seconds: Length of the video; 0 for a picture, in which nothing moves.
    """
    moving = seconds > 0
    focal = generator.uniform(0.78, 0.92) * width
    camera = Camera(focal, generator.uniform(0.42, 0.58) * width, generator.uniform(0.42, 0.48) * height)
    sun = (-1, 1)[generator.integers(2)]
    own_lane = generator.uniform(1.6, 2.2)
    lanes, bay = (2, 2.2) if moving else (int(generator.integers(1, 3)), (0.0, 2.2)[generator.integers(2)])
    left = _side(-1, own_lane + 3.4 * lanes - 1.6, sun, style, generator)
    right = _side(1, own_lane + bay, sun, style, generator)
    length = FAR + speed * seconds
    crossing = (generator.uniform(7, 22),) if generator.random() < 0.4 else ()
    road = Road(int(generator.integers(2**31)), generator.uniform(0, 6), crossing, generator.uniform(0.6, 0.95))
    lots = draw_lots(style, (left, right), length, generator)
    placing = Placing(generator, moving)
    for side in (left, right):
        _furnish(placing, side, style, length)
        _people(placing, side, speed * seconds)
        _parked(placing, side, length if moving else 60)
    _traffic(placing, left, right, speed, seconds)
    if moving:
        _crossing(placing, left, right, speed * seconds)
    return Street(int(generator.integers(2**63)), style, camera, speed, (left, right), road, lots, placing.things)


def _side(sign: int, kerb: Number, sun: int, style: Style, generator: np.random.Generator) -> Side:
    verge, contrast = (0.0, 0.0, 1.4, 2.2)[generator.integers(4)], style.light.sun
    front = kerb + generator.uniform(2.4, 4.2) + verge
    reach = generator.uniform(2.0, 7.0)
    return Side(
        sign=sign,
        kerb=kerb,
        front=front,
        verge=verge,
        light=0.93 + 0.15 * contrast if sign == sun else 0.93 - 0.15 * contrast,
        shadow=reach if sign != sun and contrast > 0.5 else 0.0,
    )


def _furnish(placing: Placing, side: Side, style: Style, length: Number) -> None:
    """Place trees, posts, signs and traffic lights on one pavement."""
    generator = placing.generator
    for ahead in np.arange(generator.uniform(7, 14), length - 60, generator.uniform(9, 18)).tolist():
        kind = generator.random()
        if kind < 0.45:
            placing.put(side.sign * (side.kerb + 0.7), ahead, partial(_tree, style.leaves))
        else:
            placing.put(side.sign * (side.kerb + 0.5), ahead, partial(_post, -side.sign * 1.3 if kind < 0.75 else 0.0))
    for _ in range(generator.integers(1, 3) + int(length - FAR) // 25):
        placing.put(side.sign * (side.kerb + 0.4), generator.uniform(6, length - 100), _sign)
    if generator.random() < 0.6:
        placing.put(side.sign * (side.kerb + 0.4), generator.uniform(9, 28), _traffic_light)


def _people(placing: Placing, side: Side, travelled: Number) -> None:
    """Place people on one pavement, walking or standing, and a parked bicycle or motorcycle."""
    generator = placing.generator
    for _ in range(generator.integers(2, 6) + int(travelled) // 6):
        across = side.sign * generator.uniform(side.kerb + 0.6, side.front - 0.4)
        ahead = generator.uniform(5, 26 + travelled)
        pace = generator.uniform(0.9, 1.6) * (-1, 1)[generator.integers(2)]
        if placing.moving and generator.random() < 0.75:
            placing.person(across, ahead + (6 if pace < 0 else 0), True, along=pace)
        else:
            placing.person(across, ahead, False)
    name = "bicycle" if generator.random() < 0.7 else "motorcycle"
    cycle = partial(_cycle, name, placing.body())
    placing.put(side.sign * (side.kerb + 0.9), generator.uniform(6, 18 + travelled), cycle, name)


def _parked(placing: Placing, side: Side, length: Number) -> None:
    """Park cars along one kerb, where they leave the lanes free."""
    generator, ahead = placing.generator, placing.generator.uniform(7, 12)
    if placing.moving or side.kerb > 3:
        while ahead < length and generator.random() < 0.8 + 0.12 * placing.moving:
            placing.car(side.sign * (side.kerb - 1.1), ahead, side.sign < 0)
            ahead += generator.uniform(5.5, 14 + 8 * placing.moving)


def _traffic(placing: Placing, left: Side, right: Side, speed: Number, seconds: Number) -> None:
    """Place what drives: cars, at times a bus or a truck, and cyclists."""
    generator = placing.generator
    opposite = -left.kerb / 2 - 0.4
    ahead_speed = max(speed, generator.uniform(4, 9)) if placing.moving else 0.0
    facing_speed = generator.uniform(5, 10) if placing.moving else 0.0
    lanes = ((0.2, False, ahead_speed), (opposite, True, -facing_speed))
    heavy = generator.integers(2) if generator.random() < (0.8 if placing.moving else 0.45) else None
    for lane, (x, oncoming, velocity) in enumerate(lanes):
        ahead = generator.uniform(12, 30)
        count = 1 + (int(generator.integers(1, 3)) + int((speed + facing_speed) * seconds) // 22) * placing.moving
        for _ in range(count):
            placing.car(x, ahead, oncoming, velocity)
            ahead += generator.uniform(13, 28)
        if heavy == lane:
            placing.heavy(x, ahead, "bus" if generator.random() < 0.5 else "truck", velocity)
    if placing.moving or generator.random() < 0.55:
        x = right.kerb - (2.4 if placing.moving else generator.uniform(0.5, 2.5))
        cyclist = partial(_cyclist, placing.body(), placing.moving)
        pace = max(speed * 0.85, 3.5) if placing.moving else 0.0
        placing.put(x, generator.uniform(7, 18), cyclist, "bicycle", "rider", along=pace)


def _crossing(placing: Placing, left: Side, right: Side, travelled: Number) -> None:
    """Send people and a cyclist across the street, beyond where the camera comes."""
    generator = placing.generator
    low, high = -left.front + 0.5, right.front - 0.5
    for kind in ("person",) * int(generator.integers(3, 7)) + ("cyclist",) * int(generator.integers(0, 3)):
        x, z = generator.uniform(low, high), travelled + generator.uniform(9, 30)
        pace = generator.uniform(1.0, 1.7) * (-1, 1)[generator.integers(2)]
        if kind == "person":
            placing.person(x, z, True, across=pace, bounds=(low, high))
        else:
            placing.cyclist(x, z, False, across=2.5 * pace, bounds=(low, high))


def _car(colour: Colour, oncoming: bool, spot: Spot, generator: np.random.Generator, time: Number) -> None:
    paint_car(spot, colour, oncoming, generator)


def _heavy(name: str, colour: Colour, spot: Spot, generator: np.random.Generator, time: Number) -> None:
    paint_heavy(spot, name, colour)


def _cycle(name: str, colour: Colour, spot: Spot, generator: np.random.Generator, time: Number) -> None:
    paint_cycle(spot, name, colour)


def _person(walks: bool, spot: Spot, generator: np.random.Generator, time: Number) -> None:
    paint_person(spot, "person", generator, step=_stepped(time + generator.random()) if walks else None)


def _cyclist(colour: Colour, along: bool, spot: Spot, generator: np.random.Generator, time: Number) -> None:
    paint_cyclist(spot, colour, generator, step=0.6 * _stepped(time), along=along)


def _post(arm: Number, spot: Spot, generator: np.random.Generator, time: Number) -> None:
    paint_pole(spot, 5.5, arm)


def _sign(spot: Spot, generator: np.random.Generator, time: Number) -> None:
    paint_sign(spot, generator)


def _traffic_light(spot: Spot, generator: np.random.Generator, time: Number) -> None:
    paint_traffic_light(spot, generator)


def _tree(leaves: Colour, spot: Spot, generator: np.random.Generator, time: Number) -> None:
    paint_tree(spot, leaves, generator)


def _stepped(time: Number) -> float:
    """Return how far the legs are apart, -1..1."""
    within = time * _STEPS / 2 % 1.0
    return 4 * abs(within - 0.5) - 1
