"""Extracts a whole recipe: samples, labels, then one feature set per model and view."""

import contextlib
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pipeline.extraction.compute import Compute
from pipeline.extraction.extract import complete, start_extraction
from pipeline.extraction.job import Job, prepare
from pipeline.extraction.options import DEFAULT_OPTIONS, ExtractOptions
from pipeline.extraction.progress import Outcome, Report, write_log
from pipeline.labels.label_set import write_labels
from pipeline.labels.making_labels import StartedLabels, finish_labels, start_labels
from pipeline.models.contract import FrozenModel
from pipeline.models.loading.presence import cached_file
from pipeline.recipe import ModelRecipe, Recipe
from pipeline.recorded import Recorded as Recorded
from pipeline.recorded.complete import CompleteNotes, CompleteSets
from pipeline.rows.samples import Samples
from pipeline.source_choice import ALL_SOURCES, SourceChoice
from pipeline.views import View
from pipeline.workspace import Workspace as Workspace
from pipeline.workspace import read_samples as read_samples
from stores import Store, ZarrSet
from stores.errors import UserError
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
    weights: str | None = None
    """What names the model's weights, see `CompleteNotes.weights`."""
    cached: tuple[str, ...] = ()
    """Repository and file name of timm's weights in the Hugging Face cache."""
    is_alike: bool = False
    """Whether the next set is of the same model and input size."""


class Made(NamedTuple):
    """What was made of one model under one view."""

    wanted: Wanted
    labels: ZarrSet
    label_rows: int
    """Rows of labels that were made."""
    outcome: Outcome


MakeSets = Callable[[Iterable[Wanted], Compute, Store], Generator[Made]]
"""Makes what is missing of some sets, and yields what was made of each in their order, once it is sealed."""


def make_here(wanted: Iterable[Wanted], compute: Compute, store: Store) -> Generator[Made]:
    """Make what is missing of some feature sets and their label sets in this process, one set after another.

    Raises UserError as `extract.extract` does.

    Args:
        wanted: The feature sets.
        compute: Device, batch size and threads.
        store: The store.
    """
    for one in wanted:
        made = _make_here(one, compute, store)
        del one  # the next model is built without this one
        yield made
        del made


def _make_here(wanted: Wanted, compute: Compute, store: Store) -> Made:
    with start_extraction(wanted.job, compute, wanted.options) as work:
        started = start_labels_of(wanted.job, store, wanted.options)
        n_made = write_labels(started.set, started.missing, wanted.job.samples, started.ready)
        return Made(wanted, finish_labels(started), n_made, complete(work, store))


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
        make_sets: Makes what is missing of the sets: here, or in the workers of a schedule.
    """
    compute = compute.for_features(recipe.features)
    samples = samples or read_samples(recipe, workspace, choice)
    notes = CompleteNotes(recipe, workspace, samples, choice)
    models = recipe.chosen_models(only)
    complete: dict[str, list[CompleteSets]] = {}
    outcomes: dict[str, list[tuple[ZarrSet, int, Outcome]]] = {model.display: [] for model in models}
    wanted = _wanted(models, recipe, workspace, samples, options, notes, complete)
    # Closed explicitly: where something fails here, the workers of a schedule are to end first.
    with contextlib.closing(make_sets(wanted, compute, workspace.store)) as all_made:
        for one, labels, n_made, outcome in all_made:
            outcomes[one.model.display].append((labels, n_made, outcome))
            if outcome.rows_made or outcome.rows_taken:
                write_log(workspace.store, outcome, options.provenance)
            workspace.store.remember(
                recipe.model_key(one.model, choice, one.view),
                {"features": outcome.set.digest, "labels": labels.digest},
            )
            sets = {"features": outcome.set, "labels": labels}
            arrays = (array.name for array in one.job.arrays)
            notes.write(one.model, one.view, one.job.features, sets, arrays, one.weights, one.cached)
            del one
    report = Report.of(samples)
    for model in models:
        report.add_complete(complete.get(model.display, ()))
        for labels, n_made, outcome in outcomes[model.display]:
            report.add(labels, n_made, outcome)
    return report


def _wanted(
    models: Iterable[ModelRecipe],
    recipe: Recipe,
    workspace: Workspace,
    samples: Samples,
    options: ExtractOptions,
    notes: CompleteNotes,
    complete: dict[str, list[CompleteSets]],
) -> Iterator[Wanted]:
    """Yield the sets of some models, each model built when its first set is asked for.

    Args:
        models: The models to extract.
        recipe: The experiment's extraction settings.
        workspace: Store, data and weights on this machine.
        samples: The rows in the clean view.
        options: How the extraction runs.
        notes: Tell of which models nothing is missing.
        complete: Gets the sets of these, by the model's name in figures.
    """
    for model in models:
        if (found := notes.complete_sets(model)) is not None:
            complete[model.display] = found
            continue
        cached = cached_file(model.name) if model.weights == "pretrained" else ()
        weights = notes.weights(model, cached)
        shown = list(view_jobs(recipe, model, workspace, samples))
        check_disk_space(model.display, [job for _, job in shown], workspace.store)
        sizes = [job.samples.frame.input for _, job in shown]
        for number, (view, job) in enumerate(shown):
            share = _share_of(job, options, workspace.store)
            is_alike = sizes[number + 1 : number + 2] == [sizes[number]]
            yield Wanted(model, number, view, job, share, weights, cached, is_alike)
        del shown, job


def _share_of(job: Job, options: ExtractOptions, store: Store) -> ExtractOptions:
    """Return options with this process' share of what is missing of a job."""
    of, missing = (job.spec.digest, *(array.name for array in job.arrays)), job.missing()
    return options.of_missing(store.objects, of, [row_range.number for row_range in missing])


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
