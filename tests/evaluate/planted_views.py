"""Sealed sets of the same rows under views, with patches that are known to be each other."""

import numpy as np
import pandas as pd

from evaluate.inputs.model_sets import ModelSets, ViewSets
from stores.specs import FrameSpec, Size, ViewSpec
from tests.evaluate.planted import write_set
from tests.stores.specs_for_tests import FEATURES, LABELS

CLASSES = pd.DataFrame(
    {
        "id": range(5),
        "name": ["background", "jet", "glider", "tanker", "ferry"],
        "supercategory": ["background", "plane", "plane", "ship", "ship"],
        "red": [0, 50, 100, 150, 200],
        "green": [0, 50, 100, 150, 200],
        "blue": [0, 50, 100, 150, 200],
        "easy": [False] * 5,
    }
)
CELLS = 4
RANGE_BYTES = 4096
"""Four samples of 32 channels a range."""


NOISE = ((10, 0.01), (40, 30.0))


def viewed_sets(folder, *, n_images=16, channels=32, own=1.0, noise=NOISE, seed=0, pictures=False, tiles=1, void=0.0):
    """Images of one 4x4-patch tile, or more: a class mean of length 3 and a vector of its own make every patch.

    Views: ``noise`` adds Gaussian noise of the given spread to the tokens; ``shift`` 1 moves the image one patch to
    the right, so that the first column is void and patch p shows clean patch p - 1. With ``pictures`` the clean
    inputs are stored: every patch is plain, its red is the image's number, its green its class, its blue its place.
    A share ``void`` of the clean patches has no label; where they come to lie under ``shift`` they have one.
    """
    rng = np.random.default_rng(seed)
    n_rows = n_images * tiles
    labels = rng.integers(0, 5, (n_rows, CELLS, CELLS)).astype(np.uint8)
    means = rng.normal(size=(5, channels))
    means *= 3.0 / np.linalg.norm(means, axis=1, keepdims=True)
    clean = means[labels] + own * rng.normal(size=(n_rows, CELLS, CELLS, channels))
    table = pd.DataFrame(
        [
            {
                "sample": f"image{n // tiles:02d}.png[0,{n % tiles}]",
                "source": f"image{n // tiles:02d}.png",
                "group": "all",
                "split": "train" if n < n_rows // 2 else "val",
                "source_width": 16 * tiles,
                "source_height": 16,
                "tile_row": 0,
                "tile_column": n % tiles,
                "left": n % tiles * 16,
                "top": 0,
                "right": n % tiles * 16 + 16,
                "bottom": 16,
                "owned_left": 0,
                "owned_top": 0,
                "owned_right": 16,
                "owned_bottom": 16,
                "image_class": n % 2,
                "video": "",
                "frame": -1,
                "seconds": float("nan"),
                "source_sha256": "",
                "label_sha256": "",
                "valid": True,
                "reason": "",
            }
            for n in range(n_rows)
        ]
    )
    patch = np.arange(CELLS * CELLS).reshape(CELLS, CELLS)
    moved = np.concatenate([np.full((CELLS, 1), -1), patch[:, :-1]], axis=1).astype(np.int32)
    known = labels.copy()
    known[np.random.default_rng(seed).random(labels.shape) < void] = 255
    features, label_set = _write(folder, None, clean, known, None, table, pictures)
    views = {}
    for level, spread in noise:
        values = clean + spread * rng.normal(size=clean.shape)
        spec = ViewSpec(name="noise", parameters={"level": level})
        views["noise", float(level)] = ViewSets(
            "noise", float(level), _write(folder, spec, values, None, None, table)[0], label_set
        )
    shifted = np.concatenate([0 * clean[:, :, :1], clean[:, :, :-1]], axis=2)
    shifted_labels = np.concatenate([np.full_like(labels[:, :, :1], 255), labels[:, :, :-1]], axis=2)
    spec = ViewSpec(name="shift", parameters={"level": 1})
    views["shift", 1.0] = ViewSets("shift", 1.0, *_write(folder, spec, shifted, shifted_labels, moved, table))
    return ModelSets("planted", features, label_set, False, "patchbank extract planted.toml", views)


def _write(folder, view, values, labels, moved, table, pictures=False):
    size = Size(height=16, width=16)
    changes = {"frame": FrameSpec(input=size), **({} if view is None else {"view": view})}
    n_rows = len(table)
    facts = {"layer": 0, "norm": True, "grid_rows": CELLS, "grid_columns": CELLS}
    tokens = values.reshape(n_rows, CELLS * CELLS, -1).astype(np.float16)
    arrays = {
        "tokens/block.0.norm": (tokens, ("sample", "patch", "channel"), facts),
        "prefix/block.0.norm": (tokens[:, :1] * 2, ("sample", "prefix", "channel"), {"layer": 0, "norm": True}),
    }
    features = write_set(folder, FEATURES.model_copy(update=changes), arrays, {"samples": table}, RANGE_BYTES)
    if labels is None:
        return features, None
    pixels = np.repeat(np.repeat(labels, 4, axis=1), 4, axis=2)
    grid = {"grid_rows": CELLS, "grid_columns": CELLS}
    known = {
        "pixels/classes": (pixels, ("sample", "height", "width"), {}),
        "patches/4x4": (labels.reshape(n_rows, -1), ("sample", "patch_4x4"), grid),
    }
    if pictures:
        image, place = np.indices((n_rows, CELLS * CELLS)).reshape(2, n_rows, CELLS, CELLS)
        plain = np.stack([image * 5, labels * 50, place * 10], axis=-1).astype(np.uint8)
        inputs = np.repeat(np.repeat(plain, 4, axis=1), 4, axis=2)
        known["inputs/pixels.bicubic"] = (inputs, ("sample", "height", "width", "colour"), {})
    if moved is not None:
        pairs = np.broadcast_to(moved.reshape(1, -1), (n_rows, CELLS * CELLS)).copy()
        known["correspondence/4x4"] = (pairs, ("sample", "patch_4x4"), grid)
    tables = {"samples": table, "classes": CLASSES}
    return features, write_set(folder, LABELS.model_copy(update=changes), known, tables, RANGE_BYTES)
