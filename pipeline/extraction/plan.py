"""Estimates what an extraction would take: rows, objects, bytes, memory, time, coverage. Writes nothing."""

import dataclasses
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8

from pipeline.extraction.compute import Compute
from pipeline.extraction.computing import halved
from pipeline.extraction.job import SAMPLE_STATS, Job, LabelJob
from pipeline.extraction.loading import full_shape
from pipeline.extraction.model_pass.capture import Capture
from pipeline.extraction.model_pass.device import open_device
from pipeline.extraction.model_pass.precision import converted
from pipeline.extraction.run import Workspace, view_jobs
from pipeline.extraction.taking_over import known_rows, passes
from pipeline.recipe import OWN, ModelRecipe, Recipe
from pipeline.recorded import Recorded
from pipeline.rows.frames import resized_size, tiles
from pipeline.rows.pixels import read_tiles
from pipeline.rows.samples import Samples
from pipeline.views import View
from stores import Store
from stores.errors import MissingError, UserError
from stores.specs import VOID, Size
from stores.units import format_bytes

MANY_OBJECTS = 100_000
LITTLE_COVERAGE = 0.95
_LABEL_FILES = 50
"""Label files, evenly spread, that are read to estimate which share of labelled pixels the tiles show."""


@dataclass(frozen=True)
class ModelPlan:
    """Estimated cost of extracting one model under one view."""

    title: str
    view: str
    level: float | None
    state: str
    """``sealed``, ``partial``, ``missing``, ``weights not found``, or ``extract from Python`` for a module of
    the user's own."""
    set: str | None
    """Digest of the set; None when the weights, which it depends on, were not found."""
    arrays: int
    """Number of arrays. Input pixels that several models share are counted with the first, here and in bytes."""
    rows: int
    rows_missing: int
    rows_taken_over: int
    """Missing rows that other sets of the store hold under an equal recipe; the model runs on the others."""
    objects: int
    bytes: int
    bytes_missing: int
    memory_bytes: int
    """Estimated memory on top of the idle process: weights, buffers and twice a batch's tokens."""
    seconds_per_row: float | None
    """Measured on one batch on this device; None when no row meets the model or timing is off."""
    problem: str = ""
    """Why the weights cannot be used, where they are there or come from the hub; empty otherwise."""

    @property
    def seconds(self) -> float | None:
        """Estimated time for what is missing."""
        return (
            None if self.seconds_per_row is None else self.seconds_per_row * (self.rows_missing - self.rows_taken_over)
        )

    def canonical(self) -> dict[str, Any]:
        """Return the plan as plain JSON values."""
        return {**self.__dict__, "seconds": self.seconds}


def plan_models(
    recipe: Recipe, workspace: Workspace, samples: Samples, compute: Compute, *, timed: bool = True
) -> Iterator[ModelPlan]:
    """Yield the plan of every model and view; a model whose weights are not found is planned with random ones.

    Raises UserError for models that cannot be built.

    Args:
        recipe: The experiment's extraction settings.
        workspace: Store, data and weights on this machine.
        samples: The rows in the clean view.
        compute: Device, batch size and threads.
        timed: Run one batch of each model to estimate the time.
    """
    compute = compute.for_features(recipe.features)
    counted: set[str] = set()
    for model_recipe in recipe.models:
        if model_recipe.weights == OWN and model_recipe.name not in workspace.own:
            yield from _plans_of_own(recipe, model_recipe, workspace.store, len(samples.tiles))
            continue
        weights_found, problem = True, ""
        try:
            shown = list(view_jobs(recipe, model_recipe, workspace, samples))
        except UserError as error:
            if model_recipe.weights == "random":
                raise
            weights_found, problem = False, "" if isinstance(error, MissingError) else str(error)
            drawn = model_recipe.model_copy(update={"weights": "random"})
            shown = list(view_jobs(recipe, drawn, dataclasses.replace(workspace, on_meta_device=not timed), samples))
        model_seconds: dict[Size, float] = {}
        for view, job in shown:
            pixels = job.labels.input_pixels
            if pixels is not None and pixels.name in counted:  # several models share those of one label set
                job = dataclasses.replace(job, labels=LabelJob(job.labels.clean_grids))
            elif pixels is not None:
                counted.add(pixels.name)
            plan = _plan(view, job, weights_found, compute, model_seconds if timed else None)
            yield dataclasses.replace(plan, problem=problem)


def _plan(
    view: View, job: Job, weights_found: bool, compute: Compute, model_seconds: dict[Size, float] | None
) -> ModelPlan:
    """Plan one job; ``model_seconds`` caches the model's seconds per row by input size, None turns timing off."""
    kept = [*job.arrays, *([job.labels.input_pixels] if job.labels.input_pixels else [])]
    rows_missing = sum(row_range.stop - row_range.start for row_range in job.missing())
    weights = sum(value.numel() * value.element_size() for value in job.model.module.state_dict().values())
    tokens = sum(layer.width * (layer.n_patches + job.model.n_prefix) for layer in job.model.layers)
    rows_taken = _rows_taken(job, compute)
    seconds = None
    if model_seconds is not None and rows_missing > rows_taken:
        size = job.samples.frame.input
        decode, pixels = _decode_seconds(job)
        if size not in model_seconds:
            model_seconds[size] = _model_seconds(job, pixels, compute)
        seconds = max(model_seconds[size], decode)
    return ModelPlan(
        title=job.title,
        view=view.name,
        level=view.level,
        state=job.state if weights_found else "weights not found",
        set=job.spec.digest if weights_found else None,
        arrays=len(kept),
        rows=job.layout.n_rows,
        rows_missing=rows_missing,
        rows_taken_over=rows_taken,
        objects=job.n_objects,
        bytes=job.layout.n_rows * sum(array.row_bytes for array in kept),
        bytes_missing=job.missing_bytes,
        memory_bytes=weights + job.buffer_bytes(compute.batch_size) + 2 * compute.batch_size * 4 * tokens,
        seconds_per_row=seconds,
    )


def _plans_of_own(recipe: Recipe, model_recipe: ModelRecipe, store: Store, n_rows: int) -> Iterator[ModelPlan]:
    """Yield the plans of a module of the user's own: what is stored of it; the rest is extracted from Python."""
    for view, _ in recipe.all_views(model_recipe):
        noted = store.recall(recipe.model_key(model_recipe, view=view))
        stored = None if noted is None else store.open(f"features/{noted['features']}")
        is_sealed = stored is not None and all(map(stored.sealed, stored.arrays))
        yield ModelPlan(
            title=Recorded(model_recipe, view, "", "").title,
            view=view.name,
            level=view.level,
            state="sealed" if is_sealed else "extract from Python",
            set=None if stored is None else stored.digest,
            arrays=0 if stored is None else len(stored.arrays),
            rows=n_rows if stored is None else stored.layout.n_rows,
            rows_missing=0 if is_sealed else n_rows,
            rows_taken_over=0,
            objects=0 if stored is None else sum(map(stored.layout.n_objects, stored.arrays.values())),
            bytes=0 if stored is None else stored.n_bytes,
            bytes_missing=0,
            memory_bytes=0,
            seconds_per_row=None,
        )


def _rows_taken(job: Job, compute: Compute) -> int:
    """Return how many of the missing rows are taken over from other sets."""
    record = compute.record(job.precision) if job.existing is None else job.existing.compute
    taken = 0
    for ranges, arrays in passes(job.missing()):
        known = known_rows(job, arrays, record, allow_mixed=False)
        taken += sum(known.counts(ranges).values())
    return taken


def _decode_seconds(job: Job) -> tuple[float, UInt8[np.ndarray, "sample height width 3"]]:
    """Time the decoding of one source, view included; return seconds per row, and the pixels."""
    names = [name for name, _ in job.samples.tiles]
    first = next(row for row, name in enumerate(names) if name not in job.samples.bad_images)
    here = names.count(names[first])
    before = time.perf_counter()
    pixels, _ = read_tiles(job.samples, job.spec.model.interpolation, first, first + here)
    return (time.perf_counter() - before) / here, pixels


def _model_seconds(job: Job, pixels: UInt8[np.ndarray, "sample height width 3"], compute: Compute) -> float:
    """Time the forward pass of one batch; return seconds per row."""
    n_rows = full_shape(job.layout, compute.batch_size)
    tokens = [array for array in job.arrays if array.group != SAMPLE_STATS]
    run = Capture(job.model, tokens, job.precision)
    batch = torch.from_numpy(np.resize(pixels, (n_rows, *pixels.shape[1:]))).to(compute.device).float()
    tile_ids = job.samples.tile_ids[:n_rows]
    in_precision = converted(job.model.module, compute.device, job.precision)
    with in_precision, open_device(compute.device).guard():
        run(batch[:1], tile_ids[:1])[1].cpu()  # warm-up: the first call sets up kernels and caches
        while True:
            try:
                before = time.perf_counter()
                run(batch[:n_rows], tile_ids[:n_rows])[1].cpu()
                return (time.perf_counter() - before) / n_rows
            except torch.OutOfMemoryError:
                n_rows = halved(dataclasses.replace(compute, batch_size=n_rows), job)[0].batch_size


def labelled_coverage(samples: Samples) -> float | None:
    """Return the share of labelled pixels that some tile shows, from at most 50 label files; None without labels."""
    labelled = [name for name in samples.sources if name in samples.label_digests and name not in samples.bad]
    if not labelled or "pixels" not in samples.dataset.labels:
        return None
    step = max(1, len(labelled) // _LABEL_FILES)
    shown = total = 0
    for name in labelled[::step][:_LABEL_FILES]:
        with samples.noticing_changes():
            known = samples.dataset.pixel_classes(samples.sources[name]) != VOID
        size, frame = samples.sizes[name], samples.frame
        plane = resized_size(frame, size)
        total += int(known.sum())
        for tile in tiles(frame, size):
            left, top, right, bottom = tile.owned
            rows = slice(top * size.height // plane.height, bottom * size.height // plane.height)
            columns = slice(left * size.width // plane.width, right * size.width // plane.width)
            shown += int(known[rows, columns].sum())
    return shown / total if total else None


def warnings(plans: list[ModelPlan], samples: Samples, labelled: float | None, free: int | None) -> list[str]:
    """Return one sentence for everything a user should know before extracting.

    Args:
        plans: Plans of all models and views.
        samples: The rows in the clean view.
        labelled: Share of labelled pixels that some tile shows, 0..1, or None.
        free: Free bytes of the store's disk, or None where that is not known.
    """
    lines = list(samples.dataset.notes())
    if samples.bad:
        reasons = "; ".join(list(samples.bad.values())[:3]) + ("; ..." if len(samples.bad) > 3 else "")
        lines.append(f"{len(samples.bad)} of {len(samples.sources)} images are bad and kept as invalid: {reasons}")
    if samples.left_out:
        first = next(iter(samples.left_out.values()))
        lines.append(f"{len(samples.left_out)} images are left out of the few-shot choice, the first: {first}")
    remedy = 'set edge = "shift-last" or "pad" in [frame], or another size'
    if samples.frame.edge == "centre":
        remedy = "a smaller resize or a larger tile in [frame] shows more"
    for share, what in ((samples.coverage, "of all pixels"), (labelled, "of the labelled pixels")):
        if share is not None and share < LITTLE_COVERAGE:
            lines.append(f"the tiles cover only {share:.0%} {what}: {remedy}")
    lines += [
        f"{plan.title} makes {plan.objects:,} objects: raise chunk_megabytes (and range_megabytes) in [storage], or "
        "keep fewer arrays"
        for plan in plans
        if plan.objects > MANY_OBJECTS
    ]
    lines += list(dict.fromkeys(f"{plan.title}: {plan.problem}" for plan in plans if plan.problem))
    needed = sum(plan.bytes_missing for plan in plans)
    if free is not None and needed > free:
        lines.append(
            f"{format_bytes(needed)} must be written and {format_bytes(free)} are free: "
            "`patchbank extract` will not start"
        )
    return lines
