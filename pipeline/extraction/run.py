"""A whole recipe: samples, labels, then one feature set a model and view."""

import json
import platform
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.datasets import DATASETS, open_dataset
from pipeline.datasets.contract import Source
from pipeline.extraction.compute import Compute
from pipeline.extraction.extract import DEFAULT_OPTIONS, ExtractOptions, complete, start_extraction
from pipeline.extraction.job import Job, prepare
from pipeline.extraction.progress import Outcome
from pipeline.labels.label_set import make_labels
from pipeline.models import build_model, build_outline
from pipeline.models.contract import FrozenModel
from pipeline.recipe import DatasetRecipe, FeatureRecipe, ModelRecipe, Recipe
from pipeline.rows.few_shot import choose_rows
from pipeline.rows.samples import Samples, make_samples, path_below
from pipeline.rows.sources import FileDigests
from pipeline.source_choice import ALL_SOURCES, SourceChoice
from pipeline.views import CLEAN, View
from stores import Store, ZarrSet
from stores.errors import MissingError, UserError
from stores.format.paths import LOGS
from stores.specs import Size
from stores.units import format_bytes


@dataclass(frozen=True)
class Workspace:
    """Where things are on this machine."""

    store: Store
    data: Path
    """The data root."""
    folder: Path
    """The experiment file's folder, to which weights' paths are relative."""
    own: Mapping[str, FrozenModel] = field(default_factory=dict)
    """Modules that a user brings along, by the name of their model."""
    outlines: bool = False
    """Build models without the values of their weights, for planning."""

    def model(self, recipe: ModelRecipe, size: Size) -> FrozenModel:
        """Return a recipe's model for inputs of ``size``; raises UserError where it cannot be built."""
        if recipe.name not in self.own:
            build = build_outline if self.outlines else build_model
            return build(recipe, size, self.folder)
        model = self.own[recipe.name]
        if model.input not in (None, size):
            raise UserError(
                f"{recipe.name} was described for inputs of {model.input} pixels and {size} are asked for: describe it "
                "for the `input` of [frame], and leave views of other sizes out"
            )
        return model


@dataclass
class Report:
    """What one run of a recipe did."""

    labels: ZarrSet | None = None
    label_rows_made: int = 0
    outcomes: list[Outcome] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    """Why images were left out of a few-shot choice, by name."""


def find_folder(recipe: DatasetRecipe, data: Path) -> Path:
    """Return the folder of a data set: the recipe's, otherwise the first of its usual names that is there.

    Raises MissingError that names what was tried, UserError for a folder outside of the data root.
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
    recipe: Recipe, site: Workspace, choice: SourceChoice = ALL_SOURCES, *, remember: bool = True
) -> Samples:
    """Return the rows of a recipe; with ``remember`` the store keeps the files' hashes.

    Raises UserError or MissingError when the data are not what the layout says.
    """
    root = find_folder(recipe.dataset, site.data)
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
    digests = FileDigests(site.store, root)
    samples = make_samples(dataset, sources, recipe.frame, digests, chosen_tiles, keep_invalid=keep_invalid)
    samples = replace(samples, left_out=left_out, licence=recipe.dataset.licence or samples.licence)
    if remember:
        digests.save()
    return samples


def jobs(
    recipe: Recipe, site: Workspace, samples: Samples, only: str | None = None
) -> Iterator[tuple[ModelRecipe, list[tuple[View, Job]]]]:
    """Yield every model with its job under each view, building one model at a time, and again for other input sizes.

    Raises UserError for models that cannot be built.
    """
    models = [model for model in recipe.models if only is None or only in (model.name, model.title)]
    if not models:
        known = ", ".join(model.display for model in recipe.models)
        raise UserError(f"this experiment has no model {only!r}: it has {known}")
    for model_recipe in models:
        yield model_recipe, list(view_jobs(recipe, model_recipe, site, samples))


@dataclass(frozen=True)
class Recorded:
    """The sets that were made of one model under one view, by their digests."""

    model: ModelRecipe
    view: View
    features: str
    labels: str

    @property
    def title(self) -> str:
        """For people: the model, and the view unless it is the clean one."""
        return self.model.display if self.view is CLEAN else f"{self.model.display}, {self.view.title}"


def view_jobs(
    recipe: Recipe, model_recipe: ModelRecipe, site: Workspace, samples: Samples
) -> Iterator[tuple[View, Job]]:
    """Yield the job of one model under each view."""
    for view, features, shown, model in built_views(recipe, model_recipe, site):
        yield view, prepare(recipe, model_recipe, shown, samples, site.store, view, features, model)


def built_views(
    recipe: Recipe, model_recipe: ModelRecipe, site: Workspace
) -> Iterator[tuple[View, FeatureRecipe, FrozenModel, FrozenModel]]:
    """Yield every view with what is kept of it, the model built for its input size, and for the clean one."""
    model = site.model(model_recipe, recipe.frame.input)
    for view, features in recipe.shown():
        shown = model
        if view.input is not None:
            patch = recipe.frame.input.height // model.grid[0]
            if view.input.height % patch or view.input.width % patch:
                raise UserError(
                    f"{model_recipe.display} has patches of {patch} pixels, which do not divide an input of "
                    f"{view.input}: choose other `levels` of the view {view.name}"
                )
            shown = site.model(model_recipe, view.input)
        yield view, features, shown, model


def extract_recipe(
    recipe: Recipe,
    site: Workspace,
    compute: Compute,
    options: ExtractOptions = DEFAULT_OPTIONS,
    *,
    choice: SourceChoice = ALL_SOURCES,
    only: str | None = None,
) -> Report:
    """Make what is missing of a recipe's label set and feature sets, and note in the store's index where they are.

    Nothing of a model's sets is written before it has given its first batch. Raises UserError and MissingError as
    `read_samples`, `jobs` and `extract.extract` do.

    Args:
        recipe: What to make.
        site: Store, data and weights on this machine.
        compute: Device, batch size and threads.
        options: How the extraction runs.
        choice: Source images to extract.
        only: Name or title of the one model to extract; None extracts all.
    """
    samples = read_samples(recipe, site, choice)
    report = Report(left_out=samples.left_out)
    for model_recipe, shown in jobs(recipe, site, samples, only):
        refuse_full_disk(model_recipe.display, [job for _, job in shown], site.store)
        for view, job in shown:
            with start_extraction(job, compute, options) as work:
                labels, n_made = make_labels(
                    job.samples,
                    site.store,
                    job.grids,
                    dict(options.provenance),
                    job.labels.clean_grids,
                    [job.labels.input_pixels] if job.labels.input_pixels else [],
                )
                outcome = complete(work, site.store)
            report.labels = report.labels or labels
            report.label_rows_made += n_made
            report.outcomes.append(outcome)
            if outcome.rows_made:
                _log(site.store, outcome, options.provenance)
            site.store.remember(
                recipe.model_key(model_recipe, choice, view),
                {"features": outcome.set.digest, "labels": labels.digest},
            )
    return report


def _log(store: Store, outcome: Outcome, provenance: Mapping[str, Any]) -> None:
    """Write where the time of one extraction went as a JSON line, into a file of its own: writers never share one."""
    line = {
        **provenance,
        "set": outcome.set.digest,
        "title": outcome.title,
        "host": platform.node(),
        "rows_made": outcome.rows_made,
        "rows_reused": outcome.rows_reused,
        "seconds": {name: round(value, 3) for name, value in outcome.seconds.__dict__.items()},
    }
    key = f"{LOGS}/{outcome.set.digest[:12]}-{secrets.token_hex(6)}.jsonl"
    store.objects.put(key, [(json.dumps(line, sort_keys=True) + "\n").encode()])


def refuse_full_disk(title: str, wanted: Sequence[Job], store: Store) -> None:
    """Raise UserError with both numbers when what is missing of a model's views does not fit on the disk."""
    free = store.objects.free_bytes()
    # One range more than what is missing: it is on disk twice for a moment.
    twice = max((job.layout.range_rows * job.row_bytes for job in wanted if job.missing_bytes), default=0)
    needed = sum(job.missing_bytes for job in wanted) + twice
    if free is not None and needed > free:
        raise UserError(
            f"{title} needs {format_bytes(needed)} and {store.location} has {format_bytes(free)} free: free some "
            "space, keep fewer layers in [features] or [[views]], or choose another --store"
        )
