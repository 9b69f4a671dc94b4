"""Sunlight, wet ground and haze over a painted street: they change the picture and no label.

Each pixel's depth gives the point on the street that it shows, so shadows fall over road, cars and houses alike.
"""

import numpy as np
from jaxtyping import Bool, Float32

from demo.painting.canvas import Number
from demo.painting.noise import bumps, looked_up
from demo.street.canvas import Camera, Canvas
from demo.street.nuisances import Conditions
from demo.street.street import Street
from pipeline.datasets.cityscapes import LABEL_IDS

_GROUND = tuple(LABEL_IDS[name] for name in ("road", "sidewalk", "terrain"))
_SUNSET = 0.86  # time of day from which on nothing throws a shadow
_HOUSE = 11.0  # metres along the street for one roof height
_NOON, _EVENING, _SHADE = (
    np.array(factors, np.float32) for factors in ((1.16, 1.10, 1.02), (1.42, 1.10, 0.78), (0.60, 0.66, 0.76))
)
_SEEN = 60.0  # metres of sight in the thickest haze


def paint_weather(canvas: Canvas, street: Street, conditions: Conditions) -> None:
    """Change a painted street as its conditions say, in the order in which light meets them.

    Args:
        canvas: The painted street.
        street: Street that was painted.
        conditions: Nuisances of the scene.
    """
    camera = street.camera
    if conditions.sun:
        _sunlight(canvas, street, camera, conditions)
    if conditions.wetness:
        _wet_ground(canvas, camera, street.road.seed, conditions.wetness)
    if conditions.haze:
        _haze(canvas, conditions.haze)


def colour_factors(conditions: Conditions) -> tuple[float, float, float]:
    """Return the factors of red, green and blue by exposure and colour cast."""
    warm, green, gain = conditions.warmth, conditions.greenness, conditions.exposure
    return gain * (1 + 0.16 * warm), gain * (1 + 0.07 * green), gain * (1 - 0.20 * warm)


def _sunlight(canvas: Canvas, street: Street, camera: Camera, conditions: Conditions) -> None:
    """Throw the shadows of the houses on the sun's side over the street, and warm what is lit."""
    near = np.isfinite(canvas.depth) & (canvas.depth > 0)
    rows, columns = np.nonzero(near)
    depth = canvas.depth[near]
    across = (columns.astype(np.float32) + np.float32(0.5 - camera.vanishing_x)) * depth / np.float32(camera.focal)
    up = np.float32(camera.height) - (rows.astype(np.float32) + np.float32(0.5 - camera.horizon)) * depth / np.float32(
        camera.focal
    )
    left, right = street.sides
    front = right.front if conditions.sun > 0 else -left.front
    away = np.abs(np.float32(front) - across)  # metres from the row of houses that hides the sun
    low = min(conditions.daytime / _SUNSET, 1.0)
    slope = np.float32(2.4 * (1 - low) + 0.28 * low)  # metres down for every metre away
    along = depth + np.float32(camera.z + 3 * conditions.skew) + np.float32(conditions.skew) * away
    roof = _roofs(along, street.road.seed)
    # A penumbra of half a metre, and what stands in front of the houses' own row is lit from its far side only.
    lit = np.clip((up - roof + slope * away) * np.float32(1 / 0.5), 0, 1)
    strength = np.float32(min(1.0, 4 * (1 - conditions.daytime / _SUNSET)) if conditions.daytime < _SUNSET else 0.0)
    clear = np.float32(90) / (np.float32(90) + depth)  # far shadows lie in the haze of the air
    evening = np.float32(low)
    sunny = _NOON * (1 - evening) + _EVENING * evening
    factor = _SHADE + (sunny - _SHADE) * lit[:, None]
    canvas.picture[near] *= 1 + strength * clear[:, None] * (factor - 1)


def _roofs(along: Float32[np.ndarray, " pixel"], seed: int) -> Float32[np.ndarray, " pixel"]:
    """Return the height of the roofs along the street, in metres; every sixth lot or so is a gap."""
    house = np.floor(along / np.float32(_HOUSE)).astype(np.int64)
    drawn = (house * 7919 + seed % 9973) * 104729 % 1013 % 6
    heights = np.array((0.0, 6.5, 8.0, 9.5, 11.0, 12.5), np.float32)
    picked: np.ndarray = heights[drawn]
    return picked


def _wet_ground(canvas: Canvas, camera: Camera, seed: int, wetness: Number) -> None:
    """Darken the ground and let it mirror what stands at its far edge, most in puddles and at grazing angles."""
    height = canvas.height
    ground: Bool[np.ndarray, "height width"] = np.isin(canvas.labels, _GROUND) & np.isfinite(canvas.depth)
    edge = np.where(ground, -1, np.arange(height)[:, None])
    edge = np.maximum.accumulate(edge, axis=0)  # the lowest row above that shows no ground
    rows, columns = np.nonzero(ground & (edge >= 0))
    depth = canvas.depth[rows, columns]
    across = (columns.astype(np.float32) - np.float32(camera.vanishing_x)) * depth / np.float32(camera.focal)
    ripples = looked_up(bumps(), depth * np.float32(55) + seed % 1000, (across + np.float32(64)) * np.float32(30))
    puddles = looked_up(bumps(), depth * np.float32(16) + seed % 613, (across + np.float32(64)) * np.float32(24))
    mirrored = 2 * edge[rows, columns] + 1 - rows
    mirrored = np.clip(mirrored + np.rint(ripples * np.float32(height * 0.016)).astype(np.int64), 0, height - 1)
    image = _smeared(canvas.picture, max(1, height // 24))[mirrored, columns]
    grazing = depth / (depth + np.float32(9))
    pooled = np.clip(np.float32(0.5) + np.float32(1.6) * (puddles + np.float32(wetness - 0.6)), 0, 1)
    gleam = np.float32(wetness) * (np.float32(0.12) + np.float32(0.42) * grazing)
    gleam *= np.float32(0.35) + np.float32(0.65) * pooled
    soil = canvas.labels[rows, columns] == LABEL_IDS["terrain"]
    gleam = np.where(soil, gleam * np.float32(0.25), gleam)[:, None]
    own = canvas.picture[rows, columns] * np.float32(1 - 0.36 * wetness)
    canvas.picture[rows, columns] = own * (1 - gleam) + image * gleam


def _smeared(picture: Float32[np.ndarray, "height width 3"], reach: int) -> Float32[np.ndarray, "height width 3"]:
    """Return a picture averaged over ``reach`` rows up and down."""
    height = len(picture)
    padded = np.pad(picture, ((reach, reach), (0, 0), (0, 0)), mode="edge")
    total = np.zeros_like(picture)
    for step in range(2 * reach + 1):
        total += padded[step : step + height]
    return total / np.float32(2 * reach + 1)


def _haze(canvas: Canvas, haze: Number) -> None:
    """Blend everything with the colour of the horizon, more with distance; the sky as if it were far away."""
    far = np.minimum(canvas.depth, np.float32(400)) * np.float32(haze / _SEEN)
    own = (1 / (1 + far + far * far / 2))[..., None]  # close to exp(-far), and the same on every processor
    canvas.picture *= own
    grey = np.float32(canvas.haze.mean())
    canvas.picture += (canvas.haze + grey) * np.float32(0.5) * (1 - own)
