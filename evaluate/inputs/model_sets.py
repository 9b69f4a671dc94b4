"""One model's sealed sets: spec, tables, token arrays by layer, and the content digests of what is read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import pandas as pd

from evaluate.settings import Layers
from stores import ZarrSet
from stores.errors import MissingError, UserError
from stores.format.paths import OF_LAYERS
from stores.specs import FeatureSpec, LabelSpec

PIXELS = "pixels/classes"
"""Address of the class of every input pixel, in a label set."""


@dataclass(frozen=True)
class ViewSets:
    """A model's sets under one view, row by row those of the clean view."""

    name: str
    level: float
    """Strength in the view's own unit."""
    features: ZarrSet
    labels: ZarrSet
    """The clean label set where the view moves no label."""

    @property
    def spec(self) -> FeatureSpec:
        """The feature set's record."""
        assert isinstance(self.features.spec, FeatureSpec)
        return self.features.spec

    @property
    def moves_labels(self) -> bool:
        """Whether the label set is the view's own."""
        assert isinstance(self.labels.spec, LabelSpec)
        return self.labels.spec.view.name == self.name


@dataclass(frozen=True)
class ModelSets:
    """A model's feature set with the label set of the same samples."""

    title: str
    """Name in tables and figures."""
    features: ZarrSet
    labels: ZarrSet
    probe_batchnorm: bool
    """Whether its probes standardise features."""
    extract_command: str
    """What makes missing arrays, for error messages."""
    views: Mapping[tuple[str, float], ViewSets] = field(default_factory=dict)
    """The same rows under every view of the experiment, by name and level."""
    role: str | None = None
    """The model's role in the papers' claims, where the experiment says it (`evaluate.claims.roles`)."""

    def for_view(self, name: str, level: float) -> "ModelSets":
        """Return the same rows under a view, to be read like any other; raises MissingError for one not extracted."""
        if (name, level) not in self.views:
            raise MissingError(
                f"{self.title} was not extracted under the view {name} {level:g}: add it to [[views]] and run "
                f"`{self.extract_command}`"
            )
        viewed = self.views[name, level]
        return replace(self, features=viewed.features, labels=viewed.labels, views={})

    @property
    def spec(self) -> FeatureSpec:
        """The feature set's record."""
        assert isinstance(self.features.spec, FeatureSpec)
        return self.features.spec

    @property
    def label_spec(self) -> LabelSpec:
        """The label set's record."""
        assert isinstance(self.labels.spec, LabelSpec)
        return self.labels.spec

    @cached_property
    def samples(self) -> pd.DataFrame:
        """The sample table."""
        return self.labels.samples

    @cached_property
    def invalid(self) -> dict[str, int]:
        """How many rows every analysis leaves out, by the reason why."""
        left_out = self.samples[~self.samples["valid"].to_numpy(dtype=bool)]
        return {str(reason): int(count) for reason, count in left_out["reason"].value_counts(sort=False).items()}

    @cached_property
    def classes(self) -> pd.DataFrame:
        """The class table."""
        return self.labels.table("classes")

    @property
    def class_names(self) -> list[str]:
        """The class names by id."""
        return [str(name) for name in self.classes["name"]]

    @cached_property
    def objects(self) -> pd.DataFrame:
        """The object table; raises UserError when the data has none."""
        if not self.label_spec.objects:
            raise UserError(
                f"the data set {self.label_spec.dataset.name} has no objects: choose one with boxes or outlines"
            )
        return self.labels.table("objects")

    def arrays(self, layers: Layers, norm: str, groups: Sequence[str] = ("tokens",)) -> list[str]:
        """Return the token arrays of some layers, inner ones first; negative layers count from the last stored.

        Layers are blocks, or the stages of a backbone that has them: these have no norm to choose, and ``norm`` does
        not count. Raises MissingError when one is not there or not sealed, with the command that makes it and, where
        the set does not list it, the key that adds it.

        Args:
            layers: ``all`` or numbers.
            norm: ``final`` or ``none``; stages have no norm.
            groups: groups that serve, the preferred one first, where means or prefix tokens are enough.
        """
        kept: dict[str, dict[int, str]] = {group: {} for group in OF_LAYERS}
        for name, array in self.features.arrays.items():
            is_whole = array.group in kept and "mask_ratio" not in array.attributes
            if is_whole and array.is_normed in (None, norm == "final"):
                kept[array.group][array.layer or 0] = name
        stored = {layer: name for group in reversed(groups) for layer, name in kept[group].items()}
        reduced = {layer for group in kept for layer in kept[group]} - {*stored}
        # A layer whose records are lost still counts, so that -1 never means another one.
        numbers = sorted({*stored, *self.features.lost_layers}) or sorted(reduced)
        if layers == "all":
            wanted = numbers
        else:
            wanted = sorted({numbers[layer] if -len(numbers) <= layer < 0 else layer for layer in layers})
        suffix = ".norm" if norm == "final" else ""
        names = [stored.get(layer, f"{groups[0]}/block.{layer}{suffix}") for layer in wanted]
        missing = [name for name in names if not self.features.sealed(name)]
        if missing or not names:
            what = missing[0] if missing else f'tokens with norm = "{norm}"'
            asks = "" if missing and missing[0] in self.features.arrays else "add it to [features] and "
            if missing and asks and wanted[names.index(missing[0])] in reduced:
                asks = "name its layer in `tokens` of [features] and "
            raise MissingError(
                f"{what} of {self.title} is not complete in {self.features.objects.url}: "
                f"{asks}run `{self.extract_command}`"
            )
        return names

    def grid(self, array: str) -> tuple[int, int]:
        """Return rows and columns of an array's patches."""
        facts = self.features.arrays[array].attributes
        return int(facts["grid_rows"] or 0), int(facts["grid_columns"] or 0)

    def n_channels(self, array: str) -> int:
        """Return the number of features of an array."""
        return int(self.features.arrays[array].row_shape[-1])

    def layer(self, array: str) -> int:
        """Return the layer of an array, counted from 0."""
        return self.features.arrays[array].layer or 0

    def is_normed(self, array: str) -> bool | None:
        """Return whether an array holds tokens after the final norm; None for stages, which have no norm to choose."""
        norm = self.features.arrays[array].attributes["norm"]
        return None if norm is None else bool(norm)

    def need_labels(self, analysis: str) -> None:
        """Raise UserError when the data has no pixel labels."""
        if not self.label_spec.pixel_labels:
            raise UserError(
                f"{analysis} needs a class for every pixel and the data set {self.label_spec.dataset.name} has none: "
                'remove it from [[analyses]] ("variance-spectrum" needs no labels)'
            )

    def label_array(self, grid: tuple[int, int]) -> str:
        """Return the address of the patch labels on a grid; raises MissingError when they were not made."""
        name = f"patches/{grid[0]}x{grid[1]}"
        if not self.labels.sealed(name):
            raise MissingError(
                f"{name} is not complete in label set {self.labels.digest[:12]}: run `{self.extract_command}`"
            )
        return name

    def inputs(self, array: str, *, labelled: bool = False) -> dict[str, str]:
        """Return the content digests of a token array, and of patch and pixel labels, for the result key."""
        label_arrays = (self.label_array(self.grid(array)), PIXELS) if labelled else ()
        return {
            "features": self.features.digest,
            "labels": self.labels.digest,
            array: self.features.content[array],
            **{name: self.labels.content[name] for name in label_arrays},
        }
