"""Two models of labelled images with boxes: class token and mean hold class, place of the object and a changed view."""

import numpy as np
import pandas as pd

from evaluate.inputs.model_sets import ModelSets, ViewSets
from stores.specs import FrameSpec, Size, ViewSpec
from tests.evaluate.planted import CLASSES, write_set
from tests.stores.specs_for_tests import FEATURES, LABELS

SIDE = 64
RANGE_BYTES = 1 << 16
GRID = ("grid_rows", "grid_columns")


def planted_images(folder, *, n_images=90, width=12, layers=2, seed=0):
    """Return two models. Classes are means of norm 3 in the last layer, noise in the first.

    The first three channels of ``means`` are 10 times x, y of the largest box and log(1 + its number of objects);
    the second model's vectors are other noise about the same class means.
    """
    rng = np.random.default_rng(seed)
    classes = np.arange(n_images) % 3
    names = [f"{number:03d}.png" for number in range(n_images)]
    whole = {"left": 0, "top": 0, "right": SIDE, "bottom": SIDE}
    table = pd.DataFrame(
        {
            "sample": names,
            "source": names,
            "group": "all",
            "split": ["val" if number % 3 == 0 else "train" for number in rng.permutation(n_images)],
            "source_width": SIDE,
            "source_height": SIDE,
            "tile_row": 0,
            "tile_column": 0,
            **whole,
            **{f"owned_{name}": value for name, value in whole.items()},
            "image_class": classes,
            "source_sha256": "",
            "label_sha256": "",
            "valid": True,
            "reason": "",
        }
    )
    counts = rng.integers(0, 4, n_images)
    centres, objects = np.zeros((n_images, 2)), []
    for number, count in enumerate(counts):
        for index in range(count):
            half = 8 - 2 * index  # the first is the largest
            x, y = rng.uniform(8, SIDE - 8, 2)
            if index == 0:
                centres[number] = x / SIDE, y / SIDE
            box = {"left": x - half, "top": y - half, "right": x + half, "bottom": y + half}
            objects.append({"source": names[number], "category": 1, "ignore": False, "flags": "", **box})
    for one in objects:
        one |= {"video": "", "frame": 0, "seconds": 0.0, "track": "", "visibility": 1.0, "polygon": [0.0] * 6}
    frame = {"frame": FrameSpec(input=Size(height=SIDE, width=SIDE))}
    labels = write_set(
        folder / "labels",
        LABELS.model_copy(update={**frame, "objects": True, "pixel_labels": False}),
        {
            "patches/1x1": (
                classes[:, None].astype(np.uint8),
                ("sample", "patch_1x1"),
                {"grid_rows": 1, "grid_columns": 1},
            )
        },
        {"samples": table, "classes": CLASSES, "objects": pd.DataFrame(objects)},
        RANGE_BYTES,
    )
    means = rng.normal(size=(3, width))
    means *= 3.0 / np.linalg.norm(means, axis=1, keepdims=True)
    models = []
    for title in ("one", "other"):
        clean, viewed = {}, {}
        for layer in range(layers):
            vectors = rng.normal(size=(n_images, width))
            if layer == layers - 1:
                vectors += means[classes]
            placed = vectors.copy()
            placed[:, :3] = 10 * np.column_stack([centres, np.log1p(counts)])
            facts = {"layer": layer, "norm": True}
            axes = {"prefix": ("sample", "prefix", "channel"), "means": ("sample", "channel")}
            for group, values in (("prefix", vectors[:, None]), ("means", placed)):
                clean[f"{group}/block.{layer}.norm"] = (values.astype(np.float32), axes[group], facts)
                changed = (values + 0.5 * rng.normal(size=values.shape)).astype(np.float32)
                viewed[f"{group}/block.{layer}.norm"] = (changed, axes[group], facts)
        spec = FEATURES.model_copy(update={**frame, "model": FEATURES.model.model_copy(update={"name": title})})
        made = write_set(folder / title, spec, clean, {"samples": table}, RANGE_BYTES)
        flip = spec.model_copy(update={"view": ViewSpec(name="flip", parameters={"level": 1.0})})
        under = write_set(folder / f"{title} flip", flip, viewed, {"samples": table}, RANGE_BYTES)
        views = {("flip", 1.0): ViewSets("flip", 1.0, under, labels)}
        models.append(ModelSets(title, made, labels, False, "patchbank extract planted.toml", views))
    return models
