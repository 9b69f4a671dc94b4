"""The two rows of lots along the street: houses with windows, garden walls, parks behind fences."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32

from pipeline.datasets.cityscapes import LABEL_IDS
from pipeline.street_world.canvas import Camera, Canvas, Colour, Number, smooth_noise
from pipeline.street_world.scenery import FAR, Side, Style

STOREY = 3.1  # metres


@dataclass(frozen=True)
class _Plane:
    """The pixels of an upright plane along the street, and the metre that each of them shows."""

    rows: slice
    columns: slice
    mask: Bool[np.ndarray, "row column"]
    ahead: Float32[np.ndarray, "row column"]
    up: Float32[np.ndarray, "row column"]


def paint_fronts(
    canvas: Canvas, camera: Camera, style: Style, sides: tuple[Side, Side], generator: np.random.Generator
) -> None:
    """Paint both rows of lots, the far ones first."""
    for side in sides:
        lots = []
        start = generator.uniform(-4, 2)
        while start < FAR:
            length = generator.uniform(9, 22)
            lots.append((max(start, 0.6), start + length))
            start += length
        for start, end in reversed(lots):
            kind = generator.random()
            if kind < style.green:
                _park(canvas, camera, style, side, start, end, generator)
            elif kind < style.green + 0.12:
                _garden_wall(canvas, camera, style, side, start, end, generator)
            else:
                _house(canvas, camera, style, side, start, end, generator)


def _house(
    canvas: Canvas, camera: Camera, style: Style, side: Side, start: Number, end: Number, generator: np.random.Generator
) -> None:
    """Paint the wall that faces the camera, then the front with its storeys of windows."""
    storeys = max(2, style.storeys + int(generator.integers(-1, 2)))
    tall = storeys * STOREY + 0.8
    distance = side.front + generator.choice((0.0, 0.0, 0.5, 1.2))
    tint = generator.uniform(0.9, 1.08)
    red, green, blue = style.facades[generator.integers(len(style.facades))]
    base = np.array((red, green, blue), np.float32) * np.float32(tint * side.light)
    flank: Colour = tuple((base * np.float32(0.78)).tolist())
    corners = [(distance, 0.0), (distance + 16, 0.0), (distance + 16, tall), (distance, tall)]
    points = [camera.project(side.sign * x, y, max(start, 1.5)) for x, y in corners]
    canvas.polygon(points, flank, LABEL_IDS["building"], start)

    plane = _plane(canvas, camera, side, distance, start, end, tall)
    if plane is None:
        return
    bay, storey = (plane.ahead - start) / np.float32(generator.uniform(2.0, 3.0)), plane.up / np.float32(STOREY)
    within, above = bay % 1, storey % 1
    wide = generator.uniform(0.18, 0.3)
    panes = (np.abs(within - 0.5) < wide) & (above > 0.28) & (above < 0.8) & (storey < storeys)
    frames = (np.abs(within - 0.5) < wide + 0.06) & (above > 0.22) & (above < 0.86) & (storey < storeys)
    shop = storey < 1
    panes = np.where(shop, (np.abs(within - 0.5) < 0.4) & (above > 0.08) & (above < 0.75), panes)
    lit = generator.random((storeys + 2, 64)) ** 3
    glow = lit[np.clip(storey, 0, storeys + 1).astype(np.intp), np.clip(bay, 0, 63).astype(np.intp)]
    glass = np.float32(0.14) + np.float32(0.3) * glow[..., None] * np.array((1.0, 1.0, 1.05))
    colour = np.broadcast_to(base, (*plane.up.shape, 3)).astype(np.float32)
    colour = np.where((frames & ~shop)[..., None], np.minimum(base * np.float32(1.3), 1), colour)
    colour = np.where(
        (plane.up > tall - 0.5)[..., None] | (np.abs(plane.up - STOREY) < 0.15)[..., None], base * 0.7, colour
    )
    colour = np.where(panes[..., None], glass, colour).astype(np.float32)
    _paint(canvas, plane, colour, "building", start, grain=0.07)


def _garden_wall(
    canvas: Canvas, camera: Camera, style: Style, side: Side, start: Number, end: Number, generator: np.random.Generator
) -> None:
    """Paint bushes, and a brick wall in front of them."""
    _bushes(canvas, camera, style, side, start, end, generator.uniform(3.0, 5.0), generator)
    plane = _plane(canvas, camera, side, side.front, start, end, generator.uniform(1.8, 2.6))
    if plane is None:
        return
    course = np.floor(plane.up / 0.25)
    mortar = (plane.up % 0.25 < 0.04) | ((plane.ahead + 0.3 * (course % 2)) % 0.6 < 0.05)
    brick = np.array((0.52, 0.40, 0.36), np.float32) * np.float32(side.light * generator.uniform(0.9, 1.2))
    colour = np.where((mortar & (plane.ahead < 25))[..., None], brick * np.float32(1.3), brick).astype(np.float32)
    _paint(canvas, plane, colour, "wall", start, grain=0.15)


def _park(
    canvas: Canvas, camera: Camera, style: Style, side: Side, start: Number, end: Number, generator: np.random.Generator
) -> None:
    """Paint trees, and a fence in front of them."""
    _bushes(canvas, camera, style, side, start, end, generator.uniform(4.5, 8.5), generator)
    plane = _plane(canvas, camera, side, side.front, start, end, 1.3)
    if plane is None:
        return
    pickets = (plane.ahead % 0.5 < 0.24) | (np.abs(plane.up - 1.15) < 0.1) | (np.abs(plane.up - 0.3) < 0.08)
    paint = np.array(((0.62, 0.58, 0.50), (0.25, 0.30, 0.28))[generator.integers(2)], np.float32)
    behind = np.array(style.leaves, np.float32) * np.float32(0.55)
    colour = np.where(pickets[..., None], paint * np.float32(side.light), behind).astype(np.float32)
    _paint(canvas, plane, colour, "fence", start, grain=0.06)


def _bushes(
    canvas: Canvas,
    camera: Camera,
    style: Style,
    side: Side,
    start: Number,
    end: Number,
    tall: Number,
    generator: np.random.Generator,
) -> None:
    """Paint a ragged mass of leaves."""
    plane = _plane(canvas, camera, side, side.front + 1.0, start, end, tall * 1.3)
    if plane is None:
        return
    shape = plane.up.shape
    clumps = smooth_noise(generator, shape, cell=max(8.0, shape[1] / 5), octaves=3)
    mask = plane.mask & (plane.up < tall * (1 + 0.22 * clumps))
    leaves = smooth_noise(generator, shape, cell=canvas.width / 45, octaves=3)
    tone = side.light * (0.75 + 0.35 * plane.up / tall + 0.28 * leaves)
    colour = (np.array(style.leaves, np.float32) * tone[..., None]).astype(np.float32)
    ragged = _Plane(plane.rows, plane.columns, mask, plane.ahead, plane.up)
    _paint(canvas, ragged, colour, "vegetation", start, grain=0.2)


def _paint(
    canvas: Canvas, plane: _Plane, colour: Float32[np.ndarray, "row column 3"], name: str, start: Number, grain: Number
) -> None:
    canvas.paint(plane.rows, plane.columns, plane.mask, colour, LABEL_IDS[name], grain, distance=start)


def _plane(
    canvas: Canvas, camera: Camera, side: Side, distance: Number, start: Number, end: Number, tall: Number
) -> _Plane | None:
    """Return the plane ``distance`` metres to the side, from ``start`` to ``end`` metres ahead, if it is in sight."""
    near, _ = camera.project(side.sign * distance, 0, start)
    far, top_of_far = camera.project(side.sign * distance, tall, end)
    left, right = sorted((near, far))
    first, last = max(0, math.ceil(left - 0.5)), min(canvas.width, math.ceil(right - 0.5))
    _, top_of_near = camera.project(side.sign * distance, tall, start)
    top = max(0, math.floor(min(top_of_far, top_of_near)))
    if first >= last:
        return None
    x = np.arange(first, last, dtype=np.float32)[None, :] + np.float32(0.5)
    y = np.arange(top, canvas.height, dtype=np.float32)[:, None] + np.float32(0.5)
    ahead = np.float32(camera.focal * side.sign * distance) / (x - np.float32(camera.vanishing_x))
    up = np.float32(camera.height) - (y - np.float32(camera.horizon)) * ahead / np.float32(camera.focal)
    ahead = np.broadcast_to(ahead, up.shape)
    return _Plane(slice(top, canvas.height), slice(first, last), (up >= 0) & (up < tall), ahead, up)
