"""Extracts a whole recipe: samples, labels, then one feature set per model and view."""

import json
import platform
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.dataset_recipe import DatasetRecipe
from pipeline.datasets import DATASETS, open_dataset
from pipeline.datasets.contract import Source
from pipeline.datasets.reading.folders import image_folders, unread_notes
from pipeline.extraction.compute import Compute
from pipeline.extraction.extract import DEFAULT_OPTIONS, ExtractOptions, complete, start_extraction
from pipeline.extraction.job import Job, prepare
from pipeline.extraction.progress import Outcome
from pipeline.labels.label_set import make_labels
from pipeline.models import build_model, build_on_meta, with_interpolation
from pipeline.models.contract import FrozenModel
from pipeline.recipe import FeatureRecipe, ModelRecipe, Recipe
from pipeline.recorded import Recorded as Recorded
from pipeline.rows.few_shot import choose_rows
from pipeline.rows.samples import Samples, make_samples, path_below
from pipeline.rows.sources import FileDigests
from pipeline.source_choice import ALL_SOURCES, SourceChoice
from pipeline.views import View
from stores import Store, ZarrSet
from stores.errors import MissingError, UserError
from stores.format.paths import LOGS
from stores.specs import Size
from stores.units import format_bytes


@dataclass(frozen=True)
class Workspace:
    """Store, data and weights on this machine."""

    store: Store
    data: Path
    """The data root."""
    folder: Path
    """The experiment file's folder; paths of weights are relative to it."""
    own: Mapping[str, FrozenModel] = field(default_factory=dict)
    """Models that were passed in from Python, by name."""
    on_meta_device: bool = False
    """Build models on the meta device, without values of weights, for planning."""

    def model(self, recipe: ModelRecipe, size: Size) -> FrozenModel:
        """Return a recipe's model for inputs of ``size`` pixels; raises UserError when it cannot be built."""
        if recipe.name not in self.own:
            build = build_on_meta if self.on_meta_device else build_model
            return build(recipe, size, self.folder)
        model = self.own[recipe.name]
        if model.input not in (None, size):
            raise UserError(
                f"{recipe.name} was described for inputs of {model.input} pixels, not for {size}: describe it for the "
                "`input` of [frame], and remove views of other sizes"
            )
        return with_interpolation(model, recipe)


@dataclass
class Report:
    """What one run of a recipe did."""

    labels: ZarrSet | None = None
    label_rows_made: int = 0
    outcomes: list[Outcome] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    """Why images were excluded from a few-shot choice, by name."""
    notes: list[str] = field(default_factory=list)
    """Sentences on files beside the images that were not looked at."""


def find_folder(recipe: DatasetRecipe, data: Path) -> Path:
    """Return the folder of a data set: the recipe's, otherwise the first of its usual names that exists.

    Raises MissingError naming the folders that were tried, UserError for a folder outside of the data root.
    """
    usual = DATASETS[recipe.name].folders if recipe.name in DATASETS else (recipe.name,)
    tried = [path_below(data, folder) for folder in ([recipe.folder] if recipe.folder else usual)]
    found = next((folder for folder in tried if folder.is_dir()), None)
    if found is None and recipe.name in DATASETS:
        raise MissingError(
            f"there is no folder {' or '.join(map(str, tried))} for the data set {recipe.name}: set --data or "
            "PATCHBANK_DATA to the folder above it, or `folder` in [dataset]"
        )
    return found or tried[0]


def read_samples(
    recipe: Recipe, workspace: Workspace, choice: SourceChoice = ALL_SOURCES, *, remember: bool = True
) -> Samples:
    """Return the rows of a recipe in the clean view.

    Raises UserError or MissingError when the data do not match the layout.

    Args:
        recipe: The experiment's extraction settings.
        workspace: Store and data on this machine.
        choice: Source images to read.
        remember: Save the files' hashes in the store.
    """
    root = find_folder(recipe.dataset, workspace.data)
    dataset = open_dataset(recipe.dataset.name, root, recipe.dataset)
    sources: Sequence[Source] = dataset.sources()
    chosen_tiles, left_out = None, {}
    keep_invalid = recipe.dataset.bad_samples == "keep-invalid"
    if recipe.dataset.few_shot is not None:
        few = choose_rows(dataset, sources, recipe.frame, recipe.dataset.few_shot, keep_invalid=keep_invalid)
        sources, chosen_tiles, left_out = few.sources, few.tiles, few.left_out
    columns = {"source": "name", "group": "group", "split": "split"}
    table = pd.DataFrame({column: [getattr(one, name) for one in sources] for column, name in columns.items()})
    chosen = set(choice.choose(table))
    sources = [source for source in sources if source.name in chosen]
    digests = FileDigests(workspace.store, root)
    samples = make_samples(dataset, sources, recipe.frame, digests, chosen_tiles, keep_invalid=keep_invalid)
    samples = replace(samples, left_out=left_out, licence=recipe.dataset.licence or samples.licence)
    if remember:
        digests.save()
    return samples


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
    models = [model for model in recipe.models if only is None or only in (model.name, model.title)]
    if not models:
        known = ", ".join(model.display for model in recipe.models)
        raise UserError(f"this experiment has no model {only!r}: pass one of {known} to --model")
    for model_recipe in models:
        yield model_recipe, list(view_jobs(recipe, model_recipe, workspace, samples))


def view_jobs(
    recipe: Recipe, model_recipe: ModelRecipe, workspace: Workspace, samples: Samples
) -> Iterator[tuple[View, Job]]:
    """Yield the job of one model under each view; raises UserError as `built_views` and `prepare` do.

    Args:
        recipe: The experiment's extraction settings.
        model_recipe: The model as the recipe names it.
        workspace: Store and weights on this machine.
        samples: The rows in the clean view.
    """
    for view, features, shown, model in built_views(recipe, model_recipe, workspace):
        yield view, prepare(recipe, model_recipe, shown, samples, workspace.store, view, features, model)


def built_views(
    recipe: Recipe, model_recipe: ModelRecipe, workspace: Workspace
) -> Iterator[tuple[View, FeatureRecipe, FrozenModel, FrozenModel]]:
    """Yield every view with the arrays to keep, the model built for its input size, and the model for the clean view.

    Raises UserError when the patches do not divide a view's input size, or the model cannot be built.
    """
    model = workspace.model(model_recipe, recipe.frame.input)
    for view, features in recipe.all_views(model_recipe):
        shown = model
        if view.input is not None:
            patch = recipe.frame.input.height // model.grid[0]
            if view.input.height % patch or view.input.width % patch:
                raise UserError(
                    f"{model_recipe.display} has patches of {patch} pixels, which do not divide an input of "
                    f"{view.input}: choose other `levels` of the view {view.name}"
                )
            shown = workspace.model(model_recipe, view.input)
        yield view, features, shown, model


def extract_recipe(
    recipe: Recipe,
    workspace: Workspace,
    compute: Compute,
    options: ExtractOptions = DEFAULT_OPTIONS,
    *,
    choice: SourceChoice = ALL_SOURCES,
    only: str | None = None,
    check: Callable[[Samples], None] = lambda samples: None,
) -> Report:
    """Make what is missing of a recipe's label set and feature sets, and note in the store's index where they are.

    Nothing of a model's sets is written before it has given its first batch. Raises UserError and MissingError as
    `read_samples`, `jobs` and `extract.extract` do.

    Args:
        recipe: What to make.
        workspace: Store, data and weights on this machine.
        compute: Device, batch size and threads.
        options: How the extraction runs.
        choice: Source images to extract.
        only: Name or title of the one model to extract; None extracts all.
        check: Called with the rows before a model is built; what it raises ends the extraction.
    """
    compute = compute.for_features(recipe.features)
    samples = read_samples(recipe, workspace, choice)
    check(samples)
    report = Report(left_out=samples.left_out)
    if recipe.dataset.name != "manifest":  # a manifest lists its images itself
        report.notes = unread_notes(samples.dataset.name, image_folders(samples.sources.values()))
    for model_recipe, shown in jobs(recipe, workspace, samples, only):
        check_disk_space(model_recipe.display, [job for _, job in shown], workspace.store)
        for view, job in shown:
            with start_extraction(job, compute, options) as work:
                labels, n_made = make_labels(
                    job.samples,
                    workspace.store,
                    job.grids,
                    dict(options.provenance),
                    job.labels.clean_grids,
                    [job.labels.input_pixels] if job.labels.input_pixels else [],
                )
                outcome = complete(work, workspace.store)
            report.labels = report.labels or labels
            report.label_rows_made += n_made
            report.outcomes.append(outcome)
            if outcome.rows_made or outcome.rows_taken:
                _log(workspace.store, outcome, options.provenance)
            workspace.store.remember(
                recipe.model_key(model_recipe, choice, view),
                {"features": outcome.set.digest, "labels": labels.digest},
            )
    return report


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
