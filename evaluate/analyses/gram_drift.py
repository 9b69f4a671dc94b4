"""Drift of the patches' mutual likeness: between layers, models and views of the same images.

For each image the cosines of all pairs of its patches, ``G = X X^T`` with normalised patch tokens ``X``, are compared
with those of another layer, of another model on the same grid, or under a view: ``gram_drift`` is the mean over pairs
of the squared difference, ``|G - H|_F^2 / N^2``. It is what Gram anchoring keeps small in training, there summed
(DINOv3, Siméoni et al. 2025, arXiv 2508.10104): dense features degrade where it grows, while scores of whole images
still rise. 0 is the same layout of likeness, whatever the features; widths may differ. Views that move pixels
(rotation, flip) compare patches at the same place of the input.

Grids may differ too: of other patch sizes, of the stages of a convolutional backbone, or of another resolution (the
view ``size``). Both sides are then brought to the fewer rows and columns before cosines are taken: a pooled
token is the mean of the tokens that its cell overlaps, weighted by the area of overlap, ``x'_i = sum_j w_ij x_j`` with
``w_ij = |cell_i n cell_j| / |cell_i|`` along either axis. From twice the resolution that is the mean of 2 x 2 tokens;
DINOv3 brings its teacher's features down from twice the resolution by bicubic interpolation, which weighs further
neighbours. Pooled tokens are smoother, so that drift at unequal grids is no measure of drift at equal ones.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Float32, Float64

from evaluate.inputs.memory import reading_bytes
from evaluate.inputs.model_sets import ModelSets
from evaluate.inputs.rows import RowSelection, RowSplit, image_numbers
from evaluate.inputs.views import check_rows, selected_views
from evaluate.inputs.work import Work, reading
from evaluate.results.metrics import GRAM_DRIFT
from evaluate.results.table import Result
from evaluate.scoring.similarity.compared import check_same_rows
from evaluate.settings import BootstrapSettings, Context, Layers, LayerSettings
from evaluate.task import ModelTask

Grid = tuple[int, int]
"""Rows and columns of patches."""


class GramDrift(LayerSettings, BootstrapSettings):
    """How far the cosines of all pairs of an image's patches differ between layers, models and views."""

    kind: Literal["gram-drift"]
    layers: Layers = "all"
    """Layers to compare: ``all`` stored ones, or numbers from 0; negative ones count from the last stored."""
    views: tuple[str, ...] | None = ()
    """Names of the views whose patches are compared with the clean ones, in the same layers; None takes all."""


def pooling(from_side: int, to_side: int) -> Float32[np.ndarray, "pooled patch"]:
    """Return the weights that bring one axis of a grid to fewer cells, by the area of overlap; each row sums to 1."""
    edges = np.arange(to_side + 1) * (from_side / to_side)
    cells = np.arange(from_side)
    low, high = (np.clip(edge[:, None] - cells, 0.0, 1.0) for edge in (edges[:-1], edges[1:]))
    return ((high - low) * (to_side / from_side)).astype(np.float32)


def pooled(tokens: Float[np.ndarray, "patch channel"], grid: Grid, to: Grid) -> Float[np.ndarray, "pooled channel"]:
    """Return one image's tokens brought to a grid of as many rows and columns or fewer; themselves on the same grid.

    Args:
        tokens: Tokens row by row.
        grid: Their rows and columns.
        to: Rows and columns that are wanted.
    """
    if grid == to:
        return tokens
    rows, columns = (pooling(*sides) for sides in zip(grid, to, strict=True))
    placed = tokens.astype(np.float32).reshape(*grid, -1)
    return np.einsum("ir,jc,rcd->ijd", rows, columns, placed, optimize=True).reshape(to[0] * to[1], -1)


def cosine_grams(tokens: Float[np.ndarray, "patch channel"]) -> Float[np.ndarray, "patch patch"]:
    """Return the cosines of all pairs of one image's patches, in float32."""
    rows = tokens.astype(np.float32)
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return rows @ rows.T


def drift(one: Float[np.ndarray, "patch patch"], other: Float[np.ndarray, "patch patch"]) -> float:
    """Return the mean squared difference of the cosines of one image's patches."""
    return float(np.mean((one - other) ** 2, dtype=np.float64))


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
        """Yield one task a pair of models, and one a model and view; raises UserError for other rows."""
        for number, model in enumerate(models):
            split = RowSplit(model, context.selection, cls.analysis)
            arrays = tuple(model.arrays(settings.layers, settings.norm))
            for other in models[number:]:
                theirs = tuple(other.arrays(settings.layers, settings.norm))
                check_same_rows(model, other)
                yield cls(model, arrays[0], settings, context, split, arrays, other, theirs)
            for name, level in selected_views(model, settings.views, cls.analysis):
                viewed = model.for_view(name, level)
                check_rows(model, model.views[name, level])
                shared = tuple(one for one in arrays if one in viewed.features.arrays)
                if shared:
                    yield cls(model, shared[0], settings, context, split, shared, viewed, shared, (name, level))

    @property
    def scored(self) -> RowSelection:
        """Rows whose patches are compared: those for validation, or all that are selected."""
        return self.split.scored

    @cached_property
    def pairs(self) -> list[tuple[int, int]]:
        """Places of the layers that are compared: all pairs, or under a view the same layers."""
        places = np.ndindex(len(self.own_arrays), len(self.other_arrays))
        return [(own, other) for own, other in places if self.view is None or own == other]

    def grid(self, own: int, other: int) -> Grid:
        """Return the rows and columns on which a pair of layers is compared: the fewer of both sides."""
        one, two = self.model.grid(self.own_arrays[own]), self.other.grid(self.other_arrays[other])
        return min(one[0], two[0]), min(one[1], two[1])

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
        for at, values in zip(self.pairs, of_rows.T, strict=True):
            draws = bootstrap.ratio(np.bincount(images, values, len(counts)), counts.astype(np.float64))
            own, other = self.own_arrays[at[0]], self.other_arrays[at[1]]
            columns = {"array": own.partition("/")[2], "layer": self.model.layer(own)}
            columns |= {"normed": self.model.is_normed(own), "x_value": self.other.layer(other) + 1.0}
            rows.append(bootstrap.row(GRAM_DRIFT, float(values.mean()), draws, **columns))
        return Result(rows)

    @property
    def _sides(self) -> list[tuple[ModelSets, tuple[str, ...]]]:
        """Both sides with their arrays."""
        return [(self.model, self.own_arrays), (self.other, self.other_arrays)]

    @cached_property
    def _grams(self) -> list[tuple[int, int, Grid]]:
        """Side, layer and grid of every matrix of cosines of one image; a model with itself has one side."""
        of_other = 0 if self.other is self.model else 1
        wanted = [(pair, self.grid(*pair)) for pair in self.pairs]
        both = [((0, own, to), (of_other, other, to)) for (own, other), to in wanted]
        return list(dict.fromkeys(one for pair in both for one in pair))

    def _blocks(self, rows: np.ndarray) -> Iterator[np.ndarray]:
        """Yield the rows that lie in one chunk of the array with the smallest chunks."""
        stored = [model.features[name] for model, names in self._sides for name in names]
        chunks = rows // min(one.layout.chunk_rows(one.spec) for one in stored)
        for chunk in np.unique(chunks):
            yield rows[chunks == chunk]

    def _drifts(self, rows: np.ndarray) -> Float64[np.ndarray, "row pair"]:
        own = [self.model.features[name][rows] for name in self.own_arrays]
        is_same = self.other is self.model
        tokens = [own, own if is_same else [self.other.features[name][rows] for name in self.other_arrays]]
        grids = [[model.grid(name) for name in names] for model, names in self._sides]
        found = np.empty((len(rows), len(self.pairs)))
        for number in range(len(rows)):
            grams = {
                (side, place, to): cosine_grams(pooled(tokens[side][place][number], grids[side][place], to))
                for side, place, to in self._grams
            }
            for column, (one, two) in enumerate(self.pairs):
                to = self.grid(one, two)
                found[number, column] = drift(grams[0, one, to], grams[0 if is_same else 1, two, to])
        return found

    def work(self) -> Work:
        """Estimate the operations: cosines of all pairs of patches of every layer, compared with the others'."""
        n_rows, work = len(self.scored.rows), Work()
        for model, names in self._sides:
            for name in names:
                work += reading(model, name, n_rows)
        for side, place, to in self._grams:
            model, names = self._sides[side]
            work += Work(2.0 * n_rows * math.prod(to) ** 2 * model.n_channels(names[place]))
        return work + Work(passes=4.0 * n_rows * sum(float(math.prod(self.grid(*pair)) ** 2) for pair in self.pairs))

    def peak_bytes(self) -> int:
        """Estimate peak memory: a chunk of every layer of both sides, and one image's cosines of all layers."""
        of_sides = [(model, name) for model, names in self._sides for name in names]
        held = sum(reading_bytes(model, name) for model, name in of_sides)
        sizes = [4 * math.prod(to) ** 2 for _, _, to in self._grams]
        one_image = 3 * 4 * max(math.prod(model.features.arrays[name].row_shape) for model, name in of_sides)
        values = 8 * 2 * len(self.pairs) * (len(self.scored.rows) + 512)
        return held + sum(sizes) + 2 * max(sizes) + one_image + values + 8 * 4 * self.settings.resamples
