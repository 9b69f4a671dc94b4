"""Specs, arrays and rows that the store tests share."""

import numpy as np
import pandas as pd

from stores.format.layout import Layout
from stores.specs import ArraySpec, DatasetRecord, FeatureSpec, FrameSpec, LabelSpec, ModelRecord, Size, ViewSpec

DATASET = DatasetRecord(name="camvid", revision=1, n_sources=3, sources="1" * 64)
FRAME = FrameSpec(input=Size(height=224, width=224), tile=Size(height=240, width=240), edge="shift-last")
MODEL = ModelRecord(
    name="vit_small_patch16_224",
    family="timm",
    revision=1,
    weights="2" * 64,
    position_embedding="native",
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    interpolation="bicubic",
)
FEATURES = FeatureSpec(
    dataset=DATASET, samples="3" * 64, frame=FRAME, view=ViewSpec(), model=MODEL, revisions={"capture": 1}
)
LABELS = LabelSpec(
    dataset=DATASET,
    samples="3" * 64,
    frame=FRAME,
    view=ViewSpec(),
    label_files="4" * 64,
    classes="5" * 64,
    facts="f" * 64,
    pixel_labels=True,
    objects=False,
    revisions={"frames": 1},
)


def token_array(name="tokens/block.0", patches=4, channels=6, dtype="float16"):
    return ArraySpec(
        name=name,
        row_shape=(patches, channels),
        dtype=dtype,
        dimension_names=("sample", "patch", "channel"),
        attributes={"layer": 0, "norm": False},
    )


def samples(n_rows):
    return pd.DataFrame({"sample": [f"image{row}.png[0,0]" for row in range(n_rows)]})


def values(spec, n_rows, seed=0):
    rng = np.random.default_rng(seed)
    shape = (n_rows, *spec.row_shape)
    if spec.dtype.startswith("float"):
        return rng.normal(size=shape).astype(spec.dtype)
    return rng.integers(0, 20, size=shape).astype(spec.dtype)


def layout(n_rows, range_rows, compression="none"):
    return Layout(n_rows=n_rows, range_rows=range_rows, compression=compression)
