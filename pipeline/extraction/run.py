"""Extracts a whole recipe: samples, labels, then one feature set per model and view."""

import contextlib
import json
import platform
import secrets
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from pipeline.extraction.compute import Compute
from pipeline.extraction.extract import complete, start_extraction
from pipeline.extraction.job import Job, prepare
from pipeline.extraction.options import DEFAULT_OPTIONS, ExtractOptions
from pipeline.extraction.progress import Outcome, Report
from pipeline.labels.label_set import write_labels
from pipeline.labels.making_labels import StartedLabels, finish_labels, start_labels
from pipeline.models.contract import FrozenModel
from pipeline.models.loading.presence import cached_file
from pipeline.recipe import ModelRecipe, Recipe
from pipeline.recorded import Recorded as Recorded
from pipeline.recorded.complete import CompleteNotes
from pipeline.rows.samples import Samples
from pipeline.source_choice import ALL_SOURCES, SourceChoice
from pipeline.views import View
from pipeline.workspace import Workspace as Workspace
from pipeline.workspace import read_samples as read_samples
from stores import Store, ZarrSet
from stores.errors import UserError
from stores.format.paths import LOGS
from stores.specs import Size
from stores.units import format_bytes


@dataclass(frozen=True)
class Wanted:
    """One feature set, with its label set, of which something may be missing."""

    model: ModelRecipe
    number: int
    """Number of the view, as `Recipe.all_views` counts."""
    view: View
    job: Job
    options: ExtractOptions
    """How it is extracted, with this process' share of what is missing."""


class Made(NamedTuple):
    """What was made of one model under one view."""

    wanted: Wanted
    labels: ZarrSet
    label_rows: int
    """Rows of labels that were made."""
    outcome: Outcome


MakeSets = Callable[[Iterable[Wanted], Compute, Store], Generator[Made]]
"""Makes what is missing of the sets of a model, and yields what was made of each in their order, once it is sealed."""


def make_here(wanted: Iterable[Wanted], compute: Compute, store: Store) -> Generator[Made]:
    """Make what is missing of some feature sets and their label sets in this process, one set after another.

    Raises UserError as `extract.extract` does.

    Args:
        wanted: The feature sets.
        compute: Device, batch size and threads.
        store: The store.
    """
    for one in wanted:
        with start_extraction(one.job, compute, one.options) as work:
            started = start_labels_of(one.job, store, one.options)
            n_made = write_labels(started.set, started.missing, one.job.samples, started.ready)
            made = Made(one, finish_labels(started), n_made, complete(work, store))
        yield made


def start_labels_of(job: Job, store: Store, options: ExtractOptions) -> StartedLabels:
    """Begin the label set of a job's samples; raises UserError as `start_labels` does.

    Args:
        job: The feature set.
        store: The store.
        options: How the extraction runs.
    """
    inputs = [job.labels.input_pixels] if job.labels.input_pixels else []
    return start_labels(job.samples, store, job.grids, dict(options.provenance), job.labels.clean_grids, inputs)


def jobs(
    recipe: Recipe, workspace: Workspace, samples: Samples, only: str | None = None
) -> Iterator[tuple[ModelRecipe, list[tuple[View, Job]]]]:
    """Yield every model with its job under each view; one model is in memory at a time.

    Raises UserError for models that cannot be built, and when no model is called ``only``.

    Args:
        recipe: The experiment's extraction settings.
        workspace: Store and weights on this machine.
        samples: The rows in the clean view.
        only: Name or title of the one model to yield; None yields all.
    """
    for model_recipe in recipe.chosen_models(only):
        yield model_recipe, list(view_jobs(recipe, model_recipe, workspace, samples))


def view_jobs(
    recipe: Recipe, model_recipe: ModelRecipe, workspace: Workspace, samples: Samples
) -> Iterator[tuple[View, Job]]:
    """Yield the job of one model under each view; raises UserError as `ViewModels.of` and `prepare` do.

    Args:
        recipe: The experiment's extraction settings.
        model_recipe: The model as the recipe names it.
        workspace: Store and weights on this machine.
        samples: The rows in the clean view.
    """
    models = ViewModels(recipe, model_recipe, workspace)
    for view, features in recipe.all_views(model_recipe):
        shown, clean = models.of(view)
        yield view, prepare(recipe, model_recipe, shown, samples, workspace.store, view, features, clean)


class ViewModels:
    """The model of a recipe under its views, built once for each input size.

    Args:
        recipe: The experiment's extraction settings.
        model_recipe: The model as the recipe names it.
        workspace: Store and weights on this machine.
    """

    def __init__(self, recipe: Recipe, model_recipe: ModelRecipe, workspace: Workspace) -> None:
        self.recipe, self.model_recipe, self.workspace = recipe, model_recipe, workspace
        self._built: dict[Size, FrozenModel] = {}

    def of(self, view: View) -> tuple[FrozenModel, FrozenModel]:
        """Return the model built for a view's input size, and that for the clean view.

        Raises UserError when the patches do not divide the view's input size, or the model cannot be built.
        """
        size = self.recipe.frame.input
        clean = self._model(size)
        if view.input is None:
            return clean, clean
        patch = size.height // clean.grid[0]
        if view.input.height % patch or view.input.width % patch:
            raise UserError(
                f"{self.model_recipe.display} has patches of {patch} pixels, which do not divide an input of "
                f"{view.input}: choose other `levels` of the view {view.name}"
            )
        return self._model(view.input), clean

    def keep_for(self, view: View) -> None:
        """Forget the models that a view does not need; that for the clean view waits in main memory if it is not run.

        Called before `of` where one view is made after another, it holds memory to that of one view.
        """
        size = self.recipe.frame.input
        run = view.input or size
        self._built = {one: model for one, model in self._built.items() if one in (size, run)}
        if run != size and size in self._built:
            self._built[size].module.to("cpu")

    def _model(self, size: Size) -> FrozenModel:
        if size not in self._built:
            self._built[size] = self.workspace.model(self.model_recipe, size)
        return self._built[size]


def extract_recipe(
    recipe: Recipe,
    workspace: Workspace,
    compute: Compute,
    options: ExtractOptions = DEFAULT_OPTIONS,
    *,
    choice: SourceChoice = ALL_SOURCES,
    only: str | None = None,
    samples: Samples | None = None,
    make_sets: MakeSets = make_here,
) -> Report:
    """Make what is missing of a recipe's label set and feature sets, and note in the store's index where they are.

    A model of which nothing is missing is not built. Nothing of a model's sets is written before it has given its first
    batch. Raises UserError and MissingError as `read_samples`, `jobs` and `extract.extract` do.

    Args:
        recipe: What to make.
        workspace: Store, data and weights on this machine.
        compute: Device, batch size and threads.
        options: How the extraction runs.
        choice: Source images to extract.
        only: Name or title of the one model to extract; None extracts all.
        samples: The rows in the clean view; None reads them.
        make_sets: Makes what is missing of the sets of one model: here, or in the workers of a schedule.
    """
    compute = compute.for_features(recipe.features)
    samples = samples or read_samples(recipe, workspace, choice)
    report = Report.of(samples)
    notes = CompleteNotes(recipe, workspace, samples, choice)
    for model_recipe in recipe.chosen_models(only):
        if (found := notes.complete_sets(model_recipe)) is not None:
            report.add_complete(found)
            continue
        cached = cached_file(model_recipe.name) if model_recipe.weights == "pretrained" else ()
        weights = notes.weights(model_recipe, cached)
        shown = list(view_jobs(recipe, model_recipe, workspace, samples))
        check_disk_space(model_recipe.display, [job for _, job in shown], workspace.store)
        wanted = (
            Wanted(model_recipe, number, view, job, _share_of(job, options, workspace.store))
            for number, (view, job) in enumerate(shown)
        )
        # Closed explicitly: where something fails here, the workers of a schedule are to end first.
        with contextlib.closing(make_sets(wanted, compute, workspace.store)) as all_made:
            for one, labels, n_made, outcome in all_made:
                report.labels = report.labels or labels
                report.label_rows_made += n_made
                report.outcomes.append(outcome)
                if outcome.rows_made or outcome.rows_taken:
                    _log(workspace.store, outcome, options.provenance)
                workspace.store.remember(
                    recipe.model_key(model_recipe, choice, one.view),
                    {"features": outcome.set.digest, "labels": labels.digest},
                )
                sets = {"features": outcome.set, "labels": labels}
                arrays = (array.name for array in one.job.arrays)
                notes.write(model_recipe, one.view, one.job.features, sets, arrays, weights, cached)
    return report


def _share_of(job: Job, options: ExtractOptions, store: Store) -> ExtractOptions:
    """Return options with this process' share of what is missing of a job."""
    of, missing = (job.spec.digest, *(array.name for array in job.arrays)), job.missing()
    return options.of_missing(store.objects, of, [row_range.number for row_range in missing])


def _log(store: Store, outcome: Outcome, provenance: Mapping[str, Any]) -> None:
    """Write the seconds of each stage of one extraction as a JSON line, into a new file: writers never share one."""
    line = {
        **provenance,
        "set": outcome.set.digest,
        "title": outcome.title,
        "host": platform.node(),
        "rows_made": outcome.rows_made,
        "rows_reused": outcome.rows_reused,
        **({"rows_taken_over": outcome.rows_taken} if outcome.rows_taken else {}),
        **({"made_by": outcome.made_by} if outcome.made_by else {}),
        "seconds": {name: round(value, 3) for name, value in outcome.seconds.__dict__.items()},
    }
    key = f"{LOGS}/{outcome.set.digest[:12]}-{secrets.token_hex(6)}.jsonl"
    store.objects.put(key, [(json.dumps(line, sort_keys=True) + "\n").encode()])


def check_disk_space(title: str, wanted: Sequence[Job], store: Store) -> None:
    """Raise UserError with both sizes when what is missing of a model's views does not fit on the disk."""
    free = store.objects.free_bytes()
    # One range more than what is missing, because a range is on disk twice while it is published.
    spare = max((job.layout.range_rows * job.row_bytes for job in wanted if job.missing_bytes), default=0)
    needed = sum(job.missing_bytes for job in wanted) + spare
    if free is not None and needed > free:
        raise UserError(
            f"{title} needs {format_bytes(needed)} and {store.location} has {format_bytes(free)} free: make room, "
            "keep fewer layers in [features] or [[views]], or choose another --store"
        )
