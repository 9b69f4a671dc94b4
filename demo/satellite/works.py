"""Paints tanks, pools, harbours, bridges, roundabouts, houses and trees seen from above."""

import numpy as np

from demo.painting.canvas import Colour
from demo.painting.noise import bumps, window
from demo.satellite.sprite import Sprite, toned

ASPHALT: Colour = (0.33, 0.33, 0.34)
_ROOFS: tuple[Colour, ...] = (
    (0.58, 0.31, 0.23),
    (0.46, 0.26, 0.20),
    (0.36, 0.36, 0.38),
    (0.66, 0.64, 0.60),
    (0.50, 0.42, 0.34),
    (0.72, 0.72, 0.74),
)


def paint_storage_tank(sprite: Sprite, generator: np.random.Generator) -> None:
    """Paint a round tank with a rim and a stair."""
    u, v = sprite.patch.along, sprite.patch.across
    out = u * u + v * v
    skin: Colour = ((0.90, 0.90, 0.88), (0.74, 0.75, 0.74), (0.62, 0.54, 0.46))[generator.integers(3)]
    sprite.fill(out <= 1, toned(skin, 0.8))
    sprite.draw(out < 0.82, skin)
    sprite.draw((out < 0.82) & (out > 0.66) & (u > 0), toned(skin, 0.92))
    sprite.draw((np.abs(v) < 0.06) & (u > 0), (0.5, 0.5, 0.5))


def paint_pool(sprite: Sprite, generator: np.random.Generator) -> None:
    """Paint a swimming pool: a rectangle with a pale rim, or an oval."""
    u, v = sprite.patch.along, sprite.patch.across
    rim = np.float32(max(0.6, sprite.pixel) / sprite.width)
    if generator.random() < 0.6:
        sprite.fill(sprite.patch.inside, (0.82, 0.79, 0.73))
        water = (np.abs(v) < 1 - rim) & (np.abs(u) < 1 - rim * np.float32(sprite.width / sprite.length))
    else:
        out = u * u + v * v
        sprite.fill(out <= 1, (0.82, 0.79, 0.73))
        water = out < (1 - rim) ** 2
    sprite.draw(water, (0.22, 0.66, 0.76))
    sprite.draw(water & (u > 0.2), (0.18, 0.58, 0.72))


def paint_harbor(sprite: Sprite, generator: np.random.Generator) -> None:
    """Paint a pier: planks or concrete with bollards along both edges."""
    wood = generator.random() < 0.4
    tone: Colour = (0.52, 0.42, 0.32) if wood else (0.63, 0.62, 0.60)
    sprite.fill(sprite.patch.inside, tone)
    plank = (sprite.u + np.float32(200)) % np.float32(1.6 if wood else 9.0) < np.float32(0.5)
    sprite.draw(plank, toned(tone, 0.86))
    edge = np.abs(sprite.patch.across) > 1 - np.float32(sprite.line(0.7) / sprite.width)
    sprite.draw(edge, toned(tone, 1.18))
    sprite.draw(edge & ((sprite.u + np.float32(200)) % np.float32(7) < np.float32(sprite.line(0.6))), (0.2, 0.2, 0.2))


def paint_bridge(sprite: Sprite, generator: np.random.Generator) -> None:
    """Paint a bridge: railings, pavements and a carriageway."""
    across = np.abs(sprite.v)
    sprite.fill(sprite.patch.inside, (0.70, 0.69, 0.66))
    sprite.draw(across < np.float32(sprite.width - 1.6), ASPHALT)
    sprite.draw(across > np.float32(sprite.width - sprite.line(0.5)), (0.86, 0.85, 0.82))
    line = np.float32(sprite.line(0.2) / 2)
    sprite.draw((across < line) & ((sprite.u + np.float32(300)) % 9 < 4.5), (0.88, 0.88, 0.85))


def paint_roundabout(sprite: Sprite, generator: np.random.Generator) -> None:
    """Paint a roundabout: a ring of asphalt around a green island."""
    out = np.sqrt(sprite.u * sprite.u + sprite.v * sprite.v)
    edge = np.float32(sprite.length)
    sprite.fill(out <= edge, (0.66, 0.65, 0.62))
    sprite.draw(out < edge - np.float32(sprite.line(0.8)), ASPHALT)
    sprite.draw(np.abs(out - np.float32(0.72) * edge) < np.float32(sprite.line(0.2) / 2), (0.85, 0.85, 0.82))
    sprite.draw(out < np.float32(0.47) * edge, (0.70, 0.69, 0.66))
    sprite.draw(out < np.float32(0.43) * edge, (0.32, 0.48, 0.22))
    sprite.draw(out < np.float32(0.16) * edge, (0.58, 0.55, 0.42) if generator.random() < 0.5 else (0.18, 0.32, 0.14))


def paint_house(sprite: Sprite, generator: np.random.Generator) -> None:
    """Paint a roof: a gable lit from one side, or a flat roof with vents."""
    colour = _ROOFS[generator.integers(len(_ROOFS))]
    sprite.fill(sprite.patch.inside, colour)
    if generator.random() < 0.65 and sprite.width < 9:
        sprite.draw(sprite.v > 0, toned(colour, 0.78))
        sprite.draw(np.abs(sprite.v) < np.float32(sprite.line(0.3) / 2), toned(colour, 1.2))
        sprite.draw(sprite.box(0.4 * sprite.length, 0.4 * sprite.width, 0.6, 0.6), (0.30, 0.24, 0.22))
        return
    rim = sprite.line(0.6)
    inner = sprite.box(0, 0, sprite.length - rim, sprite.width - rim)
    sprite.draw(inner, toned(colour, 0.86))
    for _ in range(4):
        u, v = generator.uniform(-0.7, 0.7) * sprite.length, generator.uniform(-0.7, 0.7) * sprite.width
        sprite.draw(sprite.box(u + 0.8, v + 0.8, 1.4, 1.1) & inner, toned(colour, 0.6))
        sprite.draw(sprite.box(u, v, 1.4, 1.1) & inner, (0.80, 0.80, 0.80))


def paint_tree(sprite: Sprite, generator: np.random.Generator) -> None:
    """Paint a tree crown with a ragged edge, lit by the sun."""
    u, v = sprite.patch.along, sprite.patch.across
    row, column = (int(place) for place in generator.integers(1024, size=2))
    ragged = window(bumps(), row, column, *u.shape)
    out = u * u + v * v
    tone = generator.uniform(0.8, 1.2)
    leaves: Colour = (0.20 * tone, 0.34 * tone, 0.14 * tone)
    sprite.fill(out < np.float32(0.82) + np.float32(0.14) * ragged, leaves)
    sprite.shade(np.float32(1.0) + np.float32(0.28) * (u + v) * np.float32(0.7) + np.float32(0.3) * ragged)
