"""One street scene: where everything stands, painted from far to near."""

from collections.abc import Callable
from functools import partial

import numpy as np
from jaxtyping import UInt8

from pipeline.street_world.canvas import Camera, Canvas, Colour, Number
from pipeline.street_world.fronts import paint_fronts
from pipeline.street_world.objects import (
    Spot,
    paint_car,
    paint_cycle,
    paint_cyclist,
    paint_heavy,
    paint_person,
    paint_pole,
    paint_sign,
    paint_traffic_light,
    paint_tree,
)
from pipeline.street_world.scenery import Side, Style, paint_far_end, paint_ground, paint_sky

EGO_VEHICLE = 1
"""labelId of the camera car's own bonnet; it has no trainId, so it is void."""

_CARS: tuple[Colour, ...] = (
    (0.82, 0.83, 0.84),
    (0.14, 0.15, 0.17),
    (0.50, 0.52, 0.54),
    (0.60, 0.10, 0.10),
    (0.12, 0.22, 0.45),
    (0.55, 0.53, 0.45),
    (0.16, 0.32, 0.26),
)
_SKIES: tuple[tuple[Colour, Colour], ...] = (
    ((0.36, 0.56, 0.84), (0.80, 0.87, 0.93)),
    ((0.55, 0.63, 0.72), (0.84, 0.86, 0.88)),
    ((0.42, 0.50, 0.72), (0.95, 0.85, 0.72)),
)
_FACADES: tuple[tuple[Colour, ...], ...] = (
    ((0.74, 0.68, 0.56), (0.66, 0.60, 0.52), (0.80, 0.76, 0.68)),
    ((0.60, 0.38, 0.30), (0.68, 0.50, 0.42), (0.55, 0.44, 0.40)),
    ((0.58, 0.60, 0.62), (0.70, 0.71, 0.70), (0.48, 0.50, 0.54)),
    ((0.78, 0.70, 0.50), (0.70, 0.56, 0.50), (0.62, 0.66, 0.60)),
)


def city_style(generator: np.random.Generator) -> Style:
    """Draw what the pictures of one city share."""
    sky, horizon = _SKIES[generator.integers(len(_SKIES))]
    return Style(
        sky=sky,
        horizon=horizon,
        clouds=generator.uniform(-0.6, 0.3),
        asphalt=generator.uniform(0.28, 0.40),
        paving=((0.60, 0.58, 0.56), (0.62, 0.54, 0.50), (0.54, 0.55, 0.58))[generator.integers(3)],
        facades=_FACADES[generator.integers(len(_FACADES))],
        leaves=((0.24, 0.40, 0.16), (0.30, 0.42, 0.18), (0.20, 0.34, 0.18))[generator.integers(3)],
        storeys=int(generator.integers(3, 6)),
        green=generator.uniform(0.18, 0.32),
    )


def paint_scene(
    style: Style, height: int, width: int, generator: np.random.Generator
) -> tuple[UInt8[np.ndarray, "height width 3"], UInt8[np.ndarray, "height width"]]:
    """Return a picture, RGB 0..255, and its Cityscapes labelIds."""
    camera = Camera(
        focal=generator.uniform(0.78, 0.92) * width,
        vanishing_x=generator.uniform(0.42, 0.58) * width,
        horizon=generator.uniform(0.42, 0.48) * height,
    )
    sun = int(generator.choice((-1, 1)))
    own_lane = generator.uniform(1.6, 2.2)
    lanes = int(generator.integers(1, 3))
    sides = (
        _side(-1, own_lane + 3.4 * lanes - 1.6, sun, generator),
        _side(1, own_lane + generator.choice((0.0, 2.2)), sun, generator),
    )
    canvas = Canvas(height, width, style.horizon, generator)
    paint_sky(canvas, camera, style, generator)
    paint_far_end(canvas, camera, style, generator)
    paint_ground(canvas, camera, style, sides, generator)
    paint_fronts(canvas, camera, style, sides, generator)
    for spot, paint in sorted(_objects(canvas, camera, style, sides, generator), key=lambda item: -item[0].z):
        paint(spot)
    _bonnet(canvas, generator)
    return _develop(canvas, generator), canvas.labels


def _side(sign: int, kerb: Number, sun: int, generator: np.random.Generator) -> Side:
    verge = generator.choice((0.0, 0.0, 1.4, 2.2))
    return Side(
        sign=sign,
        kerb=float(kerb),
        front=float(kerb + generator.uniform(2.4, 4.2) + verge),
        verge=float(verge),
        light=1.08 if sign == sun else 0.78,
    )


def _objects(
    canvas: Canvas, camera: Camera, style: Style, sides: tuple[Side, Side], generator: np.random.Generator
) -> list[tuple[Spot, Callable[[Spot], None]]]:
    """Choose what stands where, as (spot, what paints it there)."""
    left, right = sides
    placed: list[tuple[Spot, Callable[[Spot], None]]] = []

    def place(x: Number, z: Number, paint: Callable[[Spot], None]) -> None:
        placed.append((Spot(canvas, camera, float(x), float(z)), paint))

    def own() -> np.random.Generator:
        return np.random.Generator(np.random.PCG64(int(generator.integers(2**63))))

    def body() -> Colour:
        return _CARS[generator.integers(len(_CARS))]

    for side in sides:
        _kerbside(side, style, generator, place, own)
        ahead = generator.uniform(7, 12)
        while ahead < 60 and generator.random() < 0.8:
            parked = partial(paint_car, colour=body(), oncoming=side is left, generator=own())
            place(side.sign * (side.kerb - 1.1), ahead, parked)
            ahead += generator.uniform(5.5, 14)
        cycle = partial(paint_cycle, name="bicycle" if generator.random() < 0.7 else "motorcycle", colour=body())
        place(side.sign * (side.kerb + 0.9), generator.uniform(6, 18), cycle)

    place(0.2, generator.uniform(13, 45), partial(paint_car, colour=body(), oncoming=False, generator=own()))
    opposite = partial(paint_car, colour=body(), oncoming=True, generator=own())
    place(-left.kerb / 2 - 0.4, generator.uniform(14, 50), opposite)
    if generator.random() < 0.45:
        heavy = partial(paint_heavy, name="bus" if generator.random() < 0.5 else "truck", colour=body())
        place(generator.choice((0.3, -left.kerb / 2 - 0.6)), generator.uniform(12, 40), heavy)
    if generator.random() < 0.55:
        cyclist = partial(paint_cyclist, colour=body(), generator=own())
        place(right.kerb - generator.uniform(0.5, 2.5), generator.uniform(7, 18), cyclist)
    return placed


def _kerbside(
    side: Side,
    style: Style,
    generator: np.random.Generator,
    place: Callable[[Number, Number, Callable[[Spot], None]], None],
    own: Callable[[], np.random.Generator],
) -> None:
    """Place trees, posts, signs, traffic lights and people on one pavement."""
    for ahead in np.arange(generator.uniform(7, 14), 70, generator.uniform(9, 18)).tolist():
        kind = generator.random()
        if kind < 0.45:
            tree = partial(paint_tree, leaves=style.leaves, generator=own())
            place(side.sign * (side.kerb + 0.7), ahead, tree)
        else:
            post = partial(paint_pole, tall=5.5, arm=-side.sign * 1.3 if kind < 0.75 else 0.0)
            place(side.sign * (side.kerb + 0.5), ahead, post)
    for _ in range(generator.integers(1, 3)):
        place(side.sign * (side.kerb + 0.4), generator.uniform(6, 26), partial(paint_sign, generator=own()))
    for _ in range(generator.integers(1, 5)):
        across = generator.uniform(side.kerb + 0.6, side.front - 0.4)
        person = partial(paint_person, name="person", generator=own())
        place(side.sign * across, generator.uniform(5, 26), person)
    if generator.random() < 0.6:
        light = partial(paint_traffic_light, generator=own())
        place(side.sign * (side.kerb + 0.4), generator.uniform(9, 28), light)


def _bonnet(canvas: Canvas, generator: np.random.Generator) -> None:
    """Paint the camera car's bonnet along the lower edge."""
    width, height = canvas.width, canvas.height
    xs = np.linspace(-0.05, 1.05, 24)
    rise = generator.uniform(0.05, 0.075)
    top = [(float(x * width), float(height * (1 - rise * (1 - (2 * x - 1) ** 4)))) for x in xs]
    canvas.polygon(
        [*top, (1.1 * width, 1.1 * height), (-0.1 * width, 1.1 * height)], (0.16, 0.17, 0.19), EGO_VEHICLE, 0
    )


def _develop(canvas: Canvas, generator: np.random.Generator) -> UInt8[np.ndarray, "height width 3"]:
    """Expose the picture: brightness, tint, a darker border and sensor noise."""
    y = np.linspace(-1, 1, canvas.height, dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, canvas.width, dtype=np.float32)[None, :]
    border = (1 - 0.10 * (x**2 + y**2))[..., None]
    tint = generator.uniform(0.96, 1.04, 3).astype(np.float32)
    exposure = np.float32(generator.uniform(0.92, 1.18))
    noise = 0.012 * generator.standard_normal(canvas.picture.shape, np.float32)
    light = np.clip(canvas.picture * border * tint * exposure + noise, 0, 1)
    developed: np.ndarray = np.rint(light * 255).astype(np.uint8)
    return developed
