"""Sealed sets with known answers: Gaussian classes, and high-variance features planted where asked."""

import numpy as np
import pandas as pd

from evaluate.inputs.model_sets import ModelSets
from stores.format.layout import plan_layout
from stores.sets import ZarrSet
from stores.specs import ArraySpec, FrameSpec, Size
from stores.storage.local import LocalObjects
from stores.writing.sealing import seal
from stores.writing.writer import SetWriter
from tests.stores.specs_for_tests import FEATURES, LABELS

CLASSES = pd.DataFrame(
    {
        "id": [0, 1, 2],
        "name": ["road", "tree", "sky"],
        "supercategory": ["flat", "nature", "sky"],
        "red": [128, 107, 70],
        "green": [64, 142, 130],
        "blue": [128, 35, 180],
        "easy": [True, True, True],
    }
)
ROWS, COLUMNS, PIXELS = 2, 2, 4
"""Patches a tile, and pixels a side of a patch."""


def planted(
    folder, *, n_images=24, channels=16, planted=0, tiles=2, spread=1.0, seed=0, classes=2, layers=1, pictures=False
):
    """Two tiles an image, each of 2x2 patches; a class mean of norm 3 and ``planted`` features of variance 900.

    The second tile overlaps the first by half: its left column of patches is not its own to be scored on. With
    ``pictures`` the inputs are stored: red is the number of the row, green the patch, blue 0.
    """
    rng = np.random.default_rng(seed)
    n_rows = n_images * tiles
    patch_labels = rng.integers(0, classes, (n_rows, ROWS * COLUMNS)).astype(np.uint8)
    patch_labels[rng.random(patch_labels.shape) < 0.1] = 255
    means = rng.normal(size=(classes, channels))
    means *= 3.0 / np.linalg.norm(means, axis=1, keepdims=True)
    means[:, channels - planted :] = 0.0
    table = pd.DataFrame(
        [
            {
                "sample": f"image{image:02d}.png[0,{tile}]",
                "source": f"image{image:02d}.png",
                "group": "ab"[image % 2],
                "split": "train" if image < n_images // 2 else "val",
                "tile_row": 0,
                "tile_column": tile,
                "left": tile * 4,
                "top": 0,
                "right": tile * 4 + 8,
                "bottom": 8,
                "owned_left": 4 * tile,
                "owned_top": 0,
                "owned_right": 8,
                "owned_bottom": 8,
                "image_class": -1,
                "source_sha256": "",
                "label_sha256": "",
                "valid": True,
                "reason": "",
            }
            for image in range(n_images)
            for tile in range(tiles)
        ]
    )
    pixels = np.repeat(np.repeat(patch_labels.reshape(n_rows, ROWS, COLUMNS), PIXELS, 1), PIXELS, 2)
    noisy = pixels.copy()
    noisy[:, ::PIXELS, ::PIXELS] = 2  # one pixel a patch of another class, so that pixels and patches score apart
    features = {}
    for layer in range(layers):
        tokens = rng.normal(size=(n_rows, ROWS * COLUMNS, channels)) * spread
        tokens += np.where(patch_labels[..., None] < classes, means[np.minimum(patch_labels, classes - 1)], 0.0)
        if planted:
            tokens[..., channels - planted :] = rng.normal(size=(*tokens.shape[:2], planted)) * 30.0
        features[f"tokens/block.{layer}.norm"] = (
            tokens.astype(np.float16),
            ("sample", "patch", "channel"),
            {"layer": layer, "norm": True, "grid_rows": ROWS, "grid_columns": COLUMNS},
        )
    labels = {
        "pixels/classes": (noisy, ("sample", "height", "width"), {}),
        "patches/2x2": (patch_labels, ("sample", "patch_2x2"), {"grid_rows": ROWS, "grid_columns": COLUMNS}),
    }
    if pictures:
        row, place = np.indices((n_rows, ROWS * COLUMNS)).reshape(2, n_rows, ROWS, COLUMNS)
        plain = np.stack([row, place, 0 * row], axis=-1).astype(np.uint8).repeat(PIXELS, 1).repeat(PIXELS, 2)
        labels["inputs/pixels.bicubic"] = (plain, ("sample", "height", "width", "colour"), {})
    frame = FrameSpec(input=Size(height=8, width=8), tile=Size(height=8, width=8), edge="shift-last")
    feature_set = write_set(folder, FEATURES.model_copy(update={"frame": frame}), features, {"samples": table})
    label_set = write_set(
        folder, LABELS.model_copy(update={"frame": frame}), labels, {"samples": table, "classes": CLASSES}
    )
    return ModelSets("planted", feature_set, label_set, False, "patchbank extract planted.toml")


def write_set(folder, spec, values, tables, range_bytes=1024):
    """Write and seal a set of these arrays and tables; return it."""
    arrays = [
        ArraySpec(name=name, row_shape=rows.shape[1:], dtype=str(rows.dtype), dimension_names=axes, attributes=facts)
        for name, (rows, axes, facts) in values.items()
    ]
    n_rows = len(tables["samples"])
    layout = plan_layout(n_rows, max(array.row_bytes for array in arrays), range_bytes=range_bytes)
    made = ZarrSet.create(LocalObjects(folder), spec, layout, tables, {"device": "cpu"}, {})
    made.add_arrays(arrays)
    with SetWriter(made, [array.name for array in arrays]) as writer:
        for row_range in layout.ranges():
            one = writer.range(row_range)
            for name, (rows, _, _) in values.items():
                one.write(name, rows[row_range.start : row_range.stop])
            one.commit().result()
    assert seal(made, [array.name for array in arrays]) == {}
    return made
