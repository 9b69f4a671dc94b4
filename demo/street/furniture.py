"""Paints posts, signs, traffic lights and trees."""

import numpy as np

from demo.painting.canvas import Colour, Number
from demo.street.canvas import CORNERS
from demo.street.spot import BLACK, STEEL, Spot, board, lit
from pipeline.datasets.cityscapes import LABEL_IDS


def paint_pole(spot: Spot, tall: Number, arm: Number) -> None:
    """Paint a lamp post; the lamp hangs ``arm`` metres to the side, 0 for none."""
    spot.shape([(-0.09, 0), (0.09, 0), (0.06, tall), (-0.06, tall)], STEEL, "pole")
    if arm:
        spot.shape([(0, tall), (0, tall - 0.14), (arm, tall + 0.16), (arm, tall + 0.3)], STEEL, "pole")
        lamp = [(0.7, 0.1), (1.25, 0.2), (1.25, 0.36), (0.7, 0.3)]
        spot.lamp([(arm * across, tall + up) for across, up in lamp], (0.8, 0.8, 0.72), "pole")


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
        spot.shape(board(0.55, 2.1, 2.9), (0.10, 0.28, 0.65), name)
        shaft, head = (
            [(-0.08, 2.55), (-0.08, 2.25), (0.08, 2.25), (0.08, 2.55)],
            [(0.25, 2.55), (0, 2.82), (-0.25, 2.55)],
        )
        spot.shape(shaft + head, (0.95, 0.95, 0.95), name)


def paint_traffic_light(spot: Spot, generator: np.random.Generator) -> None:
    """Paint a traffic light with one of its three lamps on."""
    paint_pole(spot, 3.4, 0)
    name, on = "traffic light", int(generator.integers(3))
    spot.shape(board(0.26, 2.45, 3.5), BLACK, name)
    lamps: tuple[Colour, ...] = ((0.98, 0.15, 0.1), (1.0, 0.75, 0.1), (0.2, 0.95, 0.45))
    for lamp, colour in enumerate(lamps):
        spot.disc(0, 3.3 - 0.32 * lamp, 0.15, lit(colour, 0.25), name)
        if lamp == on:
            spot.lamp([(0.15 * x, 3.3 - 0.32 * lamp + 0.15 * y) for x, y in CORNERS], colour, name)


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
        spot.canvas.ellipse(centre, (radius, radius * 0.85), lit(leaves, tone), LABEL_IDS[name], spot.z, 0.3)
