"""Writes painted streets that questions of whole images are asked of: by kind in folders, or with boxes of objects.

Every picture has a city of its own, so that colours of houses, leaves and paving differ from picture to picture.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from demo.painting.files import save_picture
from demo.painting.noise import generator_of
from demo.street.kinds import KINDS, rearranged
from demo.street.nuisances import ALL, Nuisances, draw_conditions
from demo.street.placing import draw_street
from demo.street.scene import paint_canvas
from demo.street.seasons import style_under
from demo.street.style import draw_style
from demo.street.video import Box, box_line, boxes_of, class_ids_of, sequence_card

IMAGES: Mapping[str, int] = {"train": 400, "val": 500}
"""Number of images by split; the kinds take turns."""
SIZE = (256, 512)
"""Height and width in pixels."""
_CLASSES = "1 person\n2 rider\n3 vehicle\n4 bicycle\n5 motorcycle\n7 standing person\n"
"""Names of the class numbers of `demo.street.video.CLASS_IDS`."""


@dataclass(frozen=True)
class Still:
    """One painted picture of a kind of street."""

    kind: str
    """Name in `demo.street.kinds.KINDS`."""
    picture: UInt8[np.ndarray, "height width 3"]
    boxes: tuple[Box, ...]


def paint_still(size: tuple[int, int], seed: int, split: str, number: int, nuisances: Nuisances = ALL) -> Still:
    """Paint one street; kinds alternate.

    Args:
        size: Height and width in pixels.
        seed: Seed of the world.
        split: Name of the split.
        number: Number of the picture in its split.
        nuisances: How strongly light, weather, season and camera vary from picture to picture.
    """
    kind = list(KINDS)[number % len(KINDS)]
    key = (seed, "stills", split, number)
    generator, conditions = generator_of(*key), draw_conditions(nuisances, *key)
    style = style_under(draw_style(generator, generator), nuisances, conditions)
    street = rearranged(kind, draw_street(style, *size, generator), generator)
    picture, canvas = paint_canvas(street, *size, generator, nuisances, conditions)
    return Still(kind, picture, boxes_of(canvas, class_ids_of(street)))


def write_street_kinds(
    root: Path, *, images: Mapping[str, int] = IMAGES, size: tuple[int, int] = SIZE, seed: int = 0
) -> None:
    """Write streets below ``root``, in a folder for each kind below one for each split.

    A picture depends on the seed, the split, its number and the size alone.

    Args:
        root: Folder to write to.
        images: Number of images by split; kinds take turns.
        size: Height and width in pixels.
        seed: Seed of the world.
    """
    for split, count in images.items():
        for number in range(count):
            still = paint_still(size, seed, split, number)
            folder = root / split / still.kind
            folder.mkdir(parents=True, exist_ok=True)
            save_picture(folder / f"{number + 1:04}.png", still.picture)


def write_street_objects(
    root: Path, *, images: Mapping[str, int] = IMAGES, size: tuple[int, int] = SIZE, seed: int = 0
) -> None:
    """Write the streets of `write_street_kinds` below ``root`` in the layout of MOTChallenge, as videos of one frame.

    Args:
        root: Folder to write to.
        images: Number of images by split; kinds take turns.
        size: Height and width in pixels.
        seed: Seed of the world.
    """
    root.mkdir(parents=True, exist_ok=True)
    (root / "classes.txt").write_text(_CLASSES, encoding="ascii", newline="\n")
    for split, count in images.items():
        for number in range(count):
            still = paint_still(size, seed, split, number)
            name = f"{still.kind}-{number + 1:04}"
            pictures, truth = root / split / name / "img1", root / split / name / "gt"
            pictures.mkdir(parents=True, exist_ok=True)
            truth.mkdir(parents=True, exist_ok=True)
            save_picture(pictures / "000001.png", still.picture)
            lines = "".join(box_line(1, box) for box in still.boxes)
            (truth / "gt.txt").write_text(lines, encoding="ascii", newline="\n")
            card = sequence_card(name, 1, size, ".png")
            (root / split / name / "seqinfo.ini").write_text(card, encoding="ascii", newline="\n")
