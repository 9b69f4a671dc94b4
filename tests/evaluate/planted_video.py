"""Sealed sets of videos whose objects carry planted identities."""

import numpy as np
import pandas as pd

from evaluate.inputs.model_sets import ModelSets
from stores.specs import FrameSpec, Size
from tests.evaluate.planted import write_set
from tests.stores.specs_for_tests import FEATURES, LABELS

CLASSES = pd.DataFrame(
    {
        "id": [0, 1],
        "name": ["car", "person"],
        "supercategory": ["vehicle", "human"],
        "red": [0, 220],
        "green": [0, 20],
        "blue": [142, 60],
        "easy": [False, False],
    }
)
CELLS, PIXELS = 8, 8
"""Patches and pixels-a-patch on a side; a source is two tiles wide."""
RANGE_BYTES = 1 << 14
"""Five samples of 24 channels a range, so that a video lies in several."""


def videos(folder, *, n_videos=12, n_frames=6, n_objects=4, channels=24, noise=0.1, identities=True, seed=0, tiles=2):
    """Frames of two 64-pixel tiles; each object covers one patch and moves to another patch every frame.

    With ``identities`` a patch of an object holds its track's own vector plus noise (one spread, or one a video),
    otherwise noise alone. The
    last object of every video vanishes after half of the frames. With ``tiles=1`` frames are whole.
    """
    rng = np.random.default_rng(seed)
    samples, objects, tokens = [], [], []
    for video in range(n_videos):
        own = rng.normal(size=(n_objects, channels)) * (3.0 if identities else 0.0)
        for frame in range(n_frames):
            source = f"v{video:02d}/{frame:06d}.png"
            values = rng.normal(size=(CELLS, 2 * CELLS, channels)) * np.broadcast_to(noise, n_videos)[video]
            places = rng.choice(CELLS * 2 * CELLS, n_objects, replace=False)
            for number, place in enumerate(places):
                if number == n_objects - 1 and frame >= n_frames // 2:
                    continue
                y, x = divmod(int(place), 2 * CELLS)
                values[y, x] += own[number]
                box = [x * PIXELS, y * PIXELS, (x + 1) * PIXELS, (y + 1) * PIXELS]
                objects.append(
                    {
                        "source": source,
                        "video": f"v{video:02d}",
                        "frame": frame,
                        "seconds": frame / 5,
                        "track": f"v{video:02d}/{number}",
                        "category": number % 2,
                        "ignore": False,
                        "flags": "",
                        "visibility": 1.0,
                        "left": box[0],
                        "top": box[1],
                        "right": box[2],
                        "bottom": box[3],
                        "polygon": [float(value) for value in (box[0], box[1], box[2], box[1], box[2], box[3])],
                    }
                )
            for tile in range(tiles):
                size, width = CELLS * PIXELS, 2 * CELLS * PIXELS // tiles
                samples.append(
                    {
                        "sample": f"{source}[0,{tile}]",
                        "source": source,
                        "group": f"v{video:02d}",
                        "split": "val",
                        "source_width": 2 * size,
                        "source_height": size,
                        "tile_row": 0,
                        "tile_column": tile,
                        "left": tile * width,
                        "top": 0,
                        "right": (tile + 1) * width,
                        "bottom": size,
                        "owned_left": 0,
                        "owned_top": 0,
                        "owned_right": width,
                        "owned_bottom": size,
                        "image_class": -1,
                        "video": f"v{video:02d}",
                        "frame": frame,
                        "seconds": frame / 5,
                        "source_sha256": "",
                        "label_sha256": "",
                        "valid": True,
                        "reason": "",
                    }
                )
                part = np.split(values, tiles, axis=1)[tile]
                tokens.append(part.reshape(-1, channels))
    table, object_table = pd.DataFrame(samples), pd.DataFrame(objects)
    facts = {"layer": 0, "norm": True, "grid_rows": CELLS, "grid_columns": 2 * CELLS // tiles}
    arrays = {"tokens/block.0.norm": (np.stack(tokens).astype(np.float16), ("sample", "patch", "channel"), facts)}
    size = Size(height=CELLS * PIXELS, width=2 * CELLS * PIXELS // tiles)
    changes = {"frame": FrameSpec(input=size, tile=None if tiles == 1 else size)}
    features = write_set(folder, FEATURES.model_copy(update=changes), arrays, {"samples": table}, RANGE_BYTES)
    labels = write_set(
        folder,
        LABELS.model_copy(update={**changes, "pixel_labels": False, "objects": True}),
        {"pixels/none": (np.zeros((len(table), 1), np.uint8), ("sample", "nothing"), {})},
        {"samples": table, "classes": CLASSES, "objects": object_table},
    )
    return ModelSets("planted", features, labels, False, "patchbank extract planted.toml")
