"""Notes of what is complete: with them a run that has nothing to do builds no model and reads no weights.

Which arrays a model gives is known once it is built. So an extraction that leaves the sets of a model under a view
complete notes what it made them from (the settings, rows and labels, the sha256 of the file of weights, this code and
the versions of the libraries that build models) and which arrays these gave. The next run compares all of that, and
looks whether the arrays are still sealed. Where a note is absent, torn or says anything else, the model is built.

A file of weights whose size, times and inode are unchanged is not hashed again, as with images: content that changed
and left all of them as they were, as in layers of containers, is not noticed (docs/decisions.md).
"""

import contextlib
import functools
import hashlib
import importlib.metadata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.labels.label_set import label_spec
from pipeline.recipe import OWN, FeatureRecipe, ModelRecipe, Recipe
from pipeline.rows.samples import Samples
from pipeline.rows.sources import FileDigests
from pipeline.shipped_weights import weights_path
from pipeline.source_choice import ALL_SOURCES, SourceChoice
from pipeline.views import View
from pipeline.workspace import Workspace
from stores import Store, ZarrSet
from stores.canonical import checksummed, digest, read_checksummed
from stores.errors import PatchbankError, UserError
from stores.format.commits import parse
from stores.format.paths import SOURCES
from stores.format.records import record_bytes
from stores.format.summary import read_summary
from stores.specs import Record

MOST_WEIGHT_BYTES = 1 << 40
"""Size of the largest file of weights, in bytes."""

_LIBRARIES = ("numpy", "pillow", "safetensors", "scipy", "timm", "torch")
"""Libraries that decide which arrays and values a recipe gives."""


class CompleteNote(Record):
    """What the sets of one model under one view were made from, when they were complete."""

    key: str
    """The model's key in the store's index."""
    made_from: str
    """Digest of everything that the sets follow from."""
    features: str
    """Digest of the feature set."""
    labels: str
    """Digest of the label set."""
    arrays: tuple[str, ...]
    """Addresses of the arrays of the feature set that were wanted."""
    label_arrays: tuple[str, ...]
    """Addresses of the arrays of the label set."""
    cached_weights: tuple[str, ...] = ()
    """Repository and file name of timm's weights in the Hugging Face cache; empty for other weights."""


@dataclass(frozen=True)
class CompleteSets:
    """The sets of one model under one view, to which nothing is to be added."""

    model: ModelRecipe
    view: View
    features: ZarrSet
    labels: ZarrSet


@functools.cache
def code_digest() -> str:
    """Return a digest of the code that builds models and makes sets, and of the libraries that it uses."""
    root = Path(__file__).parents[2]
    paths = sorted(path for package in ("pipeline", "stores") for path in (root / package).rglob("*.py"))
    sources = {path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}
    return digest({"sources": sources, "versions": {name: _version(name) for name in _LIBRARIES}})


def _version(library: str) -> str:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


class CompleteNotes:
    """Reads and writes the notes of one experiment; they are a cache, no result depends on them.

    Args:
        recipe: The experiment's extraction settings.
        workspace: Store and weights on this machine.
        samples: The rows in the clean view.
        choice: Source images that are extracted.
    """

    def __init__(
        self, recipe: Recipe, workspace: Workspace, samples: Samples, choice: SourceChoice = ALL_SOURCES
    ) -> None:
        self.recipe, self.workspace, self.samples, self.choice = recipe, workspace, samples, choice
        self.store = workspace.store

    def complete_sets(self, model: ModelRecipe) -> list[CompleteSets] | None:
        """Return the sets of a model under all views, None where anything may be missing; builds no model."""
        found = []
        for view, features in self.recipe.all_views(model):
            one = self._complete(model, view, features)
            if one is None:
                return None
            found.append(one)
        return found

    def weights(self, model: ModelRecipe, cached: tuple[str, ...] = ()) -> str | None:
        """Return what names a model's weights: the sha256 of their file, nothing for random ones, None if unknown.

        Args:
            model: The model as the recipe names it.
            cached: Repository and file name of timm's weights in the Hugging Face cache.
        """
        if model.weights == OWN or model.name in self.workspace.own:
            return None
        if model.weights == "random":
            return ""
        path = self._file(model, cached)
        if path is None:
            return None
        digests = FileDigests(self.store, path.parent, MOST_WEIGHT_BYTES)
        try:
            sha256 = digests.of([path])[path]
        except UserError:
            return None
        with contextlib.suppress(UserError):  # a store that may only be read
            digests.save()
        return sha256

    def _file(self, model: ModelRecipe, cached: tuple[str, ...]) -> Path | None:
        if model.weights != "pretrained":
            return weights_path(model, self.workspace.folder)
        if len(cached) != 2:
            return None
        from huggingface_hub import try_to_load_from_cache

        found = try_to_load_from_cache(*cached)
        return Path(found) if isinstance(found, str) else None

    def write(
        self,
        model: ModelRecipe,
        view: View,
        features: FeatureRecipe,
        sets: Mapping[str, ZarrSet],
        arrays: Iterable[str],
        weights: str | None,
        cached: tuple[str, ...] = (),
    ) -> None:
        """Note that the sets of a model under a view are complete, if they are.

        Args:
            model: The model as the recipe names it.
            view: The view.
            features: The arrays that were wanted of the view, as the recipe names them.
            sets: The feature set and the label set, by kind.
            arrays: Addresses of the wanted arrays of the feature set.
            weights: What `weights` returned before the model was built; a file that changed since is not noted.
            cached: As for `weights`.
        """
        of_features, labels = sets["features"], sets["labels"]
        names = tuple(sorted(arrays))
        if not all(map(of_features.sealed, names)) or weights is None or weights != self.weights(model, cached):
            return
        key = self.recipe.model_key(model, self.choice, view)
        note = CompleteNote(
            key=key,
            made_from=self._made_from(key, features, weights),
            features=of_features.digest,
            labels=labels.digest,
            arrays=names,
            label_arrays=tuple(sorted(name for name in labels.arrays if labels.sealed(name))),
            cached_weights=cached if model.weights == "pretrained" else (),
        )
        if note != read_note(self.store, key):
            with contextlib.suppress(UserError):  # what was extracted is complete, whether or not it is noted
                self.store.objects.put(_path(key), [checksummed(note.model_dump(mode="json"))])

    def _complete(self, model: ModelRecipe, view: View, features: FeatureRecipe) -> CompleteSets | None:
        key = self.recipe.model_key(model, self.choice, view)
        note = read_note(self.store, key)
        if note is None:
            return None
        weights = self.weights(model, note.cached_weights)
        if weights is None or note.made_from != self._made_from(key, features, weights):
            return None
        sets = {"features": note.features, "labels": note.labels}
        if self.store.recall(key) != sets:
            return None
        try:
            opened = {kind: self.store.open(f"{kind}/{name}") for kind, name in sets.items()}
        except PatchbankError:
            return None
        for kind, names in (("features", note.arrays), ("labels", note.label_arrays)):
            stored = opened[kind]
            if stored.commits or not all(map(stored.sealed, names)):
                return None
            summary = read_summary(self.store.objects, stored.prefix)
            if summary is None or summary["notes"].get(key) != sets:
                return None
        return CompleteSets(model, view, opened["features"], opened["labels"])

    def _made_from(self, key: str, features: FeatureRecipe, weights: str) -> str:
        """Return the digest of everything that the sets of one model under one view follow from."""
        rows = [self.samples.record.canonical(), self.samples.digest, self.samples.images_revision]
        record = [key, features.model_dump(mode="json"), weights, rows, self._labels, code_digest()]
        return digest(record)

    @functools.cached_property
    def _labels(self) -> str:
        return label_spec(self.samples).digest


def are_noted(recipe: Recipe, models: Iterable[ModelRecipe], store: Store, choice: SourceChoice) -> bool:
    """Return whether the store has notes of all models and views; whether they still hold is not looked at."""
    keys = (recipe.model_key(model, choice, view) for model in models for view, _ in recipe.all_views(model))
    return all(read_note(store, key) is not None for key in keys)


def read_note(store: Store, key: str) -> CompleteNote | None:
    """Return the note under a key of the store's index, None when it is absent, torn or of another key."""
    note = parse(CompleteNote, read_checksummed(record_bytes(store.objects, _path(key))))
    return note if note is not None and note.key == key else None


def _path(key: str) -> str:
    return f"{SOURCES}/{digest(['complete', key])[:32]}.json"
