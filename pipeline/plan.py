"""Knowing the cost before anything is run: rows, objects, bytes, memory, time, coverage. Writes nothing."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from pipeline.capture import Capture
from pipeline.compute import Compute
from pipeline.frames import tiles
from pipeline.job import Job, prepare
from pipeline.loading import read_tiles
from pipeline.models import build_model
from pipeline.recipe import Recipe
from pipeline.run import Site
from pipeline.samples import Samples
from stores.errors import UserError
from stores.specs import VOID

MANY_OBJECTS = 100_000
LITTLE_COVERAGE = 0.95
_LABEL_FILES = 50
"""Label files that are read, evenly spread, to estimate how much of what is labelled the tiles show."""


@dataclass(frozen=True)
class ModelPlan:
    """What extracting one model would take."""

    title: str
    state: str
    """``sealed``, ``partial``, ``missing``, or ``weights not here``."""
    set: str | None
    """Digest of the set, None when the weights that would tell it are not here."""
    arrays: int
    rows: int
    rows_missing: int
    objects: int
    bytes: int
    bytes_missing: int
    memory_bytes: int
    """Estimate of what is used above imports: weights, buffers and twice a batch's tokens."""
    seconds_per_row: float | None
    """From one timed batch on this device; None when nothing is missing or timing was declined."""

    @property
    def seconds(self) -> float | None:
        """Estimated time for what is missing."""
        return None if self.seconds_per_row is None else self.seconds_per_row * self.rows_missing

    def canonical(self) -> dict[str, Any]:
        """Return the plan as plain JSON values."""
        return {**self.__dict__, "seconds": self.seconds}


def plan_models(
    recipe: Recipe, site: Site, samples: Samples, compute: Compute, *, timed: bool = True
) -> Iterator[ModelPlan]:
    """Yield the plan of every model; models whose weights are not here are planned with drawn ones."""
    for model_recipe in recipe.models:
        here = True
        try:
            model = build_model(model_recipe, recipe.frame.input, site.folder)
        except UserError:
            if model_recipe.weights == "random":
                raise
            here = False
            model = build_model(model_recipe.model_copy(update={"weights": "random"}), recipe.frame.input, site.folder)
        yield _plan(prepare(recipe, model_recipe, model, samples, site.store), here, compute, timed)


def _plan(job: Job, weights_here: bool, compute: Compute, timed: bool) -> ModelPlan:
    rows_missing = sum(row_range.stop - row_range.start for row_range in job.missing())
    weights = sum(value.numel() * value.element_size() for value in job.model.module.state_dict().values())
    activations = 2 * compute.batch_size * 4 * job.model.width * (job.model.n_patches + job.model.n_prefix)
    return ModelPlan(
        title=job.title,
        state=job.state if weights_here else "weights not here",
        set=job.spec.digest if weights_here else None,
        arrays=len(job.arrays),
        rows=job.layout.n_rows,
        rows_missing=rows_missing,
        objects=job.n_objects,
        bytes=job.layout.n_rows * job.row_bytes,
        bytes_missing=job.missing_bytes,
        memory_bytes=weights + job.buffer_bytes(compute.batch_size) + activations * len(job.model.blocks),
        seconds_per_row=_seconds_per_row(job, compute) if timed and rows_missing else None,
    )


def _seconds_per_row(job: Job, compute: Compute) -> float:
    """Time one batch: decoding and model side by side, as in an extraction; writing is not counted."""
    n_rows = min(compute.batch_size, job.layout.n_rows)
    first_source = job.samples.tiles[0][0]
    here = sum(1 for name, _ in job.samples.tiles if name == first_source)
    before = time.perf_counter()
    pixels = read_tiles(job.samples, job.spec.model.interpolation, 0, here)
    decode = (time.perf_counter() - before) / here
    job.model.module.to(device=compute.device, dtype=getattr(torch, job.spec.compute_dtype))
    run = Capture(job.model, job.arrays, job.spec.compute_dtype)
    batch = torch.from_numpy(np.resize(pixels, (n_rows, *pixels.shape[1:]))).to(compute.device).float()
    run(batch[:1])[1].cpu()  # the first call pays for kernels and caches
    before = time.perf_counter()
    run(batch)[1].cpu()
    return max((time.perf_counter() - before) / n_rows, decode)


def labelled_coverage(samples: Samples) -> float | None:
    """Return the share of labelled pixels that some tile shows, from at most 50 label files; None without labels."""
    labelled = [name for name in samples.sources if name in samples.label_digests]
    if not labelled:
        return None
    step = max(1, len(labelled) // _LABEL_FILES)
    shown = total = 0
    for name in labelled[::step][:_LABEL_FILES]:
        known = samples.dataset.pixel_classes(samples.sources[name]) != VOID
        size, frame = samples.sizes[name], samples.frame
        plane = frame.resize or size
        total += int(known.sum())
        for tile in tiles(frame, size):
            left, top, right, bottom = tile.owned
            rows = slice(top * size.height // plane.height, bottom * size.height // plane.height)
            columns = slice(left * size.width // plane.width, right * size.width // plane.width)
            shown += int(known[rows, columns].sum())
    return shown / total if total else None


def warnings(plans: list[ModelPlan], samples: Samples, labelled: float | None, free: int | None) -> list[str]:
    """Return one sentence for everything a user should know before starting."""
    lines = list(samples.dataset.notes())
    for share, what in ((samples.coverage, "of all pixels"), (labelled, "of the labelled pixels")):
        if share is not None and share < LITTLE_COVERAGE:
            lines.append(
                f'the tiles cover only {share:.0%} {what}: set edge = "shift-last" or "pad" in [frame], or another size'
            )
    lines += [
        f"{plan.title} makes {plan.objects:,} objects: raise range_megabytes in [storage] or keep fewer arrays"
        for plan in plans
        if plan.objects > MANY_OBJECTS
    ]
    needed = sum(plan.bytes_missing for plan in plans)
    if free is not None and needed > free:
        lines.append(
            f"{needed / 1e9:.1f} GB are to be written and {free / 1e9:.1f} GB are free: `patchbank extract` will refuse"
        )
    return lines
