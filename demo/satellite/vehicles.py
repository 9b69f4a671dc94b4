"""Paints planes, helicopters, ships, cars and trucks seen from above, pointing to the front of the rectangle."""

import numpy as np

from demo.painting.canvas import Colour
from demo.satellite.sprite import Sprite, toned

_GLASS: Colour = (0.16, 0.19, 0.23)
_PAINTS: tuple[Colour, ...] = (
    (0.90, 0.90, 0.90),
    (0.16, 0.17, 0.19),
    (0.60, 0.61, 0.63),
    (0.66, 0.14, 0.12),
    (0.17, 0.28, 0.55),
    (0.72, 0.70, 0.62),
    (0.80, 0.66, 0.20),
)
_LIVERIES: tuple[Colour, ...] = ((0.75, 0.12, 0.12), (0.10, 0.25, 0.60), (0.95, 0.65, 0.10), (0.10, 0.45, 0.30))


def paint_plane(sprite: Sprite, generator: np.random.Generator) -> None:
    """Paint an airliner: fuselage, swept wings, engines and tail."""
    u, v = sprite.patch.along, np.abs(sprite.patch.across)
    skin: Colour = (0.90, 0.91, 0.93) if generator.random() < 0.8 else (0.70, 0.72, 0.75)
    livery = _LIVERIES[generator.integers(len(_LIVERIES))]
    wing: Colour = toned(skin, 0.88)
    lead = np.float32(0.26) - np.float32(0.52) * v
    for edge in (0.32, 0.58) if generator.random() < 0.3 else (0.36,):
        sprite.fill((np.abs(v - edge) < 0.045) & (np.abs(u - np.float32(0.30 - 0.52 * edge)) < 0.09), (0.45, 0.46, 0.5))
    sprite.fill((u < lead) & (u > np.float32(-0.04) - np.float32(0.36) * v), wing)
    sprite.fill((v < 0.38) & (u < np.float32(-0.70) - np.float32(0.4) * v) & (u > -0.84 - 0.3 * v), wing)
    nose = np.clip((1 - u) * np.float32(6), 0, 1)
    tail = np.clip((u + 1) * np.float32(2.2), 0.12, 1)
    half = np.float32(0.105) * np.sqrt(nose) * tail
    sprite.fill(v < half, skin)
    sprite.draw((v < half) & (sprite.patch.across > half * np.float32(0.35)), toned(skin, 0.8))
    sprite.draw((v < 0.025) & (u < -0.62), livery)
    sprite.draw((v < half) & (u > 0.88) & (u < 0.93), _GLASS)


def paint_helicopter(sprite: Sprite, generator: np.random.Generator) -> None:
    """Paint a helicopter: cabin, tail boom, tail rotor and four blades."""
    u, v = sprite.patch.along, sprite.patch.across
    skin = _LIVERIES[generator.integers(len(_LIVERIES))] if generator.random() < 0.6 else (0.85, 0.86, 0.86)
    sprite.fill((np.abs(v) < 0.08) & (u < 0.2), toned(skin, 0.85))
    sprite.fill((np.abs(v) < 0.25) & (np.abs(u + 0.92) < 0.05), (0.3, 0.3, 0.32))
    cabin = ((u - np.float32(0.35)) / np.float32(0.5)) ** 2 + (v / np.float32(0.32)) ** 2
    sprite.fill(cabin < 1, skin)
    sprite.draw((cabin < 0.8) & (u > 0.55), _GLASS)
    du, dv = sprite.u - np.float32(0.3 * sprite.length), sprite.v
    reach = du * du + dv * dv < np.float32(0.7 * sprite.length) ** 2
    width = sprite.line(0.25) / 2
    slope = np.float32(generator.uniform(0.2, 0.9))
    for blade in (du - slope * dv, dv + slope * du):
        sprite.fill(reach & (blade * blade < np.float32(width * width) * (1 + slope * slope)), (0.22, 0.22, 0.24))


def paint_ship(sprite: Sprite, generator: np.random.Generator) -> None:
    """Paint a ship: a yacht if it is short, otherwise a tanker or a container ship."""
    u, v = sprite.patch.along, np.abs(sprite.patch.across)
    bow = np.clip((u - np.float32(0.4)) / np.float32(0.6), 0, 1)
    half = (1 - bow * bow) * np.where(u < -0.9, np.float32(0.85), np.float32(1))
    hull = _PAINTS[generator.integers(len(_PAINTS))]
    if sprite.length < 12:
        sprite.fill(v <= half, (0.93, 0.93, 0.91))
        sprite.draw((v < half - 0.22) & (u > -0.85) & (u < 0.75), (0.72, 0.56, 0.38))
        sprite.draw((v < 0.55) & (u > -0.5) & (u < 0.2), (0.95, 0.95, 0.95))
        sprite.draw((v < 0.5) & (u > 0.08) & (u < 0.2), _GLASS)
        return
    sprite.fill(v <= half, hull)
    deck: Colour = ((0.42, 0.22, 0.18), (0.32, 0.40, 0.36), (0.48, 0.48, 0.46))[generator.integers(3)]
    sprite.draw(v < half - 0.14, deck)
    if generator.random() < 0.6:
        row = np.floor((u + 1) * np.float32(sprite.length / 6.5)).astype(np.int32)
        lane = np.floor((sprite.patch.across + 1) * np.float32(sprite.width / 2.6)).astype(np.int32)
        hue = (row * 7 + lane * 13 + row * lane * 5 + int(generator.integers(64))) % 9
        hold = (v < half - 0.2) & (u > -0.5) & (u < 0.72)
        stacks: tuple[Colour, ...] = ((0.62, 0.20, 0.16), (0.20, 0.34, 0.58), (0.75, 0.75, 0.72), (0.28, 0.46, 0.34),
                                      (0.78, 0.52, 0.18), (0.45, 0.28, 0.22))  # fmt: skip
        for number, colour in enumerate(stacks):
            sprite.draw(hold & (hue == number), colour)
        gap = (u + 1) * np.float32(sprite.length / 6.5) - row < 0.12
        sprite.draw(hold & gap, toned(deck, 0.6))
    else:
        sprite.draw((v < 0.08) & (u > -0.5) & (u < 0.75), (0.62, 0.60, 0.55))
        sprite.draw((np.abs(u - 0.1) < 0.03) & (v < 0.6), (0.62, 0.60, 0.55))
    sprite.draw((v < 0.72) & (u > -0.82) & (u < -0.58), (0.94, 0.94, 0.92))
    sprite.draw((v < 0.2) & (u > -0.78) & (u < -0.68), (0.80, 0.35, 0.12))


def paint_small_vehicle(sprite: Sprite, generator: np.random.Generator) -> None:
    """Paint a car: body, windows, roof."""
    u, v = sprite.patch.along, np.abs(sprite.patch.across)
    colour = _PAINTS[generator.integers(len(_PAINTS))]
    sprite.fill((v < 0.95) & (v + np.abs(u) < 1.75), colour)
    sprite.draw((v < 0.8) & (u > 0.1) & (u < 0.42), _GLASS)
    sprite.draw((v < 0.75) & (u > -0.8) & (u < -0.55), _GLASS)
    sprite.draw((v > 0.72) & (v < 0.86) & (np.abs(u + 0.1) < 0.45), _GLASS)


def paint_large_vehicle(sprite: Sprite, generator: np.random.Generator) -> None:
    """Paint a truck with its trailer, or a bus."""
    u, v = sprite.patch.along, np.abs(sprite.patch.across)
    colour = _PAINTS[generator.integers(len(_PAINTS))]
    if generator.random() < 0.35:
        sprite.fill(v < 0.95, colour)
        sprite.draw((u > 0.88) & (v < 0.85), _GLASS)
        for vent in (-0.5, 0.1, 0.5):
            sprite.draw((np.abs(u - np.float32(vent)) < 0.08) & (v < 0.4), (0.75, 0.76, 0.78))
        return
    sprite.fill((v < 0.4) & (np.abs(u - 0.66) < 0.1), (0.15, 0.15, 0.16))
    sprite.fill((v < 0.9) & (u > 0.7), colour)
    sprite.draw((v < 0.8) & (u > 0.88), _GLASS)
    load: Colour = (0.86, 0.86, 0.84) if generator.random() < 0.6 else _PAINTS[generator.integers(len(_PAINTS))]
    sprite.fill((v < 1.0) & (u < 0.6), load)
    sprite.draw((v < 0.06) & (u < 0.6), toned(load, 0.8))
