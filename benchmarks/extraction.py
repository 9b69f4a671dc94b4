"""Extraction against the bare model and against the end-to-end floor, in one process.

The bare model is timm's ``forward_features`` on pixels that are in memory, in the same batches; "model and norms" adds
what any extraction computes, the final norm of every layer and the cast to float16. The floor is the slowest of three
stages run alone on all cores: decoding, the bare model, writing the same arrays. All layers are stored and sealed.
Without a GPU the stages share the processor, and the seconds of all of them, sealing too, are what can be reached.
Every repeat runs the stages and the extraction one after another, and the ratio is taken inside it, because shared
machines drift.
"""

import os
import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.measure import measure, row
from demo.street import write_street_world
from pipeline.dataset_recipe import DatasetRecipe
from pipeline.extraction import run
from pipeline.extraction.compute import choose_compute
from pipeline.extraction.extract import extract
from pipeline.extraction.job import Job, prepare
from pipeline.extraction.loading import Loader
from pipeline.extraction.model_pass.running import ModelPass
from pipeline.frame_recipe import FrameRecipe
from pipeline.models import build_model
from pipeline.recipe import FeatureRecipe, ModelRecipe, Recipe
from stores import Store
from stores.specs import Size
from stores.writing.writer import SetWriter

MODEL = ModelRecipe(name="vit_small_patch16_224", weights="random")
REPEATS = 3


def job_in(folder: Path, store: Path) -> Job:
    """Return the extraction of 150 painted tiles with ViT-S/16, all layers, in a new store."""
    recipe = Recipe(
        dataset=DatasetRecipe(name="cityscapes", folder="world"),
        frame=FrameRecipe(input=Size(height=224, width=224), tile=Size(height=256, width=256)),
        models=(MODEL,),
        features=FeatureRecipe(norm="final"),
    )
    site = run.Workspace(Store(store), folder, folder)
    samples = run.read_samples(recipe, site)
    return prepare(recipe, MODEL, build_model(MODEL, Size(height=224, width=224), folder), samples, site.store)


def bare_model(job: Job, batches: list[np.ndarray], device: str) -> None:
    """Run the model as timm has it on pixels in memory."""
    with torch.inference_mode():
        for pixels in batches:
            inputs = job.model.normalise(torch.from_numpy(pixels).to(device).float())
            job.model.forward(inputs)
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def model_and_norms(job: Job, batches: list[np.ndarray], device: str) -> None:
    """Run the model with the final norm of every layer and the cast, keeping nothing: what any extraction computes."""
    capture = ModelPass(job.model, job.arrays, job.precision)
    for pixels in batches:
        capture(torch.from_numpy(pixels).to(device).float())[1].cpu()


def write_alone(job: Job, store: Store, device: str) -> None:
    """Write arrays of the job's shapes, committed, without a model."""
    from stores import ZarrSet

    made = ZarrSet.create(store.objects, job.spec, job.layout, {}, {"device": device}, {})
    made.add_arrays(job.arrays)
    block = {a.name: np.zeros((16, *a.row_shape), a.dtype) for a in job.arrays}
    with SetWriter(made, block) as writer:
        for row_range in job.layout.ranges():
            one = writer.range(row_range)
            for start in range(row_range.start, row_range.stop, 16):
                for name, values in block.items():
                    one.write(name, values[: row_range.stop - start])
            one.commit()
        writer.close()
        writer.raise_failures()


def rows() -> list[dict[str, Any]]:
    """Return the extraction's rate over the bare model's and over the floor's."""
    compute = choose_compute(None, None)
    to_model, to_capture, to_floor, to_sum, seconds, peaks, stages = [], [], [], [], [], [], {}
    with tempfile.TemporaryDirectory(dir=os.environ.get("PATCHBANK_BENCH_DIR")) as name:
        folder = Path(name)
        write_street_world(folder / "world", images_per_city={"train": {"alpha": 40}, "val": {"beta": 35}})
        job = job_in(folder, folder / "warm")
        job.model.module.to(compute.device)
        loader = Loader(job.samples, "bicubic", compute.batch_size, 2)
        batches = [batch.pixels for batch in loader.batches(job.layout.ranges())]
        bare_model(job, batches[:2], compute.device)
        for repeat in range(REPEATS):
            store = Store(folder / f"store{repeat}")
            model = measure(lambda: bare_model(job, batches, compute.device))
            fresh = Loader(job.samples, "bicubic", compute.batch_size, os.cpu_count() or 1)
            decode = measure(lambda fresh=fresh: sum(1 for _ in fresh.batches(job.layout.ranges())))  # type: ignore[misc]
            alone = Store(folder / f"alone{repeat}")
            write = measure(lambda alone=alone: write_alone(job, alone, compute.device))  # type: ignore[misc]
            ours = measure(lambda store=store: extract(job, store, compute))  # type: ignore[misc]
            layers = measure(lambda: model_and_norms(job, batches, compute.device))
            again = measure(lambda: bare_model(job, batches, compute.device))
            bare = (model.seconds + again.seconds) / 2
            to_model.append(bare / ours.seconds)
            to_capture.append(layers.seconds / ours.seconds)
            to_floor.append(max(bare, decode.seconds, write.seconds) / ours.seconds)
            sealing = ours.result.seconds.seal
            to_sum.append((bare + decode.seconds + write.seconds + sealing) / ours.seconds)
            seconds.append(ours.seconds)
            peaks.append(ours.peak_bytes)
            stages = {
                "model_seconds": round(bare, 3),
                "decode_seconds": round(decode.seconds, 3),
                "write_seconds": round(write.seconds, 3),
                "seal_seconds": round(sealing, 3),
            }
    median, peak, n_rows = statistics.median(seconds), max(peaks), job.layout.n_rows
    more = {"rows": n_rows, "device": compute.device, **stages}
    return [
        row(
            "extract, all layers",
            statistics.median(to_capture),
            "at least",
            0.95,
            median,
            peak,
            "model and norms",
            **more,
        ),
        row(
            "extract, all layers",
            statistics.median(to_model),
            "at least",
            0.95,
            median,
            peak,
            "bare timm model",
            **more,
        ),
        row(
            "extract, all layers", statistics.median(to_floor), "at least", 0.95, median, peak, "slowest stage", **more
        ),
        row(
            "extract, all layers",
            statistics.median(to_sum),
            "at least",
            None,
            median,
            peak,
            "all stages in turn",
            **more,
        ),
    ]
