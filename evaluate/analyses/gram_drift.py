"""Drift of the patches' mutual likeness: between layers, models and views of the same images.

For each image the cosines of all pairs of its patches, ``G = X X^T`` with normalised patch tokens ``X``, are compared
with those of another layer, of another model on the same grid, or under a view: ``gram_drift`` is the mean over pairs
of the squared difference, ``|G - H|_F^2 / N^2``. It is what Gram anchoring keeps small in training, there summed
(DINOv3, Siméoni et al. 2025, arXiv 2508.10104): dense features degrade where it grows, while scores of whole images
still rise. 0 is the same layout of likeness, whatever the features; widths may differ, grids may not. Views that move
pixels (rotation, flip) compare patches at the same place of the input.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Float64

from evaluate.inputs.memory import reading_bytes
from evaluate.inputs.model_sets import ModelSets
from evaluate.inputs.rows import RowSelection, RowSplit, image_numbers
from evaluate.inputs.views import check_rows, selected_views
from evaluate.inputs.work import Work, reading
from evaluate.results.metrics import GRAM_DRIFT
from evaluate.results.table import Result
from evaluate.scoring.similarity.compared import check_same_rows
from evaluate.settings import BootstrapSettings, Context, LayerSettings
from evaluate.task import ModelTask
from stores.errors import UserError


class GramDrift(LayerSettings, BootstrapSettings):
    """How far the cosines of all pairs of an image's patches differ between layers, models and views."""

    kind: Literal["gram-drift"]
    layers: Literal["all"] | tuple[int, ...] = "all"
    """Layers to compare: ``all`` stored ones, or numbers from 0; negative ones count from the last stored."""
    views: tuple[str, ...] | None = ()
    """Names of the views whose patches are compared with the clean ones, in the same layers; None takes all."""


def cosine_grams(tokens: Float[np.ndarray, "patch channel"]) -> Float[np.ndarray, "patch patch"]:
    """Return the cosines of all pairs of one image's patches, in float32."""
    rows = tokens.astype(np.float32)
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return rows @ rows.T


def drift(
    own: Sequence[Float[np.ndarray, "patch patch"]], other: Sequence[Float[np.ndarray, "patch patch"]]
) -> Float64[np.ndarray, "layer other"]:
    """Return the mean squared difference of the cosines of every layer and every other layer of one image."""
    return np.array([[np.mean((one - two) ** 2, dtype=np.float64) for two in other] for one in own])


@dataclass(frozen=True, eq=False)
class GramDriftTask(ModelTask[GramDrift]):
    """Drift of all pairs of layers of two models, or of the same layers under a view."""

    own_arrays: tuple[str, ...]
    other: ModelSets
    """The other model, the model itself, or its sets under a view."""
    other_arrays: tuple[str, ...]
    view: tuple[str, float] | None = None

    analysis = "gram-drift"
    what = "Gram drift of {task.title} and {task.other.title}"
    key_settings = ("resamples",)
    key_rows = ("scored",)
    trains = False

    @classmethod
    def tasks(cls, models: Sequence[ModelSets], settings: GramDrift, context: Context) -> Iterator["GramDriftTask"]:
        """Yield one task a pair of models of one grid, and one a model and view; raises UserError for other rows."""
        for number, model in enumerate(models):
            split = RowSplit(model, context.selection, cls.analysis)
            arrays = tuple(model.arrays(settings.layers, settings.norm))
            for other in models[number:]:
                theirs = tuple(other.arrays(settings.layers, settings.norm))
                check_same_rows(model, other)
                if {model.grid(one) for one in arrays} == {other.grid(one) for one in theirs}:
                    yield cls(model, arrays[0], settings, context, split, arrays, other, theirs)
            for name, level in selected_views(model, settings.views, cls.analysis):
                viewed = model.for_view(name, level)
                check_rows(model, model.views[name, level])
                kept = viewed.features.arrays
                shared = tuple(one for one in arrays if one in kept and viewed.grid(one) == model.grid(one))
                if shared:
                    yield cls(model, shared[0], settings, context, split, shared, viewed, shared, (name, level))

    @property
    def scored(self) -> RowSelection:
        """Rows whose patches are compared: those for validation, or all that are selected."""
        return self.split.scored

    def check(self) -> None:
        """Raise UserError for layers of several grids, which convolutional backbones have."""
        if len({self.model.grid(one) for one in self.own_arrays}) > 1:
            raise UserError(
                f"gram-drift compares layers of one grid and those of {self.title} differ: name one in `layers`"
            )

    def parameters(self) -> dict[str, Any]:
        """Return the parameters that the class lists, and what is compared."""
        other = {"reference": self.other.title, "view": None if self.view is None else list(self.view)}
        return {**super().parameters(), **other, "own": list(self.own_arrays), "other": list(self.other_arrays)}

    def inputs(self) -> dict[str, str]:
        """Return the digests of all arrays of both sides."""
        inputs = {"features": self.model.features.digest, "labels": self.model.labels.digest}
        inputs |= {name: self.model.features.content[name] for name in self.own_arrays}
        return inputs | {f"reference {name}": self.other.features.content[name] for name in self.other_arrays}

    @property
    def columns(self) -> dict[str, Any]:
        """The shared columns, the other side and the view."""
        columns = {**super().columns, "reference": self.other.title, "x_name": "reference_depth"}
        return columns if self.view is None else columns | {"view": self.view[0], "level": self.view[1]}

    def compute(self) -> Result:
        """Return one row a pair of layers; under a view, one a layer."""
        rows_of = self.scored
        images = image_numbers(self.model, rows_of)
        bootstrap, counts = self.bootstrap(rows_of.sources), np.bincount(images, minlength=len(rows_of.sources))
        of_rows = np.concatenate([self._drifts(rows) for rows in self._blocks(rows_of.rows)])
        rows = []
        for at in np.ndindex(of_rows.shape[1:]):
            if self.view is not None and at[0] != at[1]:
                continue
            values = of_rows[:, *at]
            draws = bootstrap.ratio(np.bincount(images, values, len(counts)), counts.astype(np.float64))
            own, other = self.own_arrays[at[0]], self.other_arrays[at[1]]
            columns = {"array": own.partition("/")[2], "layer": self.model.layer(own)}
            columns |= {"normed": self.model.is_normed(own), "x_value": self.other.layer(other) + 1.0}
            rows.append(bootstrap.row(GRAM_DRIFT, float(values.mean()), draws, **columns))
        return Result(rows)

    def _blocks(self, rows: np.ndarray) -> Iterator[np.ndarray]:
        """Yield the rows that lie in one chunk of every array."""
        stored = self.model.features[self.own_arrays[0]]
        chunks = rows // stored.layout.chunk_rows(stored.spec)
        for chunk in np.unique(chunks):
            yield rows[chunks == chunk]

    def _drifts(self, rows: np.ndarray) -> Float64[np.ndarray, "row layer other"]:
        own = [self.model.features[name][rows] for name in self.own_arrays]
        is_same = self.other is self.model
        other = own if is_same else [self.other.features[name][rows] for name in self.other_arrays]
        found = []
        for number in range(len(rows)):
            grams = [cosine_grams(tokens[number]) for tokens in own]
            found.append(drift(grams, grams if is_same else [cosine_grams(tokens[number]) for tokens in other]))
        return np.stack(found)

    def work(self) -> Work:
        """Estimate the operations: cosines of all pairs of patches of every layer, compared with the others'."""
        n_rows, n_pairs = float(len(self.scored.rows)), float(self._n_patches**2)
        work = Work()
        for model, names in ((self.model, self.own_arrays), (self.other, self.other_arrays)):
            for name in names:
                work += reading(model, name, len(self.scored.rows))
                work += Work(2.0 * n_rows * n_pairs * model.n_channels(name))
        return work + Work(passes=4.0 * n_rows * n_pairs * len(self.own_arrays) * len(self.other_arrays))

    @property
    def _n_patches(self) -> int:
        rows, columns = self.model.grid(self.own_arrays[0])
        return rows * columns

    def peak_bytes(self) -> int:
        """Estimate peak memory: a chunk of every layer of both sides, and one image's cosines of all layers."""
        sides = [(self.model, self.own_arrays), (self.other, self.other_arrays)]
        held = sum(reading_bytes(model, name) for model, names in sides for name in names)
        n_layers = len(self.own_arrays) + len(self.other_arrays)
        grams = 4 * (n_layers + 2) * self._n_patches**2
        values = 8 * 2 * len(self.own_arrays) * len(self.other_arrays) * (len(self.scored.rows) + 512)
        return held + grams + values + 8 * 4 * self.settings.resamples
