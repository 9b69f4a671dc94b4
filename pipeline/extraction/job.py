"""Prepares the extraction of one model over one set of samples: arrays, layout, and what already exists."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, UInt8

from pipeline import views
from pipeline.captures import table as captures
from pipeline.captures.contract import rows_together
from pipeline.captures.grams import remembered_bytes
from pipeline.extraction.model_pass import precision
from pipeline.labels.input_pixels import input_array
from pipeline.labels.label_set import label_spec
from pipeline.labels.stored_inputs import StoredInputs, stored_inputs
from pipeline.models.contract import FrozenModel
from pipeline.recipe import FeatureRecipe, ModelRecipe, Recipe, StorageRecipe
from pipeline.rows import frames
from pipeline.rows.pixels import read_tiles
from pipeline.rows.samples import Samples
from pipeline.rows.under_view import for_view
from pipeline.views import CLEAN, View
from stores import Store, ZarrSet
from stores.errors import UserError
from stores.format.layout import Layout, RowRange, plan_layout
from stores.specs import ArraySpec, FeatureSpec
from stores.writing.known_rows import OtherSet, sets_with_equal_rows

QUEUE_BYTES = 256 << 20
"""Size of the queue of chunks that wait to be written, in bytes."""

MOST_SMALL_ROWS = 4096
"""Rows of the longest range of a set that begins without patch tokens: a killed run loses the ranges it was writing,
and means are so small that 64 MiB of them are hours of computing."""

SAMPLE_STATS = "view"
"""Group of the statistics that a view stores of every row; they do not come from the model."""


@dataclass(frozen=True)
class LabelJob:
    """What the label set of a feature set's samples has to hold for it."""

    clean_grids: Mapping[tuple[int, int], tuple[int, int]]
    """The grid of the clean view by each patch grid of the features; they differ for another input size."""
    input_pixels: ArraySpec | None = None
    """The model inputs that the label set is to keep."""
    has_input_pixels: bool = True
    """Whether it holds them already."""


@dataclass(frozen=True)
class Job:
    """One feature set to be made or completed."""

    title: str
    model: FrozenModel
    samples: Samples
    spec: FeatureSpec
    arrays: tuple[ArraySpec, ...]
    layout: Layout
    existing: ZarrSet | None
    labels: LabelJob
    features: FeatureRecipe
    """The arrays to keep, as the recipe names them."""
    others: tuple[OtherSet, ...] = ()
    """Other sets that hold some of the rows, where something is missing."""
    inputs: StoredInputs | None = None
    """Reads the model's inputs from the label set, where that holds them and something is missing."""
    dead_features: str = "stop"
    """Whether dead features ``stop`` the sealing of their array or are a ``count`` in its seal."""

    def missing(self) -> dict[RowRange, tuple[ArraySpec, ...]]:
        """Return the ranges that lack a wanted array, each with those arrays; sealed arrays are never missing."""
        if self.existing is None:
            return dict.fromkeys(self.layout.ranges(), self.arrays)
        done = {a.name: self.existing.committed(a.name) if a.name in self.existing else () for a in self.arrays}
        missing = {}
        for row_range in self.layout.ranges():
            lacking = tuple(array for array in self.arrays if row_range.number not in done[array.name])
            if lacking:
                missing[row_range] = lacking
        return missing

    def unsealed(self) -> tuple[str, ...]:
        """Return the addresses of wanted arrays that are not sealed."""
        return tuple(
            array.name for array in self.arrays if self.existing is None or not self.existing.sealed(array.name)
        )

    def read(
        self, start: int, stop: int
    ) -> tuple[UInt8[np.ndarray, "sample height width 3"], dict[str, Float32[np.ndarray, " sample"]]]:
        """Return pixels and the view's statistics of rows of one source, stored or decoded, as `read_tiles` does."""
        if self.inputs is not None:
            return self.inputs.read(start, stop)
        return read_tiles(self.samples, self.spec.model.interpolation, start, stop)

    @property
    def precision(self) -> str:
        """The precision that the model runs in, as the compute record names it."""
        return precision.precision_of(self.spec)

    @property
    def state(self) -> str:
        """``sealed``, ``partial`` or ``missing``."""
        if not self.unsealed() and self.labels.has_input_pixels:
            return "sealed"
        return "missing" if len(self.missing()) == self.layout.n_ranges else "partial"

    @property
    def grids(self) -> tuple[tuple[int, int], ...]:
        """Rows and columns of the patches of the wanted arrays, every grid once."""
        return tuple(sorted({array.grid for array in self.arrays if array.grid is not None}))

    @property
    def row_bytes(self) -> int:
        """Stored bytes of one row over all wanted arrays."""
        return sum(array.row_bytes for array in self.arrays)

    @property
    def n_bytes(self) -> int:
        """Bytes of the complete set without compression, input pixels included; a set's last chunks are padded."""
        pixels = self.labels.input_pixels
        return (0 if pixels is None else self.layout.n_rows * pixels.row_bytes) + sum(
            self.layout.stored_bytes(array, row_range) for row_range in self.layout.ranges() for array in self.arrays
        )

    @property
    def missing_bytes(self) -> int:
        """Bytes still to be written without compression, input pixels included; a set's last chunks are padded."""
        return self.missing_input_bytes + sum(
            self.layout.stored_bytes(array, row_range)
            for row_range, arrays in self.missing().items()
            for array in arrays
        )

    @property
    def missing_input_bytes(self) -> int:
        """Bytes of input pixels that are still to be written."""
        pixels = self.labels.input_pixels
        return 0 if pixels is None or self.labels.has_input_pixels else self.layout.n_rows * pixels.row_bytes

    @property
    def n_objects(self) -> int:
        """Chunk objects of all wanted arrays when they are complete."""
        return sum(self.layout.n_objects(array) for array in self.arrays)

    def buffer_bytes(self, batch_size: int, on_gpu: bool) -> int:
        """Return the memory of an extraction without the model's activations, in bytes.

        One chunk per array is being filled, a queue waits to be written, a batch is copied, two more are decoded. On a
        GPU the results of the next batch arrive meanwhile, in a second block.
        """
        filling = sum(self.layout.chunk_rows(array) * array.row_bytes for array in self.arrays)
        filling += sum(remembered_bytes(self.model, array) for array in self.arrays)
        pixels = self.samples.frame.input.height * self.samples.frame.input.width * 3
        filling += 0 if self.inputs is None else self.inputs.n_bytes
        return filling + QUEUE_BYTES + batch_size * ((2 if on_gpu else 1) * self.row_bytes + 4 * pixels)


def prepare(
    recipe: Recipe,
    model_recipe: ModelRecipe,
    model: FrozenModel,
    samples: Samples,
    store: Store,
    view: View = CLEAN,
    features: FeatureRecipe | None = None,
    clean_model: FrozenModel | None = None,
) -> Job:
    """Return the job of one model under one view; writes nothing. Raises UserError for layers the model lacks.

    Args:
        recipe: The experiment's extraction settings.
        model_recipe: The model as the recipe names it.
        model: The model, built for the view's input size.
        samples: The rows in the clean view.
        store: The store to look in for what exists.
        view: The view to extract.
        features: Arrays to keep; those of the recipe by default.
        clean_model: The model built for the clean view's input size, if that differs.
    """
    features = features or recipe.features
    if view is not CLEAN:
        samples = for_view(samples, view)
    spec = feature_spec(model, samples, features)
    tokens = captures.wanted_arrays(model, features)
    clean = tokens if clean_model is None else captures.wanted_arrays(clean_model, features)
    grids = [(own.grid, other.grid) for own, other in zip(tokens, clean, strict=True)]
    clean_grids = {own: other for own, other in grids if own is not None and other is not None}
    arrays = (*tokens, *_stat_arrays(view))
    existing = store.open(spec) if store.has(spec) else None
    pixels = input_array(samples, model.record.interpolation) if features.input_pixels else None
    job = Job(
        title=model_recipe.display if view is CLEAN else f"{model_recipe.display}, {view.title}",
        model=model,
        samples=samples,
        spec=spec,
        arrays=arrays,
        layout=_fitting(existing.layout if existing else _layout(arrays, len(samples.tiles), recipe.storage), arrays),
        existing=existing,
        labels=LabelJob(clean_grids, pixels, pixels is None or _has_inputs(store, samples, pixels)),
        features=features,
        dead_features=features.dead_features or _default_dead_features(tokens),
    )
    if not job.missing():
        return job
    inputs = stored_inputs(samples, model.record.interpolation, store)
    return dataclasses.replace(job, others=tuple(sets_with_equal_rows(store, spec, samples.table)), inputs=inputs)


def _fitting(layout: Layout, arrays: Sequence[ArraySpec]) -> Layout:
    """Return the layout; raises UserError where a range does not hold the rows that are computed together."""
    together = max(map(rows_together, arrays), default=1)
    if layout.n_ranges > 1 and layout.range_rows % together:
        raise UserError(
            f"ranges of this set have {layout.range_rows} rows, fewer than the {together} of a minibatch of grams: set "
            f"gram_rows = {layout.range_rows} in [features], or a larger range_megabytes in [storage] for a new store"
        )
    return layout


def _default_dead_features(tokens: Sequence[ArraySpec]) -> str:
    """Return ``count`` for maps of convolutional stages, whose rectifiers leave channels at zero, else ``stop``."""
    is_convolutional = any(array.name.startswith("tokens/stage.") for array in tokens)
    return "count" if is_convolutional else "stop"


def feature_spec(model: FrozenModel, samples: Samples, features: FeatureRecipe) -> FeatureSpec:
    """Return the record that names the feature set."""
    revisions = {"capture": captures.REVISION, "frames": frames.REVISION, "images": samples.images_revision}
    revisions |= precision.revisions(features.compute_dtype)
    if samples.view is not CLEAN:
        revisions["views"] = views.REVISION
    if samples.view.place is not None and model.record.interpolation == "box":
        revisions["enlarging"] = 2  # bicubic instead of copies of pixels
    return FeatureSpec(
        dataset=samples.record,
        samples=samples.digest,
        frame=samples.frame,
        view=samples.view.spec,
        model=model.record,
        compute_dtype=features.compute_dtype.removesuffix("-autocast"),  # type: ignore[arg-type]
        store_dtype=features.store_dtype,
        revisions=revisions,
    )


def _has_inputs(store: Store, samples: Samples, inputs: ArraySpec) -> bool:
    spec = label_spec(samples)
    return store.has(spec) and store.open(spec).sealed(inputs.name)


def _stat_arrays(view: View) -> tuple[ArraySpec, ...]:
    """Return the records of the statistics that a view stores of every row."""
    return tuple(
        ArraySpec(name=f"{SAMPLE_STATS}/{name}", row_shape=(), dtype="float32", dimension_names=("sample",))
        for name in view.sample_stats
    )


def _layout(arrays: Sequence[ArraySpec], n_rows: int, storage: StorageRecipe) -> Layout:
    range_bytes = int(storage.range_megabytes * (1 << 20))
    largest = max(array.row_bytes for array in arrays)
    if all(array.group != "tokens" for array in arrays):  # rows that take as long to compute are small
        largest = max(largest, range_bytes // MOST_SMALL_ROWS)
    return plan_layout(
        n_rows,
        largest,
        range_bytes=range_bytes,
        chunk_bytes=max(1, int(storage.chunk_megabytes * (1 << 20))),
        compression=storage.compression,
    )
