"""What captures cost: a pass with them over the plain extraction pass of the same model, in one process.

The plain pass runs the model, norms every layer and casts it to float16, which any extraction computes
(`benchmarks.extraction.model_and_norms`); the other computes the same arrays and those of the captures. Both get the
same pixels in memory, two batches of 16, so that a minibatch of Gram matrices is complete. They take turns, each first
every other time; the ratio is taken inside a pair and the median of the pairs is printed. Threads are as the
environment says: the figures in README.md are of one.
"""

import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.measure import pairs, row
from pipeline.captures.table import wanted_arrays
from pipeline.extraction.model_pass.running import ModelPass
from pipeline.models import build_model
from pipeline.models.contract import FrozenModel
from pipeline.recipe import FeatureRecipe, ModelRecipe
from stores.specs import Size

MODELS = {"ViT-S/16": "vit_small_patch16_224", "ViT-B/16": "vit_base_patch16_224"}
STAGES: dict[str, dict[str, Any]] = {
    "attention": {"captures": ("attention", "class-attention")},
    "grams, outputs": {"captures": ("grams",)},
    "frequency": {"captures": ("frequency",)},
    "token statistics": {"captures": ("token-statistics",)},
    "covariances": {"captures": ("covariances",)},
    "all of these": {
        "captures": ("attention", "class-attention", "frequency", "token-statistics", "covariances", "grams")
    },
}
"""Keys of [features] by stage; all 12 blocks each."""
GOALS = {"attention": 1.15, "grams, outputs": 1.15}
BATCH, BATCHES, REPEATS = 16, 2, 3


def rows() -> Iterator[dict[str, Any]]:
    """Yield the time of a pass with captures over the plain pass, a line a stage and model."""
    random = np.random.default_rng(0)
    batches = [random.integers(0, 256, (BATCH, 224, 224, 3), np.uint8) for _ in range(BATCHES)]
    for title, name in MODELS.items():
        size = Size(height=224, width=224)
        model = build_model(ModelRecipe(name=name, weights="random"), size, Path())
        plain = _passes(model, batches, {})
        for stage, keys in STAGES.items():
            ours, peer = pairs(_passes(model, batches, keys), plain, REPEATS)
            ratios = [one.seconds / other.seconds for one, other in zip(ours, peer, strict=True)]
            seconds, peak = statistics.median(one.seconds for one in ours), max(one.peak_bytes for one in ours)
            more = {
                "rows": BATCH * BATCHES,
                "plain_peak_bytes": max(one.peak_bytes for one in peer),
                "spread": [round(min(ratios), 3), round(max(ratios), 3)],
                "threads": torch.get_num_threads(),
            }
            ratio = statistics.median(ratios)
            yield row(f"{title}, {stage}", ratio, "at most", GOALS.get(stage), seconds, peak, "plain pass", **more)


def _passes(model: FrozenModel, batches: list[np.ndarray], keys: dict[str, Any]) -> Any:
    """Return what runs the model on all batches and keeps none of its arrays."""
    arrays = wanted_arrays(model, FeatureRecipe(norm="final", **keys))
    capture = ModelPass(model, arrays, "float32")

    def run(repeat: int) -> None:
        for number, pixels in enumerate(batches):
            capture(torch.from_numpy(pixels).float(), rows=range(number * BATCH, (number + 1) * BATCH))

    return run
