"""A sealed set with captured arrays whose truth is known: attention of stored queries and keys, tokens, frequencies."""

import numpy as np
import pandas as pd
import torch

from evaluate.inputs.model_sets import ModelSets
from pipeline.captures.attention import STATISTICS, attention_statistics, class_attention
from pipeline.captures.points import AttentionCall
from stores.specs import FrameSpec, Size
from tests.evaluate.planted import CLASSES, write_set
from tests.stores.specs_for_tests import FEATURES, LABELS

HEADS, HEAD_CHANNELS, PREFIX = 2, 8, 1
CHANNELS = HEADS * HEAD_CHANNELS


def table_of(n_images, tiles, side):
    """The sample table: the first half trains, the second validates; classes of images alternate."""
    return pd.DataFrame(
        [
            {
                "sample": f"image{image:02d}.png[0,{tile}]",
                "source": f"image{image:02d}.png",
                "group": "a",
                "split": "train" if image < n_images // 2 else "val",
                "tile_row": 0,
                "tile_column": tile,
                "left": tile * side,
                "top": 0,
                "right": (tile + 1) * side,
                "bottom": side,
                "image_class": image % 2,
                "valid": True,
                "reason": "",
            }
            for image in range(n_images)
            for tile in range(tiles)
        ]
    )


def calls(query, key, bias=None):
    """The call of the attention kernel with these queries and keys."""
    query, key = (torch.from_numpy(some.astype(np.float32)) for some in (query, key))
    bias = None if bias is None else torch.from_numpy(bias.astype(np.float32))
    return AttentionCall(query, key, key, query, bias, HEAD_CHANNELS**-0.5)


def amplitudes(tokens, grid):
    """numpy's fft2, channel by channel, as the notebook of cl-vs-mim has it."""
    maps = tokens.astype(np.float64).transpose(0, 2, 1).reshape(len(tokens), -1, *grid)
    logs = np.log(np.abs(np.fft.fft2(maps)) + 1e-6).mean(axis=1)
    return np.stack([np.diag(np.fft.fftshift(one))[grid[0] // 2 :] for one in logs])


def write_captures(
    folder,
    *,
    n_images=24,
    tiles=2,
    grid=4,
    patch=4,
    layers=2,
    rank=3,
    biased=False,
    order=None,
    seed=0,
    title="planted",
):
    """Write the set; rows are in ``order``, so that two sets hold the same images in different rows.

    Tokens of layer k have rank ``rank + k`` in every image, attention is that of ``query`` and ``key``, with an added
    bias where it is ``biased``. Returns the model and everything that was written, by address, before it was rounded.
    """
    rng = np.random.default_rng(seed)
    side, n_patches = grid * patch, grid * grid
    table = table_of(n_images, tiles, side)
    n_rows = len(table)
    facts = {"norm": None, "grid_rows": grid, "grid_columns": grid}
    arrays = {}
    residual = rng.normal(size=(n_rows, PREFIX + n_patches, CHANNELS))
    inside = ("sample", "token", "channel")
    where = {"n_prefix": PREFIX, **facts}
    arrays["sublayers/embedding"] = residual, inside, {"layer": 0, "point": "embedding", "depth": 0.0, **where}
    for layer in range(layers):
        query, key = rng.normal(size=(2, n_rows, HEADS, PREFIX + n_patches, HEAD_CHANNELS)).astype(np.float16)
        bias = rng.normal(size=(1, 1, PREFIX + n_patches, PREFIX + n_patches)) * 3 if biased else None
        call = calls(query, key, bias)
        statistics = attention_statistics(call, PREFIX, (grid, grid), (float(patch), float(patch))).numpy()
        names, numbered = {"statistics": " ".join(STATISTICS)}, {"layer": layer, **facts}
        arrays[f"attention/block.{layer}"] = statistics, ("sample", "statistic", "head"), numbered | names
        of_class = class_attention(call, PREFIX).numpy()
        arrays[f"attention/block.{layer}.class"] = of_class, ("sample", "head", "patch"), numbered
        for name, values in (("query", query), ("key", key)):
            point = {"layer": layer, "point": "kernel", "depth": layer + 0.5, **where}
            arrays[f"sublayers/block.{layer}.{name}"] = values, ("sample", "head", "token", "head_channel"), point
        point = {"layer": layer, "point": "attention-residual", "depth": layer + 0.5, **where}
        arrays[f"sublayers/block.{layer}.attention-residual"] = residual + 0.1 * layer, inside, point
        low = rng.normal(size=(n_rows, n_patches, rank + layer)) @ rng.normal(size=(n_rows, rank + layer, CHANNELS))
        plain = {"layer": layer, "norm": False, "grid_rows": grid, "grid_columns": grid}
        arrays[f"tokens/block.{layer}"] = low.astype(np.float32), ("sample", "patch", "channel"), plain
        point = {"layer": layer, "point": "output", "depth": layer + 1.0, **facts}
        logs = amplitudes(low.astype(np.float32), (grid, grid)).astype(np.float32)
        arrays[f"frequency/block.{layer}"] = logs, ("sample", f"frequency_{grid // 2}"), point
        cosines = {"statistics": "space_cosine depth_cosine variance head_cosine"}
        values = rng.uniform(0.1, 0.9, (n_rows, 4)).astype(np.float32)
        arrays[f"statistics/block.{layer}"] = values, ("sample", "statistic"), {**point, **cosines}
    order = np.arange(n_rows) if order is None else order
    table = table.iloc[order].reset_index(drop=True)
    arrays = {
        name: (values[order] if values.dtype != np.float64 else values[order].astype(np.float32), axes, noted)
        for name, (values, axes, noted) in arrays.items()
    }
    classes = rng.integers(0, 3, (n_rows, n_patches)).astype(np.uint8)[order]
    pixels = rng.integers(0, 256, (n_rows, side, side, 3)).astype(np.uint8)[order]
    labels = {
        f"patches/{grid}x{grid}": (
            classes,
            ("sample", f"patch_{grid}x{grid}"),
            {"grid_rows": grid, "grid_columns": grid},
        ),
        "inputs/pixels.bicubic": (pixels, ("sample", "height", "width", "colour"), {}),
    }
    frame = {"frame": FrameSpec(input=Size(height=side, width=side), tile=Size(height=side, width=side))}
    tables = {"samples": table, "classes": CLASSES}
    features = write_set(folder, FEATURES.model_copy(update=frame), arrays, {"samples": table}, 1 << 20)
    label_set = write_set(folder, LABELS.model_copy(update=frame), labels, tables, 1 << 20)
    model = ModelSets(title, features, label_set, False, "patchbank extract planted.toml")
    return model, {name: values for name, (values, _, _) in arrays.items()}
