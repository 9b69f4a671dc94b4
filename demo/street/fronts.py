"""Paints the lots along both sides of a street: houses, garden walls and parks."""

import math
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float32

from demo.painting.canvas import Colour, Number
from demo.painting.noise import bumps, looked_up
from demo.street.canvas import Camera, Canvas
from demo.street.scenery import FAR, Side
from demo.street.style import Style
from pipeline.datasets.cityscapes import LABEL_IDS

STOREY = 3.1  # metres
_NEAREST = 0.6  # metres ahead of the camera from which on a front is painted


@dataclass(frozen=True)
class Lot:
    """A piece of one row, from ``start`` to ``end`` metres along the street."""

    side: Side
    kind: str
    """house, wall or park."""
    start: Number
    end: Number
    seed: int


@dataclass(frozen=True)
class _Plane:
    """The pixels of an upright plane along the street, and the metres that each of them shows."""

    rows: slice
    columns: slice
    mask: Bool[np.ndarray, "row column"]
    along: Float32[np.ndarray, " pixel"]
    """From the start of the lot."""
    up: Float32[np.ndarray, " pixel"]
    distance: Number
    """From the camera to the nearer end."""
    clear: Float32[np.ndarray, " pixel"]
    """Share of fine texture that the distance leaves, 0..1."""
    depth: Float32[np.ndarray, " pixel"]
    """Metres ahead of the camera."""

    def part(self, keep: Bool[np.ndarray, " pixel"]) -> "_Plane":
        """Return the plane with fewer pixels."""
        mask = self.mask.copy()
        mask[self.mask] = keep
        along, up, clear, depth = (part[keep] for part in (self.along, self.up, self.clear, self.depth))
        return replace(self, mask=mask, along=along, up=up, clear=clear, depth=depth)


def draw_lots(style: Style, sides: tuple[Side, Side], length: Number, generator: np.random.Generator) -> list[Lot]:
    """Choose the lots on both sides of a street at random.

    Args:
        style: Style of the city.
        sides: The two sides of the street.
        length: Length of the street in metres.
        generator: Source of random numbers.
    """
    lots = []
    for side in sides:
        start = generator.uniform(-4, 2)
        while start < length:
            end = start + generator.uniform(9, 22)
            kind = generator.random()
            name = "park" if kind < style.green else "wall" if kind < style.green + 0.12 else "house"
            lots.append(Lot(side, name, start, end, int(generator.integers(2**63))))
            start = end
    return lots


def paint_fronts(canvas: Canvas, camera: Camera, style: Style, lots: list[Lot]) -> None:
    """Paint the visible lots, the far ones first.

    Args:
        canvas: Canvas to paint on.
        camera: Camera to paint for.
        style: Style of the city.
        lots: Lots of the street.
    """
    painters = {"house": _house, "wall": _garden_wall, "park": _park}
    for lot in sorted(lots, key=lambda lot: -lot.start):
        if lot.end - camera.z > _NEAREST and lot.start - camera.z < FAR:
            painters[lot.kind](canvas, camera, style, lot, np.random.Generator(np.random.PCG64(lot.seed)))


def _house(canvas: Canvas, camera: Camera, style: Style, lot: Lot, generator: np.random.Generator) -> None:
    """Paint the wall that faces the camera, then the front with its storeys of windows."""
    side = lot.side
    storeys = max(2, style.storeys + int(generator.integers(-1, 2)))
    tall = storeys * STOREY + 0.8
    distance = side.front + (0.0, 0.0, 0.5, 1.2)[generator.integers(4)]
    tint = generator.uniform(0.9, 1.08)
    base = np.array(style.facades[generator.integers(len(style.facades))], np.float32) * np.float32(tint * side.light)
    bays, wide = generator.uniform(2.0, 3.0), generator.uniform(0.18, 0.3)
    lit = generator.random((storeys + 2, 64)).astype(np.float32)
    start = lot.start - camera.z
    flank: Colour = tuple((base * np.float32(0.78)).tolist())
    corners = [(distance, 0.0), (distance + 16, 0.0), (distance + 16, tall), (distance, tall)]
    if start > 1.5:
        canvas.polygon(
            [camera.project(side.sign * x, y, start) for x, y in corners], flank, LABEL_IDS["building"], start
        )

    plane = _plane(canvas, camera, lot, distance, tall)
    if plane is None:
        return
    bay, storey = plane.along * np.float32(1 / bays), plane.up * np.float32(1 / STOREY)
    number, floor = bay.astype(np.int32), storey.astype(np.int32)
    aside, above = np.abs(bay - number - np.float32(0.5)), storey - floor
    shop, upper = floor == 0, (floor > 0) & (floor < storeys)
    panes = (shop & (aside < 0.4) & (above > 0.08) & (above < 0.75)) | (
        upper & (aside < wide) & (above > 0.28) & (above < 0.8)
    )
    frames = upper & (aside < wide + 0.06) & (above > 0.22) & (above < 0.86)
    ledges = (plane.up > tall - 0.5) | (np.abs(plane.up - np.float32(STOREY)) < 0.15)
    tone = np.where(frames, np.float32(1.3), np.where(ledges, np.float32(0.7), np.float32(1)))
    stains = looked_up(bumps(), plane.up * np.float32(12) + lot.seed % 1000, plane.along * np.float32(20))
    tone *= 1 + np.float32(0.10) * stains * plane.clear
    colour = np.minimum(base * tone[:, None], 1)
    glow = lit[np.minimum(floor[panes], storeys + 1), np.minimum(number[panes], 63)]
    glass = (np.float32(0.14) + np.float32(0.3) * glow**3)[:, None] * np.array((1.0, 1.0, 1.05), np.float32)
    glass += np.float32(0.10) * (1 - above[panes])[:, None] * np.array((0.7, 0.85, 1.0), np.float32)
    if style.light.lamps:
        warm = np.array((1.25, 0.92, 0.50), np.float32) * np.float32(style.light.lamps)
        glass = np.where((glow > 0.62)[:, None], warm * (np.float32(0.5) + glow[:, None] / 2), glass)
    colour[panes] = glass
    _paint(canvas, plane, colour, "building", 0.05)


def _garden_wall(canvas: Canvas, camera: Camera, style: Style, lot: Lot, generator: np.random.Generator) -> None:
    """Paint bushes, and a brick wall in front of them."""
    bushes, tall, tone = generator.uniform(3.0, 5.0), generator.uniform(1.8, 2.6), generator.uniform(0.9, 1.2)
    _bushes(canvas, camera, style, lot, bushes)
    plane = _plane(canvas, camera, lot, lot.side.front, tall)
    if plane is None:
        return
    course = np.floor(plane.up * np.float32(4))
    mortar = (plane.up % 0.25 < 0.04) | ((plane.along + np.float32(0.3) * (course % 2)) % 0.6 < 0.05)
    shade = 1 + np.float32(0.3) * mortar * plane.clear
    shade += np.float32(0.15) * looked_up(bumps(), plane.up * np.float32(30), plane.along * np.float32(30))
    brick = np.array((0.52, 0.40, 0.36), np.float32) * np.float32(lot.side.light * tone)
    _paint(canvas, plane, brick * shade[:, None], "wall", 0.10)


def _park(canvas: Canvas, camera: Camera, style: Style, lot: Lot, generator: np.random.Generator) -> None:
    """Paint trees, and a fence in front of them."""
    tall = generator.uniform(4.5, 8.5)
    paint = np.array(((0.62, 0.58, 0.50), (0.25, 0.30, 0.28))[generator.integers(2)], np.float32)
    _bushes(canvas, camera, style, lot, tall)
    plane = _plane(canvas, camera, lot, lot.side.front, 1.3)
    if plane is None:
        return
    pickets = (plane.along % 0.5 < 0.24) | (np.abs(plane.up - 1.15) < 0.1) | (np.abs(plane.up - 0.3) < 0.08)
    behind = np.array(style.leaves, np.float32) * np.float32(0.55)
    colour = np.where(pickets[:, None], paint * np.float32(lot.side.light), behind).astype(np.float32)
    _paint(canvas, plane, colour, "fence", 0.06)


def _bushes(canvas: Canvas, camera: Camera, style: Style, lot: Lot, tall: Number) -> None:
    """Paint a ragged mass of leaves."""
    side = lot.side
    plane = _plane(canvas, camera, lot, side.front + 1.0, tall * 1.3)
    if plane is None:
        return
    offset = lot.seed % 1000
    clumps = looked_up(bumps(), plane.up * np.float32(24) + offset, plane.along * np.float32(24))
    plane = plane.part(plane.up < np.float32(tall) * (1 + np.float32(0.2) * clumps))
    leaves = looked_up(bumps(), plane.up * np.float32(96), plane.along * np.float32(96) + offset)
    leaves *= np.float32(0.3) + np.float32(0.7) * plane.clear
    tone = np.float32(side.light) * (0.70 + 0.35 * plane.up / np.float32(tall) + np.float32(0.36) * leaves)
    colour = np.array(style.leaves, np.float32) * tone[:, None].astype(np.float32)
    _paint(canvas, plane, colour, "vegetation", 0.2)


def _paint(canvas: Canvas, plane: _Plane, colour: Float32[np.ndarray, "pixel 3"], name: str, texture: Number) -> None:
    label = LABEL_IDS[name]
    canvas.paint_far(plane.rows, plane.columns, plane.mask, colour, label, texture, plane.distance, depth=plane.depth)


def _plane(canvas: Canvas, camera: Camera, lot: Lot, distance: Number, tall: Number) -> _Plane | None:
    """Return the front of a lot ``distance`` metres to the side, if it is in sight."""
    sign, begin = lot.side.sign, lot.start - camera.z
    start, end = max(begin, _NEAREST), min(lot.end - camera.z, FAR)
    if start >= end:
        return None
    near, top_of_near = camera.project(sign * distance, tall, start)
    far, top_of_far = camera.project(sign * distance, tall, end)
    left, right = sorted((near, far))
    first, last = max(0, math.ceil(left - 0.5)), min(canvas.width, math.ceil(right - 0.5))
    if first >= last:
        return None
    x = np.arange(first, last, dtype=np.float32) + np.float32(0.5)
    ahead = np.float32(camera.focal * (sign * distance - camera.x)) / (x - np.float32(camera.vanishing_x))
    _, foot = camera.project(0, 0, float(ahead.min()))
    top = max(0, math.floor(min(top_of_far, top_of_near)))
    bottom = min(canvas.height, math.ceil(foot) + 1)
    if top >= bottom:
        return None
    y = np.arange(top, bottom, dtype=np.float32)[:, None] + np.float32(0.5)
    up = np.float32(camera.height) - (y - np.float32(camera.horizon)) * (ahead / np.float32(camera.focal))
    mask = (up >= 0) & (up < tall)
    ahead = np.broadcast_to(ahead, up.shape)[mask]
    along = np.maximum(ahead - np.float32(begin), 0)
    clear = np.float32(20) / (np.float32(20) + ahead)
    return _Plane(slice(top, bottom), slice(first, last), mask, along, up[mask], start, clear, ahead)
