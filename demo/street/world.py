"""Writes painted street scenes in the layout of Cityscapes."""

import csv
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from demo.painting.files import save_map, save_picture
from demo.painting.noise import generator_of
from demo.street.nuisances import COLUMNS, OFF, Conditions, Nuisances, draw_conditions
from demo.street.scene import paint_scene
from pipeline.datasets.cityscapes import IMAGE_SUFFIX, LABEL_SUFFIX

IMAGES_PER_CITY: Mapping[str, Mapping[str, int]] = {
    "train": {"alpha": 6, "beta": 6, "gamma": 6},
    "val": {"delta": 6, "epsilon": 6},
}
NUISANCE_TABLE = "nuisances.csv"
"""File below the root that records every frame's nuisances; written when one is on."""
_FRAME = 19  # Cityscapes annotates the 20th frame of every sequence


def write_street_world(
    root: Path,
    *,
    images_per_city: Mapping[str, Mapping[str, int]] = IMAGES_PER_CITY,
    size: tuple[int, int] = (256, 512),
    seed: int = 0,
    nuisances: Nuisances = OFF,
) -> dict[str, Conditions]:
    """Write street scenes and their labelIds below ``root`` and return each frame's nuisances by its name.

    A scene depends on the seed, the split, the city and its number alone, so a larger world contains the smaller one.
    Equal arguments give equal pixels, and equal files with one version of Pillow. Existing files of the same names are
    replaced. With a nuisance on, ``nuisances.csv`` records the values of each frame; the labels stay the same.

    Args:
        root: Folder to write to.
        images_per_city: Number of images by split and city.
        size: Height and width in pixels.
        seed: Seed of the world.
        nuisances: How strongly light, weather, season and camera vary from frame to frame; off by default.
    """
    recorded: dict[str, Conditions] = {}
    height, width = size
    for split, cities in images_per_city.items():
        for city, count in cities.items():
            images, labels = (root / kind / split / city for kind in ("leftImg8bit", "gtFine"))
            images.mkdir(parents=True, exist_ok=True)
            labels.mkdir(parents=True, exist_ok=True)
            for number in range(count):
                conditions = draw_conditions(nuisances, seed, split, city, number)
                generator = generator_of(seed, split, city, number)
                picture, label_ids = paint_scene(
                    generator_of(seed, city), height, width, generator, nuisances, conditions
                )
                stem = f"{city}_{number:06}_{_FRAME:06}"
                recorded[stem] = conditions
                save_picture(images / (stem + IMAGE_SUFFIX), picture)
                save_map(labels / (stem + LABEL_SUFFIX), label_ids)
    if nuisances != OFF:
        with (root / NUISANCE_TABLE).open("w", encoding="ascii", newline="") as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow(("frame", *COLUMNS))
            table.writerows((stem, *asdict(conditions).values()) for stem, conditions in recorded.items())
    return recorded
