"""Sealed sets of made-up representations: Gram matrices as they are captured, class tokens, means and sub-layers."""

import numpy as np
import pandas as pd

from evaluate.inputs.model_sets import ModelSets
from tests.evaluate.planted import CLASSES, write_set
from tests.stores.specs_for_tests import FEATURES, LABELS

POINT_DEPTHS = {"output": 1.0}


def table_of(n_rows, invalid=(), validation=()):
    """One tile a source; the rows ``validation`` are of the split val."""
    return pd.DataFrame(
        {
            "sample": [f"image{row:04d}.png[0,0]" for row in range(n_rows)],
            "source": [f"image{row:04d}.png" for row in range(n_rows)],
            "group": "all",
            "split": ["val" if row in validation else "train" for row in range(n_rows)],
            "valid": [row not in invalid for row in range(n_rows)],
            "reason": ["unreadable" if row in invalid else "" for row in range(n_rows)],
        }
    )


def lower_triangles(tokens, size):
    """Return the products of every row with the earlier rows of its minibatch, as pipeline/captures/grams.py does."""
    vectors = tokens.reshape(len(tokens), -1).astype(np.float64)
    rows = np.zeros((len(vectors), size))
    for row in range(len(vectors)):
        first = row // size * size
        rows[row, : row - first + 1] = vectors[first : row + 1] @ vectors[row]
    return rows


def compared(
    folder, title, layers, *, size=32, invalid=(), validation=(), spec=FEATURES, grams=True, range_bytes=1 << 13
):
    """Write a model's sets and return them.

    ``layers`` maps (block, point) to tokens ``sample token channel`` with the class token first, which is left out of
    the arrays of a model where ``layers`` has a key ``"no class token"``.
    """
    layers = dict(layers)
    n_prefix = 0 if layers.pop("no class token", False) else 1
    n_rows = len(next(iter(layers.values())))
    values = {}
    for (block, point), tokens in layers.items():
        name = f"block.{block}" if point == "output" else f"block.{block}.{point}"
        depth = block + POINT_DEPTHS.get(point, 0.5)
        facts = {"layer": block, "norm": None, "point": point, "depth": depth}
        parts = {"patches": tokens[:, n_prefix:]} | ({"prefix": tokens[:, :1]} if n_prefix else {})
        for kind, part in parts.items() if grams else ():
            address = f"grams/{name}.{kind}.rows{size}"
            values[address] = (
                lower_triangles(part, size),
                ("sample", f"minibatch_{size}"),
                {**facts, "tokens": kind, "rows_together": size},
            )
        if point == "output":
            of_layer = {"layer": block, "norm": False}
            if n_prefix:
                values[f"prefix/{name}"] = (tokens[:, :1], ("sample", "prefix", "channel"), of_layer)
            mean = tokens[:, n_prefix:].mean(axis=1, dtype=np.float64).astype(np.float32)
            values[f"means/{name}"] = (mean, ("sample", "channel"), of_layer)
        else:
            values[f"sublayers/{name}"] = (tokens, ("sample", "token", "channel"), {**facts, "n_prefix": n_prefix})
    table = table_of(n_rows, invalid, validation)
    features = write_set(folder, spec, values, {"samples": table}, range_bytes)
    labels = write_set(folder, LABELS, {"pixels/classes": (np.zeros((n_rows, 1, 1), np.uint8),
                       ("sample", "height", "width"), {})}, {"samples": table, "classes": CLASSES})  # fmt: skip
    return ModelSets(title, features, labels, False, "patchbank extract planted.toml")


def related(seed, n_rows=96, n_patches=4, channels=6, n_layers=3, noise=0.7, n_prefix=1, latent_seed=0):
    """Return outputs of some layers, each a linear map of latent numbers of the images and noise, float32.

    Models with the same ``latent_seed`` share the latent numbers; later layers have more noise of their own.
    """
    latent = np.random.default_rng(latent_seed).normal(size=(n_rows, 5))
    rng = np.random.default_rng(100 + seed)
    n_tokens = n_patches + n_prefix
    layers = {}
    for block in range(n_layers):
        shown = latent @ rng.normal(size=(5, n_tokens * channels)) / 3.0
        own = rng.normal(size=shown.shape) * noise * (block + 1)
        layers[block, "output"] = (shown + own).reshape(n_rows, n_tokens, channels).astype(np.float32)
    return layers | ({} if n_prefix else {"no class token": True})
