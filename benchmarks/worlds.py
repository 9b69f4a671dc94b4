"""The painted worlds against PNG encoding alone: how much longer than writing the pictures does painting them take?"""

import io
import os
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.measure import pairs, row
from demo.painting.noise import generator_of, weathering
from demo.satellite.world import paint_place
from demo.street.scene import paint_scene
from demo.street.video import StreetVideo

FRAMES = 8
REPEATS = 2
GOALS = {"street 512x256": 3.5, "street video 640x360": 2.5, "satellite 512x512": 2.5}
"""Ratios near a thousand frames in a minute of processor time, where PNG encoding takes about 20 ms a picture."""


def encode(picture: np.ndarray, jpeg: bool = False) -> None:
    if jpeg:
        Image.fromarray(picture).save(io.BytesIO(), format="JPEG", quality=92)
    else:
        Image.fromarray(picture).save(io.BytesIO(), format="PNG", compress_level=1)


def rows() -> list[dict[str, Any]]:
    """Return the ratios painting and encoding, as the worlds are written, over PNG encoding alone, on one thread."""
    weathering()  # the tables are made once a process
    video = StreetVideo("street-01", 60)
    worlds: dict[str, Callable[[int], np.ndarray]] = {
        "street 512x256": lambda number: paint_scene(
            generator_of(0, "alpha"), 256, 512, generator_of(0, "train", "alpha", number)
        )[0],
        "street video 640x360": lambda number: video.frame(number * 3).picture,
        "satellite 512x512": lambda number: paint_place((512, 512), 0, "train", number).picture,
    }
    table = []
    for name, paint in worlds.items():
        pictures = [paint(number) for number in range(FRAMES)]

        def ours(_: int, paint: Any = paint, jpeg: bool = "video" in name) -> None:
            for number in range(FRAMES):
                encode(paint(number), jpeg)

        def peer(_: int, pictures: Any = pictures) -> None:
            for picture in pictures:
                encode(picture)

        mine, theirs = pairs(ours, peer, REPEATS)
        seconds = float(np.median([taken.seconds for taken in mine]))
        alone = float(np.median([taken.seconds for taken in theirs]))
        peak = max(taken.peak_bytes for taken in mine)
        more = {"frames_a_second": round(FRAMES / seconds, 1), "load": os.getloadavg()[0]}
        table.append(
            row(f"paint {name}", seconds / alone, "at most", GOALS[name], seconds, peak, "PNG encoding alone", **more)
        )
    return table
