"""``python -m demo.street FILE``: paints two streets under one nuisance after another, as a sheet to look at."""

import sys
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from demo.painting.noise import generator_of
from demo.street.nuisances import Conditions, Nuisances
from demo.street.scene import paint_scene

STREETS = (("gamma", 4), ("delta", 5))
"""Cities and numbers of the two streets."""
SHOWN: tuple[dict[str, float], ...] = (
    {},
    {"daytime": 0.25, "sun": -1.0, "skew": 0.5},
    {"daytime": 0.7, "sun": 1.0, "skew": 0.2},
    {"daytime": 1.0, "sun": 1.0},
    {"wetness": 1.0},
    {"haze": 1.0},
    {"season": 0.5},
    {"season": 1.0},
    {"warmth": 1.0},
    {"noise": 0.05},
)
"""Values of the cells, row by row, two cells of two streets in a row; the first is the plain light of day."""


def sheet(width: int = 320) -> UInt8[np.ndarray, "row column 3"]:
    """Return the sheet; a street is ``width`` pixels wide."""
    cells = []
    for values in SHOWN:
        nuisances = Nuisances(daytime=1.0 if "daytime" in values else 0.0, plain_light=True)
        streets = [
            paint_scene(
                generator_of(0, city),
                width // 2,
                width,
                generator_of(0, "train", city, number),
                nuisances,
                Conditions(**values),
            )[0]
            for city, number in STREETS
        ]
        cells.append(np.concatenate(streets, axis=1))
    rows = [np.concatenate(cells[start : start + 2], axis=1) for start in range(0, len(cells), 2)]
    return np.concatenate(rows)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m demo.street FILE")
    Image.fromarray(sheet()).save(Path(sys.argv[1]))
