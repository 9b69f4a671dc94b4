"""One model over one set of samples: what it would make, and how much of that is there."""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline import capture, frames
from pipeline.datasets import images
from pipeline.models.contract import FrozenModel
from pipeline.recipe import FeatureRecipe, ModelRecipe, Recipe, StorageRecipe
from pipeline.samples import Samples
from stores import Store, ZarrSet
from stores.geometry import Layout, RowRange, plan_layout
from stores.specs import ArraySpec, FeatureSpec, ViewSpec

QUEUE_BYTES = 256 << 20
"""Chunks that may wait to be written, in bytes."""


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

    def missing(self) -> dict[RowRange, tuple[ArraySpec, ...]]:
        """Return the ranges that lack some wanted array, with those arrays; sealed arrays are never missing."""
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

    @property
    def state(self) -> str:
        """``sealed``, ``partial`` or ``missing``."""
        if not self.unsealed():
            return "sealed"
        return "missing" if len(self.missing()) == self.layout.n_ranges else "partial"

    @property
    def row_bytes(self) -> int:
        """Stored bytes of one row over all wanted arrays."""
        return sum(array.row_bytes for array in self.arrays)

    @property
    def missing_bytes(self) -> int:
        """Bytes still to be written."""
        return sum(
            (row_range.stop - row_range.start) * sum(array.row_bytes for array in arrays)
            for row_range, arrays in self.missing().items()
        )

    @property
    def n_objects(self) -> int:
        """Chunk objects of all wanted arrays when they are complete."""
        return sum(self.layout.n_objects(array) for array in self.arrays)

    def buffer_bytes(self, batch_size: int) -> int:
        """Return what an extraction holds beside the model's own activations, in bytes.

        One chunk an array is being filled, a queue waits to be written, a batch is copied, two more are decoded.
        """
        filling = sum(self.layout.chunk_rows(array) * array.row_bytes for array in self.arrays)
        pixels = self.samples.frame.input.height * self.samples.frame.input.width * 3
        return filling + QUEUE_BYTES + batch_size * (self.row_bytes + 4 * pixels)


def prepare(recipe: Recipe, model_recipe: ModelRecipe, model: FrozenModel, samples: Samples, store: Store) -> Job:
    """Return the job of one model; writes nothing. Raises UserError for layers the model lacks."""
    spec = feature_spec(model, samples, recipe.features)
    arrays = capture.wanted_arrays(model, recipe.features)
    existing = store.open(spec) if store.has(spec) else None
    layout = existing.layout if existing else _layout(arrays, len(samples.tiles), recipe.storage)
    return Job(model_recipe.display, model, samples, spec, arrays, layout, existing)


def feature_spec(model: FrozenModel, samples: Samples, features: FeatureRecipe) -> FeatureSpec:
    """Return the record that names the feature set."""
    return FeatureSpec(
        dataset=samples.record,
        samples=samples.digest,
        frame=samples.frame,
        view=ViewSpec(),
        model=model.record,
        compute_dtype=features.compute_dtype,
        store_dtype=features.store_dtype,
        revisions={"capture": capture.REVISION, "frames": frames.REVISION, "images": images.REVISION},
    )


def _layout(arrays: Sequence[ArraySpec], n_rows: int, storage: StorageRecipe) -> Layout:
    return plan_layout(
        n_rows,
        max(array.row_bytes for array in arrays),
        range_bytes=int(storage.range_megabytes * (1 << 20)),
        compression=storage.compression,
    )
