"""A planted Cityscapes-shaped world: 18 training cities of eight images and 3 validation cities of ten, few channels.

The numbers of features that paper A removes are scaled to the width as the claims scale them: 200 of 768 are 17 of 64.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from evaluate.inputs.model_sets import ModelSets
from stores.specs import FrameSpec, Size
from tests.evaluate.planted import write_set
from tests.stores.specs_for_tests import DATASET, FEATURES, LABELS

CLASSES = ("road", "building", "vegetation", "car", "person", "bus", "sky", "fence")
EASY = ("road", "building", "sky")
CHANNELS, LAYERS, GRID, PIXELS = 64, 3, 3, 2
"""Features, layers, patches on a side of a tile, and pixels on a side of a patch."""
TRAIN_CITIES, TRAIN_IMAGES, VALIDATION_CITIES, VALIDATION_IMAGES = 18, 8, 3, 10
RANGE_BYTES = 1 << 20


@dataclass(frozen=True)
class Plant:
    """What a model's tokens hold: the class of every patch, seen more or less well, and features without a class."""

    confused: float
    """Share of the patches whose tokens show another class: what neither probes nor neighbours can know."""
    high: tuple[float, ...] = ()
    """Standard deviations of features of high variance without a class; the others have about 0.5."""
    noise: float = 0.25
    """Standard deviation of the noise in every feature."""


HIGH = (1000.0, *np.linspace(1.9, 1.7, 20))
"""The first alone hides every class from neighbours; the others hide some, a few of them when 17 are removed."""
MODELS = {
    "mae": Plant(0.02, HIGH, 0.75),
    "dino": Plant(0.07),
    "supervised": Plant(0.14),
    "random": Plant(1.0),
}
TITLES = {"mae": "MAE", "dino": "DINO", "supervised": "Supervised", "random": "Random weights"}


def city_models(folder, plants, *, whole=False):
    """Return the sets of some models by role, of tiles or of whole images."""
    size = Size(height=GRID * PIXELS, width=GRID * PIXELS)
    facts = {
        "frame": FrameSpec(input=size, tile=None if whole else size),
        "dataset": DATASET.model_copy(update={"name": "cityscapes"}),
    }
    table = _samples()
    classes = np.random.default_rng(7).integers(0, len(CLASSES), (len(table), GRID * GRID)).astype(np.uint8)
    pixels = np.repeat(np.repeat(classes.reshape(-1, GRID, GRID), PIXELS, 1), PIXELS, 2)
    grid = {"grid_rows": GRID, "grid_columns": GRID}
    stored = {
        "pixels/classes": (pixels, ("sample", "height", "width"), {}),
        f"patches/{GRID}x{GRID}": (classes, ("sample", "patch"), grid),
    }
    tables = {"samples": table, "classes": _classes()}
    labels = write_set(folder, LABELS.model_copy(update=facts), stored, tables, RANGE_BYTES)
    models = []
    for seed, (role, plant) in enumerate(plants.items()):
        spec = FEATURES.model_copy(update={**facts, "samples": f"{seed}" * 64})  # a digest of its own
        arrays = {
            f"tokens/block.{layer}.norm": (
                tokens,
                ("sample", "patch", "channel"),
                {"layer": layer, "norm": True, **grid},
            )
            for layer, tokens in enumerate(_tokens(plant, classes, np.random.default_rng(seed)))
        }
        features = write_set(folder, spec, arrays, {"samples": table}, RANGE_BYTES)
        models.append(ModelSets(TITLES[role], features, labels, False, "patchbank extract planted.toml", role=role))
    return models


def _tokens(plant, classes, rng):
    """Yield the tokens of every layer; deeper ones know the classes better."""
    means = np.random.default_rng(8).normal(size=(len(CLASSES), CHANNELS)) * np.exp(-np.arange(CHANNELS) / 12.0)
    means *= 3.0 / np.linalg.norm(means, axis=1, keepdims=True)
    for layer in range(LAYERS):
        confused = plant.confused + 0.15 * (LAYERS - 1 - layer)
        seen = np.where(rng.random(classes.shape) < confused, rng.integers(0, len(CLASSES), classes.shape), classes)
        tokens = means[seen] + rng.normal(size=(*classes.shape, CHANNELS)) * plant.noise
        if plant.high:
            tokens[..., -len(plant.high) :] = rng.normal(size=(*classes.shape, len(plant.high))) * plant.high
        yield tokens.astype(np.float16)


def _samples():
    """Return the sample table: one tile an image, which is all of it."""
    side = GRID * PIXELS
    images = [("train", f"city{n:02d}", image) for n in range(TRAIN_CITIES) for image in range(TRAIN_IMAGES)]
    images += [("val", f"town{n}", image) for n in range(VALIDATION_CITIES) for image in range(VALIDATION_IMAGES)]
    edges = {"left": 0, "top": 0, "right": side, "bottom": side}
    shared = {"tile_row": 0, "tile_column": 0, **edges, **{f"owned_{name}": at for name, at in edges.items()}}
    shared |= {"image_class": -1, "source_sha256": "", "label_sha256": "", "valid": True, "reason": ""}
    names = [f"{split}/{group}_{image}.png" for split, group, image in images]
    own = zip(names, images, strict=True)
    return pd.DataFrame(
        [
            {"sample": f"{name}[0,0]", "source": name, "group": group, "split": split, **shared}
            for name, (split, group, _) in own
        ]
    )


def _classes():
    """Return the class table."""
    shades = range(0, 8 * len(CLASSES), 8)
    listed = {"id": range(len(CLASSES)), "name": CLASSES, "supercategory": CLASSES}
    return pd.DataFrame(
        {**listed, "red": shades, "green": shades, "blue": shades, "easy": [n in EASY for n in CLASSES]}
    )
