"""Paints the scenes that a backbone is trained and probed on, at half size and in memory."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from demo.backbones.settings import World
from demo.painting.noise import generator_of
from demo.street.nuisances import draw_conditions
from demo.street.scene import paint_scene
from pipeline.datasets.cityscapes import CLASSES, LABEL_IDS
from stores.canonical import digest

HEIGHT, WIDTH = 128, 256
"""Of a frame in pixels; it is painted at twice the size."""
VOID = 255
REVISION = 1
"""Increased when the same world gives other frames."""

_TRAIN_IDS = np.full(256, VOID, np.uint8)
for _entry in CLASSES:
    _TRAIN_IDS[LABEL_IDS[_entry.name]] = _entry.id


@dataclass(frozen=True)
class Frames:
    """Painted scenes with the class of every pixel."""

    pictures: UInt8[np.ndarray, "frame height width 3"]
    classes: UInt8[np.ndarray, "frame height width"]
    """Ids of `CLASSES`, 255 for void."""


def paint_frames(world: World, purpose: str = "training", cache: Path | None = None) -> Frames:
    """Return the scenes of a world; those of another purpose share neither scenes nor cities with them.

    Args:
        world: Which scenes.
        purpose: Part of the names from which cities and scenes are drawn.
        cache: Folder in which painted frames are kept between runs.
    """
    path = None
    if cache is not None:
        key = digest({"revision": REVISION, "purpose": purpose, **world.canonical()})
        path = cache / f"frames-{key[:16]}.npz"
        if path.exists():
            with np.load(path) as stored:
                return Frames(stored["pictures"], stored["classes"])
    pictures = np.empty((world.scenes, HEIGHT, WIDTH, 3), np.uint8)
    classes = np.empty((world.scenes, HEIGHT, WIDTH), np.uint8)
    for number in range(world.scenes):
        scene = (world.seed, "backbones", purpose, number)
        conditions = draw_conditions(world.strengths, *scene)
        city = generator_of(world.seed, "backbones", purpose, "city", number % world.cities)
        picture, label_ids = paint_scene(city, 2 * HEIGHT, 2 * WIDTH, generator_of(*scene), world.strengths, conditions)
        pictures[number] = np.asarray(Image.fromarray(picture).reduce(2))
        classes[number] = _TRAIN_IDS[label_ids[::2, ::2]]
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        with partial.open("wb") as file:
            np.savez(file, pictures=pictures, classes=classes)
        partial.rename(path)
    return Frames(pictures, classes)
