"""A whole recipe: samples, labels, then one feature set a model."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.compute import Compute
from pipeline.datasets import open_dataset
from pipeline.datasets.contract import Source
from pipeline.extract import Outcome, Progress, extract
from pipeline.job import Job, prepare
from pipeline.labels import make_labels
from pipeline.models import build_model
from pipeline.recipe import ModelRecipe, Recipe
from pipeline.samples import Samples, make_samples, path_below
from pipeline.sources import FileDigests
from stores import Store, ZarrSet
from stores.errors import MissingError, UserError

Choose = Callable[[pd.DataFrame], Sequence[str]]
"""Takes a table of all sources (source, group, split) and returns the names of those to extract."""


@dataclass(frozen=True)
class Site:
    """Where things are on this machine."""

    store: Store
    data: Path
    """The data root."""
    folder: Path
    """The experiment file's folder, to which weights' paths are relative."""


@dataclass
class Report:
    """What one run of a recipe did."""

    labels: ZarrSet | None = None
    label_rows_made: int = 0
    outcomes: list[Outcome] = field(default_factory=list)


def read_samples(recipe: Recipe, site: Site, choose: Choose | None, *, remember: bool = True) -> Samples:
    """Return the rows of a recipe; with ``remember`` the store keeps the files' hashes.

    Raises UserError or MissingError when the data are not what the layout says.
    """
    root = path_below(site.data, recipe.dataset.folder or recipe.dataset.name)
    if not root.is_dir():
        raise MissingError(
            f"there is no folder {root} for the data set {recipe.dataset.name}: set --data or PATCHBANK_DATA to the "
            "folder above it, or `folder` in [dataset]"
        )
    dataset = open_dataset(recipe.dataset.name, root)
    sources: Sequence[Source] = dataset.sources()
    if choose is not None:
        table = pd.DataFrame(
            {
                "source": [source.name for source in sources],
                "group": [source.group for source in sources],
                "split": [source.split for source in sources],
            }
        )
        chosen = set(choose(table))
        sources = [source for source in sources if source.name in chosen]
    digests = FileDigests(site.store, root)
    samples = make_samples(dataset, sources, recipe.frame, digests)
    if remember:
        digests.save()
    return samples


def jobs(recipe: Recipe, site: Site, samples: Samples, only: str | None = None) -> Iterator[tuple[ModelRecipe, Job]]:
    """Yield every model's job, building one model at a time; raises UserError for models that cannot be built."""
    models = [model for model in recipe.models if only is None or only in (model.name, model.title)]
    if not models:
        known = ", ".join(model.display for model in recipe.models)
        raise UserError(f"this experiment has no model {only!r}: it has {known}")
    for model_recipe in models:
        model = build_model(model_recipe, recipe.frame.input, site.folder)
        yield model_recipe, prepare(recipe, model_recipe, model, samples, site.store)


def extract_recipe(
    recipe: Recipe,
    site: Site,
    choose: Choose | None,
    pool: object,
    compute: Compute,
    *,
    only: str | None = None,
    workers: int = 2,
    shard: tuple[int, int] = (0, 1),
    allow_mixed: bool = False,
    provenance: dict[str, Any] | None = None,
    tell: Callable[[Progress], None] = lambda progress: None,
    begin: Callable[[Job], None] = lambda job: None,
) -> Report:
    """Make what is missing of a recipe's label set and feature sets, and note where they are."""
    report = Report()
    samples = read_samples(recipe, site, choose)
    for model_recipe, job in jobs(recipe, site, samples, only):
        refuse_full_disk(job, site.store)
        report.labels, made = make_labels(samples, site.store, [job.model.grid], dict(provenance or {}))
        report.label_rows_made += made
        begin(job)
        outcome = extract(
            job,
            site.store,
            compute,
            workers=workers,
            shard=shard,
            allow_mixed=allow_mixed,
            provenance=provenance,
            tell=tell,
        )
        report.outcomes.append(outcome)
        site.store.remember(
            recipe.model_key(model_recipe, pool),
            {"features": outcome.set.digest, "labels": report.labels.digest},
        )
    return report


def refuse_full_disk(job: Job, store: Store) -> None:
    """Raise UserError with both numbers when what is missing does not fit on the disk."""
    free = store.objects.free_bytes()
    # One range more than what is missing: it is on disk twice for a moment.
    needed = job.missing_bytes + (job.layout.range_rows * job.row_bytes if job.missing_bytes else 0)
    if free is not None and needed > free:
        raise UserError(
            f"{job.title} needs {needed / 1e9:.1f} GB and {store.location} has {free / 1e9:.1f} GB free: free some "
            "space, keep fewer layers in [features], or choose another --store"
        )
