"""Paints courts and pitches seen from above."""

import numpy as np

from demo.painting.canvas import Colour
from demo.satellite.sprite import Sprite, toned

_WHITE: Colour = (0.92, 0.92, 0.90)
_TURF: Colour = (0.27, 0.45, 0.19)
_CLAY: Colour = (0.66, 0.42, 0.27)
_TRACK: Colour = (0.62, 0.27, 0.20)


def paint_tennis_court(sprite: Sprite, generator: np.random.Generator) -> None:
    """Paint a tennis court, 23.77 m by 10.97 m in its run-off."""
    pairs: tuple[tuple[Colour, Colour], ...] = (
        ((0.20, 0.40, 0.30), (0.18, 0.32, 0.52)),
        ((0.24, 0.44, 0.32), (0.62, 0.36, 0.26)),
        ((0.62, 0.36, 0.26), (0.60, 0.34, 0.24)),
    )
    outer, inner = pairs[generator.integers(len(pairs))]
    line = sprite.line(0.12)
    sprite.fill(sprite.patch.inside, outer)
    sprite.draw(sprite.box(0, 0, 11.9, 5.5), inner)
    lines = sprite.outline(0, 0, 11.9, 5.5, line) | sprite.outline(0, 0, 11.9, 4.1, line)
    lines |= sprite.outline(0, 0, 6.4, 4.1, line) | sprite.box(0, 0, 6.4, line / 2)
    sprite.draw(lines, _WHITE)
    sprite.draw(sprite.box(0, 0, line / 2, 6.0), (0.15, 0.16, 0.16))


def paint_basketball_court(sprite: Sprite, generator: np.random.Generator) -> None:
    """Paint a basketball court, 28 m by 15 m in its margin."""
    colours: tuple[tuple[Colour, Colour], ...] = (
        ((0.34, 0.36, 0.38), (0.42, 0.44, 0.46)),
        ((0.22, 0.42, 0.34), (0.64, 0.30, 0.24)),
        ((0.20, 0.34, 0.56), (0.74, 0.54, 0.32)),
    )
    outer, inner = colours[generator.integers(len(colours))]
    line = sprite.line(0.12)
    sprite.fill(sprite.patch.inside, outer)
    sprite.draw(sprite.box(0, 0, 14, 7.5), inner)
    lines = sprite.outline(0, 0, 14, 7.5, line) | sprite.box(0, 0, line / 2, 7.5)
    lines |= sprite.disc(0, 0, 1.8 + line) & ~sprite.disc(0, 0, 1.8)
    for end in (-1, 1):
        sprite.draw(sprite.box(end * 11.1, 0, 2.9, 2.45), outer)
        half = sprite.u * end < 14
        lines |= sprite.outline(end * 11.1, 0, 2.9, 2.45, line)
        lines |= half & sprite.disc(end * 12.4, 0, 6.75 + line) & ~sprite.disc(end * 12.4, 0, 6.75)
    sprite.draw(lines & sprite.box(0, 0, 14, 7.5), _WHITE)


def paint_soccer_field(sprite: Sprite, generator: np.random.Generator) -> None:
    """Paint a soccer pitch with mown stripes; its markings scale with its size."""
    scale = sprite.length / 52.5
    line = sprite.line(0.15)
    sprite.fill(sprite.patch.inside, _TURF)
    stripe = np.floor((sprite.patch.along + 1) * np.float32(8)).astype(np.int32) % 2 == 1
    sprite.draw(stripe, toned(_TURF, 1.13))
    long, wide = sprite.length - 1.5 * scale, sprite.width - 1.5 * scale
    lines = sprite.outline(0, 0, long, wide, line) | sprite.box(0, 0, line / 2, wide)
    lines |= sprite.disc(0, 0, 9.15 * scale + line / 2) & ~sprite.disc(0, 0, 9.15 * scale - line / 2)
    for end in (-1, 1):
        lines |= sprite.outline(end * (long - 8.25 * scale), 0, 8.25 * scale, 20 * scale, line)
        lines |= sprite.outline(end * (long - 2.75 * scale), 0, 2.75 * scale, 9 * scale, line)
    sprite.draw(lines, _WHITE)


def paint_track_field(sprite: Sprite, generator: np.random.Generator) -> None:
    """Paint a running track: two straights, two half circles, six lanes around grass."""
    straight = sprite.length - sprite.width
    du = np.maximum(np.abs(sprite.u) - np.float32(straight), 0)
    outward = np.sqrt(du * du + sprite.v * sprite.v)
    lane = np.float32(1.5)
    sprite.fill(outward <= np.float32(sprite.width), _TRACK)
    inner = np.float32(sprite.width) - 6 * lane
    within = (outward - inner) / lane
    lines = (within > 0) & (within - np.floor(within) < np.float32(sprite.line(0.2)) / lane)
    sprite.draw(lines, (0.80, 0.62, 0.56))
    sprite.draw(outward < inner, (0.30, 0.46, 0.22))


def paint_baseball_diamond(sprite: Sprite, generator: np.random.Generator) -> None:
    """Paint a baseball field: a quarter of a disc of grass, its clay infield, the bases and the foul lines."""
    u, v = sprite.patch.along + 1, sprite.patch.across + 1
    far = u * u + v * v
    sprite.fill(far <= 4, (0.33, 0.49, 0.22))
    sprite.draw((far > 3.6) & (far <= 4), _CLAY)
    du, dv = u - np.float32(0.5), v - np.float32(0.5)
    sprite.draw((du * du + dv * dv < 0.36) | (u * u + v * v < 0.05), _CLAY)
    sprite.draw((u > 0.12) & (v > 0.12) & (u < 0.80) & (v < 0.80), (0.30, 0.50, 0.22))
    sprite.draw((u < 0.12) & (v < 0.9) | ((v < 0.12) & (u < 0.9)), _CLAY)
    sprite.draw(du * du + dv * dv < 0.012, _CLAY)
    edge = np.float32(sprite.line(0.3) / sprite.length)
    sprite.draw((u < edge) | (v < edge), _WHITE)
    for base in ((0.86, 0.06), (0.06, 0.86), (0.86, 0.86)):
        sprite.draw((np.abs(u - np.float32(base[0])) < 0.03) & (np.abs(v - np.float32(base[1])) < 0.03), _WHITE)
