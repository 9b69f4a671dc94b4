"""Stands in for sets that are not extracted yet: records and tables without values, for the checks of analyses."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd

from stores.arrays import StoredArray
from stores.errors import MissingError, PatchbankError
from stores.format.layout import Layout, plan_layout
from stores.indexing import Selection
from stores.specs import ArraySpec, FeatureSpec, LabelSpec

if TYPE_CHECKING:
    from evaluate.decoder import PatchDecoder
    from evaluate.inputs.model_sets import ModelSets, ViewSets
    from pipeline.extraction.job import Job
    from pipeline.recipe import ModelRecipe, Recipe
    from pipeline.recorded.complete import CompleteSets
    from pipeline.rows.samples import Samples
    from pipeline.source_choice import SourceChoice
    from pipeline.workspace import Workspace
    from stores import Store, ZarrSet


class NotExtractedError(MissingError):
    """Stored values are needed that are not there yet."""


@dataclass
class PlannedArray(StoredArray):
    """An array with a shape and no values."""

    spec: ArraySpec
    layout: Layout

    def _read(self, selection: Selection) -> np.ndarray:
        raise NotExtractedError(f"{self.spec.name} is not extracted yet: run `patchbank extract`")

    def _identity(self) -> str:
        return self.spec.name


@dataclass(frozen=True)
class PlannedSet:
    """A set as it will be once it is extracted; its content digests are the addresses of its arrays."""

    spec: FeatureSpec | LabelSpec
    layout: Layout
    arrays: Mapping[str, ArraySpec]
    location: str
    make_tables: Callable[[], Mapping[str, pd.DataFrame]]

    @property
    def digest(self) -> str:
        """The digest of its record; features planned without weights have another one once they are extracted."""
        return self.spec.digest

    @property
    def objects(self) -> Any:
        """The store's location, for messages."""
        return SimpleNamespace(url=self.location)

    @property
    def content(self) -> dict[str, str]:
        """The address of every array."""
        return {name: name for name in self.arrays}

    @cached_property
    def _tables(self) -> Mapping[str, pd.DataFrame]:
        return self.make_tables()

    @property
    def samples(self) -> pd.DataFrame:
        """The sample table."""
        return self._tables["samples"]

    @property
    def lost_layers(self) -> frozenset[int]:
        """Layers that the set lost: none."""
        return frozenset()

    def table(self, name: str) -> pd.DataFrame:
        """Return one of the set's tables."""
        return self._tables[name]

    def sealed(self, array: str) -> bool:
        """Return whether the array will be there."""
        return array in self.arrays

    def __getitem__(self, name: str) -> PlannedArray:
        return PlannedArray(self.arrays[name if "/" in name else f"tokens/{name}"], self.layout)


@dataclass(frozen=True)
class PlannedDecoder:
    """What the checks need of a decoder that is not built."""

    encoder: str
    layer: int
    digest: str = "planned"

    def __call__(self, tokens: Any, ids: Any) -> Any:
        """Raise NotExtractedError: nothing is decoded before there are tokens."""
        raise NotExtractedError("the decoder is not built while an extraction is planned")

    def block_tokens(self, tokens: Any) -> Any:
        """Raise as a call does."""
        self(tokens, None)

    targets = images = __call__


@dataclass
class PlannedModels:
    """The models of an experiment, for the checks of its analyses."""

    models: list["ModelSets"] = field(default_factory=list)
    decoders: dict[str, Callable[[], "PatchDecoder"]] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    """Titles of models that are extracted from Python and are not in the store."""


def planned_models(
    experiment: Path,
    recipe: "Recipe",
    workspace: "Workspace",
    samples: "Samples",
    choice: "SourceChoice",
    complete: Mapping[str, Sequence["CompleteSets"]] = MappingProxyType({}),
) -> PlannedModels:
    """Return the models of an experiment with the sets that `extract` will make; no weights are read.

    Raises UserError for architectures that cannot be built, sizes that a model does not take, and layers it lacks.

    Args:
        experiment: The experiment file, named in messages.
        recipe: Its extraction settings.
        workspace: Store and weights on this machine.
        samples: The rows in the clean view.
        choice: Source images that are extracted.
        complete: The sets of models of which nothing is missing, by the model's title; these are not built.
    """
    from dataclasses import replace

    from evaluate.inputs.model_sets import ModelSets
    from pipeline.recipe import OWN

    planned = PlannedModels()
    on_meta = replace(workspace, on_meta_device=True)
    labels: dict[str, PlannedSet] = {}
    for model in recipe.models:
        command = f"patchbank extract {experiment}"
        if model.weights == OWN:
            planned.left_out.append(model.display)
            continue
        sets = complete.get(model.display)
        if sets is not None:
            views = [_as_planned(one, workspace.store.location) for one in sets]
        else:
            views = _views(recipe, model, on_meta, samples, choice, labels)
        clean = next((viewed for viewed in views if viewed.name == "clean"), None)
        if clean is None:
            planned.left_out.append(model.display)
            continue
        planned.models.append(
            ModelSets(
                title=model.display,
                features=clean.features,
                labels=clean.labels,
                probe_batchnorm=model.standardised_probe,
                extract_command=command,
                views={(viewed.name, viewed.level): viewed for viewed in views if viewed is not clean},
                role=model.effective_role,
            )
        )
        planned.decoders[model.display] = _decoder(model, on_meta, recipe, clean.features)
    return planned


def _views(
    recipe: "Recipe",
    model: "ModelRecipe",
    workspace: "Workspace",
    samples: "Samples",
    choice: "SourceChoice",
    labels: dict[str, PlannedSet],
) -> "list[ViewSets]":
    """Return the sets of a model under every view as they will be; ``labels`` gets the label sets, by digest."""
    from evaluate.inputs.model_sets import ViewSets
    from pipeline.extraction.run import view_jobs

    jobs = list(view_jobs(recipe, model, workspace, samples))
    views = []
    for view, job in jobs:
        stored = _stored_arrays(workspace.store, recipe.model_key(model, choice, view), job)
        features = PlannedSet(
            job.spec,
            job.layout,
            {array.name: array for array in (*job.arrays, *stored)},
            workspace.store.location,
            lambda job=job: {"samples": job.samples.table},  # type: ignore[misc]
        )
        label_set = _label_set(job, jobs, labels, workspace.store.location)
        views.append(ViewSets(view.name, view.level or 0.0, cast("ZarrSet", features), cast("ZarrSet", label_set)))
    return views


class _StoredTables(dict[str, pd.DataFrame]):
    """The tables of a stored set, each read when it is asked for first."""

    def __init__(self, stored: "ZarrSet") -> None:
        self.stored = stored

    def __missing__(self, name: str) -> pd.DataFrame:
        self[name] = self.stored.table(name)
        return self[name]


def _as_planned(sets: "CompleteSets", location: str) -> "ViewSets":
    """Return complete sets as the planned ones that they were: the checks read records and tables, and no values."""
    from evaluate.inputs.model_sets import ViewSets

    features, labels = (
        PlannedSet(
            stored.spec,
            stored.layout,
            {name: array for name, array in stored.arrays.items() if stored.sealed(name)},
            location,
            lambda stored=stored: _StoredTables(stored),  # type: ignore[misc]
        )
        for stored in (sets.features, sets.labels)
    )
    view = sets.view
    return ViewSets(view.name, view.level or 0.0, cast("ZarrSet", features), cast("ZarrSet", labels))


def _decoder(
    model: "ModelRecipe", workspace: "Workspace", recipe: "Recipe", features: "ZarrSet"
) -> Callable[[], "PatchDecoder"]:
    """Return a function that checks a model's decoder by the names and shapes in its file, and stands in for it."""

    def make() -> "PatchDecoder":
        from pipeline.models.mae_decoder import check_decoder

        encoder = workspace.model(model, recipe.frame.input)
        check_decoder(model, encoder, workspace.folder)
        assert isinstance(features.spec, FeatureSpec)
        return cast("PatchDecoder", PlannedDecoder(features.spec.model.weights, len(encoder.layers) - 1))

    return make


def _stored_arrays(store: "Store", key: str, job: "Job") -> Sequence[ArraySpec]:
    """Return the sealed arrays of the set that an earlier extraction made of the same model, view and rows."""
    noted = store.recall(key)
    try:
        stored = None if noted is None else store.open(f"features/{noted['features']}")
    except (PatchbankError, KeyError):
        return ()
    if stored is None or not isinstance(stored.spec, FeatureSpec) or stored.spec.samples != job.spec.samples:
        return ()
    return [array for name, array in stored.arrays.items() if stored.sealed(name)]


def _label_set(job: "Job", jobs: Sequence[tuple[Any, "Job"]], made: dict[str, PlannedSet], location: str) -> PlannedSet:
    """Return the label set of a job's samples with the arrays that all jobs add to it."""
    from pipeline.labels.label_set import correspondence_array, label_spec, patch_array, pixel_array
    from pipeline.labels.tables import tables_of

    spec = label_spec(job.samples)
    arrays: list[ArraySpec] = []
    for other in (one for _, one in jobs if label_spec(one.samples) == spec):
        if spec.pixel_labels:
            arrays += [pixel_array(other.samples), *map(patch_array, other.grids)]
        if other.samples.view.moves_labels:
            clean = other.labels.clean_grids
            arrays += [correspondence_array(grid, clean.get(grid, grid)) for grid in other.grids]
        arrays += [other.labels.input_pixels] if other.labels.input_pixels else []
    known = made.get(spec.digest)
    listed = {**(known.arrays if known else {}), **{array.name: array for array in arrays}}
    layout = plan_layout(len(job.samples.tiles), pixel_array(job.samples).row_bytes)
    tables = known.make_tables if known else _cached(lambda: tables_of(job.samples))
    made[spec.digest] = PlannedSet(spec, layout, listed, location, tables)
    return made[spec.digest]


def _cached(make: Callable[[], Mapping[str, pd.DataFrame]]) -> Callable[[], Mapping[str, pd.DataFrame]]:
    """Return the function with its result kept: reading objects takes time."""
    from functools import cache

    return cache(make)
