"""What stands still and fills most of the picture: sky, ground, house fronts, and the far end of the street."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from pipeline.datasets.cityscapes import LABEL_IDS
from pipeline.street_world.canvas import Camera, Canvas, Colour, Number, smooth_noise

FAR = 130.0  # metres to the end of the street


@dataclass(frozen=True)
class Side:
    """The cross-section of one side of the street, in metres from the camera's own line."""

    sign: int
    """-1 left, 1 right."""
    kerb: Number
    """Where the road ends and the pavement begins."""
    front: Number
    """Where the pavement ends and the house fronts stand."""
    verge: Number
    """Width of the strip of grass in front of the houses; 0 for none."""
    light: Number
    """Brightness of the house fronts: the sun shines on one side."""


@dataclass(frozen=True)
class Style:
    """What the pictures of one city share."""

    sky: Colour
    horizon: Colour
    clouds: Number
    """Cover, -1 (none) .. 1 (overcast)."""
    asphalt: Number
    paving: Colour
    facades: tuple[Colour, ...]
    leaves: Colour
    storeys: int
    green: Number
    """Share of lots that are parks instead of houses, 0..1."""


def paint_sky(canvas: Canvas, camera: Camera, style: Style, generator: np.random.Generator) -> None:
    """Fill the whole canvas with sky: a gradient towards the horizon, and clouds that flatten out there."""
    height, width = canvas.height, canvas.width
    depth = np.clip(np.arange(height, dtype=np.float32) / np.float32(camera.horizon), 0, 1)[:, None, None]
    gradient = np.array(style.sky, np.float32) * (1 - depth) + np.array(style.horizon, np.float32) * depth
    bumps = smooth_noise(generator, (height, width), cell=width / 5, octaves=5)
    cover = np.clip((bumps + style.clouds) * 1.6, 0, 1)[..., None] * (1 - 0.5 * depth)
    white = np.float32(0.97) - np.float32(0.12) * smooth_noise(generator, (height, width), width / 8, 3)[..., None] ** 2
    colour = (gradient * (1 - cover) + white * cover).astype(np.float32)
    everywhere = np.ones((height, width), np.bool_)
    canvas.paint(slice(None), slice(None), everywhere, colour, LABEL_IDS["sky"], grain=0.01)


def paint_far_end(canvas: Canvas, camera: Camera, style: Style, generator: np.random.Generator) -> None:
    """Close the street with houses and trees."""
    x = -90.0
    while x < 90:
        wide, tall = generator.uniform(8, 22), generator.uniform(5, 15)
        left, top = camera.project(x, tall, FAR)
        right, bottom = camera.project(x + wide, -1, FAR)
        house = generator.random() < 0.45
        colour = style.facades[generator.integers(len(style.facades))] if house else style.leaves
        label = LABEL_IDS["building" if house else "vegetation"]
        if house:
            canvas.polygon([(left, top), (right, top), (right, bottom), (left, bottom)], colour, label, FAR)
        else:
            canvas.ellipse(((left + right) / 2, bottom), ((right - left) * 0.7, bottom - top), colour, label, FAR, 0.25)
        x += wide * generator.uniform(0.5, 0.9)


def paint_ground(
    canvas: Canvas, camera: Camera, style: Style, sides: tuple[Side, Side], generator: np.random.Generator
) -> None:
    """Paint road, markings, kerbs, pavement and grass below the horizon, each pixel by the metre it shows."""
    first = math.floor(camera.horizon) + 1
    rows, columns = slice(first, canvas.height), slice(0, canvas.width)
    y = np.arange(first, canvas.height, dtype=np.float32)[:, None] + np.float32(0.5)
    x = np.arange(canvas.width, dtype=np.float32)[None, :] + np.float32(0.5)
    z = np.float32(camera.focal * camera.height) / (y - np.float32(camera.horizon))
    across = (x - np.float32(camera.vanishing_x)) * z / np.float32(camera.focal)
    z = np.broadcast_to(z, across.shape)
    left, right = sides
    shape = across.shape

    road = (across > -left.kerb) & (across < right.kerb)
    wear = np.float32(0.02) * np.cos(across * np.float32(2.6))
    patches = np.float32(0.05) * smooth_noise(generator, shape, cell=canvas.width / 6, octaves=2)
    asphalt = _grey(np.float32(style.asphalt) + wear + patches)
    asphalt = _mark(asphalt, across, z, left, right, generator)
    canvas.paint(rows, columns, road, asphalt, LABEL_IDS["road"], grain=0.09)

    for side in sides:
        outward = across * side.sign
        pavement = (outward >= side.kerb) & (outward < side.front - side.verge)
        joints = ((across % 0.8) < 0.07) | ((z % 0.8) < 0.07)
        tone = np.where(joints & (z < 14), np.float32(0.82), np.float32(1.0))
        tone = np.where(outward < side.kerb + 0.22, np.float32(1.25), tone)
        paving = (np.array(style.paving, np.float32) * tone[..., None]).astype(np.float32)
        canvas.paint(rows, columns, pavement, paving, LABEL_IDS["sidewalk"], grain=0.08)
        grass = outward >= side.front - side.verge
        blades = 1 + np.float32(0.15) * smooth_noise(generator, shape, cell=canvas.width / 60, octaves=2)
        turf = (np.array((0.36, 0.50, 0.22), np.float32) * blades[..., None]).astype(np.float32)
        canvas.paint(rows, columns, grass, turf, LABEL_IDS["terrain"], grain=0.25)


def _grey(tone: Float32[np.ndarray, "row column"]) -> Float32[np.ndarray, "row column 3"]:
    return (tone[..., None] * np.array((1.0, 1.0, 1.03), np.float32)).astype(np.float32)


def _mark(
    asphalt: Float32[np.ndarray, "row column 3"],
    across: Float32[np.ndarray, "row column"],
    ahead: Float32[np.ndarray, "row column"],
    left: Side,
    right: Side,
    generator: np.random.Generator,
) -> Float32[np.ndarray, "row column 3"]:
    """Draw the lane markings: a dashed line between the lanes, edge lines and sometimes a crossing."""
    middle = (right.kerb - left.kerb) / 2
    phase = generator.uniform(0, 6)
    dashes = (np.abs(across - middle) < 0.09) & ((ahead + phase) % 6 < 3) & (ahead < 45)
    edges = (np.abs(across + left.kerb - 0.5) < 0.06) | (np.abs(across - right.kerb + 0.5) < 0.06)
    marked = dashes | (edges & (ahead < 60))
    if generator.random() < 0.4:
        start = generator.uniform(7, 22)
        marked |= (ahead > start) & (ahead < start + 3) & (across % 1.0 < 0.5)
    worn = np.float32(generator.uniform(0.6, 0.95))
    white = np.float32(0.88)
    return np.where(marked[..., None], asphalt * (1 - worn) + white * worn, asphalt).astype(np.float32)
