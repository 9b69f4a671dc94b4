"""Writes painted aerial images in the layout of DOTA v1, each object with its rotated rectangle.

Objects are painted by decreasing area, so small ones are on top of large ones, and trees cover both. A pixel belongs
to an object when its centre lies in the object's shape, and the shape lies in the rectangle. An object is listed when
at least ``LEAST_PIXELS`` of its pixels and a quarter of all are visible, and is difficult when less than 60 % are.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8, UInt16

from demo.painting.canvas import Canvas, Colour
from demo.painting.files import save_picture
from demo.painting.noise import generator_of, turned
from demo.satellite.categories import LABEL_IDS, SUPERCATEGORIES
from demo.satellite.plot import Plot
from demo.satellite.site import BuildingSite
from demo.satellite.sites import SITES

LEAST_PIXELS = 6
IMAGES: Mapping[str, int] = {"train": 20, "val": 10}
"""Number of images by split."""

_LIGHTS: tuple[tuple[Colour, float], ...] = (
    ((1.04, 1.02, 0.98), 0.7),
    ((1.10, 0.99, 0.84), 1.3),
    ((0.92, 0.96, 1.02), 0.25),
    ((0.97, 1.0, 1.0), 0.5),
)
"""Tint, and length of the shadow of one metre, for noon, evening and an overcast sky."""


@dataclass(frozen=True)
class Annotation:
    """One object of a place."""

    category: str
    plot: Plot
    instance: int
    visible_pixels: int
    pixels: int
    """Number of pixels without occlusion."""

    @property
    def supercategory(self) -> str:
        """The group of the category."""
        return SUPERCATEGORIES[self.category]

    @property
    def difficult(self) -> bool:
        """Whether more than 40 % of its pixels are covered."""
        return self.visible_pixels < 0.6 * self.pixels


@dataclass(frozen=True)
class Place:
    """One painted place with its ground truth."""

    kind: str
    metres_in_pixel: float
    picture: UInt8[np.ndarray, "height width 3"]
    labels: UInt8[np.ndarray, "height width"]
    """``LABEL_IDS`` of the categories; 0 is background."""
    instances: UInt16[np.ndarray, "height width"]
    annotations: tuple[Annotation, ...]
    """In the order of painting."""


def paint_place(size: tuple[int, int], seed: int, split: str, number: int) -> Place:
    """Paint one place; the kinds of sites alternate.

    Args:
        size: Height and width in pixels.
        seed: Seed of the world.
        split: Name of the split.
        number: Number of the place in its split.
    """
    height, width = size
    generator = generator_of(seed, "satellite", split, number)
    kind = list(SITES)[number % len(SITES)]
    lay, pixel = SITES[kind]
    pixel *= (0.8, 1.0, 1.25)[generator.integers(3)]
    canvas = Canvas(height, width, generator)
    site = BuildingSite(canvas, pixel, generator)
    tint, length = _LIGHTS[generator.integers(len(_LIGHTS))]
    right, down = turned(generator.random())
    lay(site)
    planned = site.build((right * length, down * length))
    visible = np.bincount(canvas.instances.ravel(), minlength=len(planned) + 1)
    annotations = []
    for item in planned:
        if item.name in LABEL_IDS and item.instance in canvas.strokes:
            seen, pixels = int(visible[item.instance]), int(np.count_nonzero(canvas.strokes[item.instance]))
            if seen >= LEAST_PIXELS and 4 * seen >= pixels:
                annotations.append(Annotation(item.name, item.plot, item.instance, seen, pixels))
    picture = canvas.developed(generator, tint, noise=0.008)
    return Place(kind, pixel, picture, canvas.labels, canvas.instances, tuple(annotations))


def write_satellite_world(
    root: Path, *, images: Mapping[str, int] = IMAGES, size: tuple[int, int] = (1024, 1024), seed: int = 0
) -> None:
    """Write places seen from above below ``root`` in the layout of DOTA v1.

    Each split has ``images/P0001.png`` and on and ``labelTxt/P0001.txt``: two lines of header (imagesource, gsd in
    metres in a pixel), then an object a line: four corners ``x y`` clockwise from the front left, category, difficult.
    The corners are exact. A place depends on the seed, the split, its number and the size alone. Existing files of the
    same names are replaced. Layout: DOTA, arXiv 1711.10398, and CAPTAIN-WHU's DOTA_devkit.

    Args:
        root: Folder to write to.
        images: Number of images by split.
        size: Height and width in pixels.
        seed: Seed of the world.
    """
    for split, count in images.items():
        pictures, texts = root / split / "images", root / split / "labelTxt"
        pictures.mkdir(parents=True, exist_ok=True)
        texts.mkdir(parents=True, exist_ok=True)
        for number in range(count):
            place = paint_place(size, seed, split, number)
            name = f"P{number + 1:04}"
            save_picture(pictures / f"{name}.png", place.picture)
            lines = [f"imagesource:painted\ngsd:{place.metres_in_pixel:.6g}\n"]
            lines += [_line(annotation) for annotation in place.annotations]
            (texts / f"{name}.txt").write_text("".join(lines), encoding="ascii", newline="\n")


def _line(annotation: Annotation) -> str:
    corners = " ".join(f"{x} {y}" for x, y in annotation.plot.corners)
    return f"{corners} {annotation.category} {int(annotation.difficult)}\n"
