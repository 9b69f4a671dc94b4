"""Estimates what the extraction of each model would take: rows, objects, bytes, memory, time."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pipeline.extraction.compute import Compute
from pipeline.extraction.job import Job, LabelJob
from pipeline.extraction.loading import default_workers
from pipeline.extraction.plan.forecast import Forecast
from pipeline.extraction.plan.measuring import Measurements
from pipeline.extraction.run import view_jobs
from pipeline.extraction.taking_over import known_rows, passes
from pipeline.recipe import OWN, ModelRecipe, Recipe
from pipeline.recorded import Recorded
from pipeline.rows.samples import Samples
from pipeline.views import View
from pipeline.workspace import Workspace
from stores import Store
from stores.errors import MissingError, UserError


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
    forecast: Forecast | None
    """From what was measured on this machine; None when no row meets the model or timing is off."""
    problem: str = ""
    """Why the weights cannot be used, where they are there or come from the hub; empty otherwise."""

    @property
    def seconds_per_row(self) -> float | None:
        """Time of a row, None without a forecast."""
        return None if self.forecast is None else self.forecast.seconds_per_row

    @property
    def seconds(self) -> float | None:
        """Estimated time for what is missing."""
        return (
            None if self.seconds_per_row is None else self.seconds_per_row * (self.rows_missing - self.rows_taken_over)
        )

    def canonical(self) -> dict[str, Any]:
        """Return the plan as plain JSON values."""
        values = {name: value for name, value in self.__dict__.items() if name != "forecast"}
        return {
            **values,
            "seconds_per_row": self.seconds_per_row,
            "seconds": self.seconds,
            "rates": {} if self.forecast is None else self.forecast.rates,
            "limit": None if self.forecast is None else self.forecast.limit,
        }


def plan_models(
    recipe: Recipe,
    workspace: Workspace,
    samples: Samples,
    compute: Compute,
    *,
    timed: bool = True,
    workers: int | None = None,
) -> Iterator[ModelPlan]:
    """Yield the plan of every model and view; a model whose weights are not found is planned with random ones.

    Raises UserError for models that cannot be built, and for those that cannot run where they are timed.

    Args:
        recipe: The experiment's extraction settings.
        workspace: Store, data and weights on this machine.
        samples: The rows in the clean view.
        compute: Device, batch size and threads.
        timed: Measure the stages, and run batches of each model, to forecast the time.
        workers: Threads that would decode images; as many as `extract` takes by default.
    """
    compute = compute.for_features(recipe.features)
    measurements = Measurements(workspace.store, compute, workers or default_workers()) if timed else None
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
        for view, job in shown:
            pixels = job.labels.input_pixels
            if pixels is not None and pixels.name in counted:  # several models share those of one label set
                job = dataclasses.replace(job, labels=LabelJob(job.labels.clean_grids))
            elif pixels is not None:
                counted.add(pixels.name)
            plan = _plan(view, job, weights_found, compute, measurements)
            yield dataclasses.replace(plan, problem=problem)


def _plan(view: View, job: Job, weights_found: bool, compute: Compute, measurements: Measurements | None) -> ModelPlan:
    """Plan one job; without ``measurements`` nothing is timed."""
    kept = [*job.arrays, *([job.labels.input_pixels] if job.labels.input_pixels else [])]
    rows_missing = sum(row_range.stop - row_range.start for row_range in job.missing())
    weights = sum(value.numel() * value.element_size() for value in job.model.module.state_dict().values())
    tokens = sum(layer.width * (layer.n_patches + job.model.n_prefix) for layer in job.model.layers)
    rows_taken = _rows_taken(job, compute)
    forecast = None
    if measurements is not None and rows_missing > rows_taken:
        forecast = measurements.forecast(job)
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
        bytes=job.n_bytes,
        bytes_missing=job.missing_bytes,
        memory_bytes=weights
        + job.buffer_bytes(compute.batch_size, compute.on_gpu)
        + 2 * compute.batch_size * 4 * tokens,
        forecast=forecast,
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
            forecast=None,
        )


def _rows_taken(job: Job, compute: Compute) -> int:
    """Return how many of the missing rows are taken over from other sets."""
    record = compute.record(job.precision) if job.existing is None else job.existing.compute
    taken = 0
    for ranges, arrays in passes(job.missing()):
        known = known_rows(job, arrays, record, allow_mixed=False)
        taken += sum(known.counts(ranges).values())
    return taken
