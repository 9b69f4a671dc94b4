"""Paints sky, ground and the far end of a street."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32

from demo.painting.canvas import Number
from demo.painting.noise import bumps, looked_up, smooth_noise, wave
from demo.street.canvas import Camera, Canvas
from demo.street.style import Style
from pipeline.datasets.cityscapes import LABEL_IDS

FAR = 130.0  # metres to the end of the street
_DENSITY = 40  # table pixels in a metre of ground


@dataclass(frozen=True)
class Side:
    """The cross-section of one side of the street, in metres from the middle of the camera's lane."""

    sign: int
    """-1 left, 1 right."""
    kerb: Number
    """Distance to the end of the road, where the pavement begins."""
    front: Number
    """Distance to the house fronts, where the pavement ends."""
    verge: Number
    """Width of the strip of grass in front of the houses; 0 for none."""
    light: Number
    """Brightness of the house fronts, higher on the sunny side."""
    shadow: Number
    """Length of the houses' shadow in metres; 0 for the sunny side and for overcast days."""


@dataclass(frozen=True)
class Road:
    """Markings of the road."""

    seed: int
    dashes: Number
    """Start of the first dash, in metres."""
    crossings: tuple[Number, ...]
    """Starts of pedestrian crossings, in metres along the street."""
    wear: Number
    """Whiteness of the markings, 0..1."""


def sky_picture(
    height: int, width: int, horizon: Number, style: Style, generator: np.random.Generator
) -> Float32[np.ndarray, "height width 3"]:
    """Return a sky: a gradient towards the horizon, with clouds that flatten there.

    Args:
        height: Height in pixels.
        width: Width in pixels.
        horizon: Row of the horizon.
        style: Style of the city, with its light.
        generator: Source of random numbers.
    """
    depth = np.clip(np.arange(height, dtype=np.float32) / np.float32(horizon), 0, 1)[:, None, None]
    gradient = np.array(style.sky, np.float32) * (1 - depth) + np.array(style.horizon, np.float32) * depth
    bulges = smooth_noise(generator, (height, width), cell=width / 5, octaves=4)
    cover = np.clip((bulges + style.light.clouds) * 1.6, 0, 1)[..., None] * (1 - np.float32(0.5) * depth)
    billows = smooth_noise(generator, (height, width), cell=width / 8, octaves=2)[..., None]
    white = np.array(style.light.cloud, np.float32) * (1 - np.float32(0.12) * billows**2)
    colour: np.ndarray = gradient * (1 - cover) + white * cover
    return colour.astype(np.float32)


def paint_sky(canvas: Canvas, sky: Float32[np.ndarray, "height width 3"]) -> None:
    """Fill the whole canvas with sky."""
    canvas.picture[:] = sky
    canvas.labels[:] = LABEL_IDS["sky"]


def paint_far_end(canvas: Canvas, camera: Camera, style: Style, generator: np.random.Generator) -> None:
    """Paint houses and trees at the end of the street.

    Args:
        canvas: Canvas to paint on.
        camera: Camera to paint for.
        style: Style of the city.
        generator: Source of random numbers.
    """
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


def paint_ground(canvas: Canvas, camera: Camera, style: Style, sides: tuple[Side, Side], road: Road) -> None:
    """Paint road, markings, kerbs, pavement and grass below the horizon.

    Args:
        canvas: Canvas to paint on.
        camera: Camera to paint for.
        style: Style of the city.
        sides: The two sides of the street.
        road: Markings of the road.
    """
    first = max(0, math.floor(camera.horizon) + 1)
    rows, columns = slice(first, canvas.height), slice(0, canvas.width)
    y = np.arange(first, canvas.height, dtype=np.float32)[:, None] + np.float32(0.5)
    x = np.arange(canvas.width, dtype=np.float32)[None, :] + np.float32(0.5)
    ahead = np.float32(camera.focal * camera.height) / (y - np.float32(camera.horizon))
    across = (x - np.float32(camera.vanishing_x)) * ahead / np.float32(camera.focal) + np.float32(camera.x)
    along = np.broadcast_to(ahead + np.float32(camera.z), across.shape)
    ahead = np.broadcast_to(ahead, across.shape)
    left, right = sides
    canvas.depth[rows, columns] = ahead

    offset = road.seed % 1000
    clear = np.float32(12) / (np.float32(12) + ahead)  # texture finer than a pixel would only flicker
    stains = looked_up(bumps(), along * np.float32(_DENSITY) + offset, (across + np.float32(64)) * np.float32(_DENSITY))
    stains *= clear
    mask = (across > -left.kerb) & (across < right.kerb)
    inside = across[mask]
    tone = np.float32(style.asphalt) + np.float32(0.02) * wave(inside * np.float32(0.41))
    tone += np.float32(0.05) * stains[mask]
    tone = _marked(tone, inside, along[mask], ahead[mask], left, right, road)
    asphalt = tone[:, None] * np.array((1.0, 1.0, 1.03), np.float32)
    canvas.paint(rows, columns, mask, asphalt, LABEL_IDS["road"], texture=0.06)

    for side in sides:
        outward = across * side.sign
        mask = (outward >= side.kerb) & (outward < side.front - side.verge)
        joints = ((across[mask] % 0.8) < 0.07) | ((along[mask] % 0.8) < 0.07)
        tone = np.where(joints & (ahead[mask] < 14), np.float32(0.82), np.float32(1.0))
        tone = np.where(outward[mask] < side.kerb + 0.22, np.float32(1.25), tone)
        tone += np.float32(0.12) * stains[mask]
        paving = (np.array(style.paving, np.float32) * tone[:, None]).astype(np.float32)
        canvas.paint(rows, columns, mask, paving, LABEL_IDS["sidewalk"], texture=0.05)
        mask = outward >= side.front - side.verge
        blades = 1 + np.float32(0.25) * stains[mask]
        turf = np.array(style.turf, np.float32) * blades[:, None]
        canvas.paint(rows, columns, mask, turf, LABEL_IDS["terrain"], texture=0.22)
        if side.shadow:
            _shade(canvas, rows, columns, side, outward, along, road.seed)


def _shade(
    canvas: Canvas,
    rows: slice,
    columns: slice,
    side: Side,
    outward: Float32[np.ndarray, "row column"],
    along: Float32[np.ndarray, "row column"],
    seed: int,
) -> None:
    """Darken the ground in the shadow of one side's houses, with a stepped edge from uneven roofs."""
    house = (along * np.float32(1 / 13)).astype(np.int32)
    steps = ((house * 7 + seed % 97) % 5).astype(np.float32) * np.float32(0.35)
    mask: Bool[np.ndarray, "row column"] = outward > np.float32(side.front - side.shadow) + steps
    canvas.picture[rows, columns][mask] *= np.array((0.60, 0.62, 0.68), np.float32)


def _marked(
    tone: Float32[np.ndarray, " pixel"],
    across: Float32[np.ndarray, " pixel"],
    along: Float32[np.ndarray, " pixel"],
    ahead: Float32[np.ndarray, " pixel"],
    left: Side,
    right: Side,
    road: Road,
) -> Float32[np.ndarray, " pixel"]:
    """Draw the lane markings: a dashed line between the lanes, edge lines and the crossings."""
    middle = np.float32((right.kerb - left.kerb) / 2)
    marked = (np.abs(across - middle) < 0.09) & ((along + np.float32(road.dashes)) % 6 < 3) & (ahead < 70)
    edges = np.minimum(np.abs(across + np.float32(left.kerb - 0.5)), np.abs(across - np.float32(right.kerb - 0.5)))
    marked |= (edges < 0.06) & (ahead < 80)
    for start in road.crossings:
        marked |= (np.abs(along - np.float32(start + 1.5)) < 1.5) & (across % 1.0 < 0.5) & (ahead < 60)
    worn = np.float32(road.wear)
    return np.where(marked, tone * (1 - worn) + np.float32(0.88) * worn, tone).astype(np.float32)
