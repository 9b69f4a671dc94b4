"""One model's sealed sets, and the rows an analysis reads from them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Float64, Int64, UInt8, UInt32

from evaluate.asking import Layers, Selection
from evaluate.moments import Moments
from evaluate.segmentation import patch_histograms
from evaluate.selections import SelectionRule, disjoint, rows_of, select_sources
from stores import ZarrSet
from stores.arrays import ZarrArray
from stores.errors import MissingError, UserError
from stores.specs import VOID, FeatureSpec, LabelSpec

PIXELS = "pixels/classes"


@dataclass(frozen=True)
class Viewed:
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
class Measured:
    """A model's feature set with the label set of the same samples."""

    title: str
    """Name in tables and figures."""
    features: ZarrSet
    labels: ZarrSet
    probe_batchnorm: bool
    """Whether its probes standardise features."""
    extract_command: str
    """What makes missing arrays, for error messages."""
    views: Mapping[tuple[str, float], Viewed] = field(default_factory=dict)
    """The same rows under every view of the experiment, by name and level."""
    role: str | None = None
    """The model's role in the papers' claims, where the experiment says it (`evaluate.claims.roles`)."""

    def under(self, name: str, level: float) -> "Measured":
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

    @cached_property
    def objects(self) -> pd.DataFrame:
        """The object table; raises UserError when the data has none."""
        if not self.label_spec.objects:
            raise UserError(
                f"the data set {self.label_spec.dataset.name} has no objects: choose one with boxes or outlines"
            )
        return self.labels.table("objects")

    def arrays(self, layers: Layers, norm: str) -> list[str]:
        """Return the token arrays of some layers, inner ones first; negative layers count from the last stored.

        Layers are blocks, or the stages of a backbone that has them: these have no norm to choose, and ``norm`` is
        not asked.
        Raises MissingError when one is not there or not sealed, with the command that makes it and, where the set was
        not asked to keep it, the key that asks.
        """
        stored = {
            int(array.attributes["layer"] or 0): name
            for name, array in self.features.arrays.items()
            if name.startswith("tokens/") and array.attributes["norm"] in (None, norm == "final")
        }
        numbers = sorted(stored)
        if layers == "all":
            wanted = numbers
        else:
            wanted = sorted({numbers[layer] if -len(stored) <= layer < 0 else layer for layer in layers})
        suffix = ".norm" if norm == "final" else ""
        names = [stored.get(layer, f"tokens/block.{layer}{suffix}") for layer in wanted]
        missing = [name for name in names if not self.features.sealed(name)]
        if missing or not names:
            what = missing[0] if missing else f'tokens with norm = "{norm}"'
            asks = "" if missing and missing[0] in self.features.arrays else "ask for it in [features] and "
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
        return int(self.features.arrays[array].attributes["layer"] or 0)

    def need_labels(self, analysis: str) -> None:
        """Raise UserError when the data has no pixel labels."""
        if not self.label_spec.pixel_labels:
            raise UserError(
                f"{analysis} needs a class for every pixel and the data set {self.label_spec.dataset.name} has none: "
                'remove it from [[analyses]] or keep "variance-spectrum" only'
            )

    def label_array(self, grid: tuple[int, int]) -> str:
        """Return the address of the patch labels on a grid; raises MissingError when they were not made."""
        name = f"patches/{grid[0]}x{grid[1]}"
        if not self.labels.sealed(name):
            raise MissingError(
                f"{name} is not complete in label set {self.labels.digest[:12]}: run `{self.extract_command}`"
            )
        return name

    def inputs(self, array: str | None = None, *, labelled: bool = False) -> dict[str, str]:
        """Return the content digests of what an analysis reads, for the result's name."""
        found = {"features": self.features.digest, "labels": self.labels.digest}
        if array is not None:
            found[array] = self.features.content[array]
            if labelled:
                grid = self.label_array(self.grid(array))
                found[grid] = self.labels.content[grid]
                found[PIXELS] = self.labels.content[PIXELS]
        return found


@dataclass(frozen=True)
class Chosen:
    """The rows one selection takes from a sample table."""

    sources: tuple[str, ...]
    rows: Int64[np.ndarray, " row"]

    @property
    def title(self) -> str:
        """For tables: how many images."""
        return f"{len(self.sources)} image{'' if len(self.sources) == 1 else 's'}"


def choose(measured: Measured, rule: SelectionRule | None) -> Chosen:
    """Return the rows a rule takes, or all rows without one; invalid rows are left out, and images that have no other.

    A rule chooses before rows are left out, so that no other image takes a bad one's place. Raises UserError when no
    row is left.
    """
    samples = measured.samples
    sources = tuple(sorted(samples["source"].unique())) if rule is None else select_sources(samples, rule)
    rows = rows_of(samples, sources)
    kept = rows[samples["valid"].to_numpy(dtype=bool)[rows]]
    if not len(kept):
        raise UserError(
            f"all {len(rows)} rows that [selection] chooses of {measured.title} are invalid: choose others, or mend "
            f"the images that `patchbank show {measured.labels.digest[:12]}` names"
        )
    if len(kept) < len(rows):
        left = set(samples["source"].to_numpy()[kept])
        sources = tuple(name for name in sources if name in left)
    return Chosen(sources, kept)


def choose_both(measured: Measured, selection: Selection | None, analysis: str) -> tuple[Chosen, Chosen]:
    """Return training and validation rows; raises UserError when either is not asked for or they share images."""
    if selection is None or selection.validation is None:
        raise UserError(
            f"{analysis} needs [selection.train] and [selection.validation] in the experiment file: add the one missing"
        )
    train, validation = choose(measured, selection.train), choose(measured, selection.validation)
    disjoint(train.sources, validation.sources)
    return train, validation


def image_numbers(measured: Measured, chosen: Chosen, n_patches: int) -> Int64[np.ndarray, " patch"]:
    """Return the number of each patch's source image, 0..len(chosen.sources)."""
    order = {name: number for number, name in enumerate(chosen.sources)}
    of_row = measured.samples["source"].to_numpy()[chosen.rows]
    return np.repeat(np.array([order[name] for name in of_row], dtype=np.int64), n_patches)


def chunkwise(stored: ZarrArray, rows: Int64[np.ndarray, " row"]) -> Iterator[np.ndarray]:
    """Yield the rows, which increase, those of one chunk at a time: no chunk is read twice, and one is held."""
    borders = np.flatnonzero(np.diff(rows // stored.layout.chunk_rows(stored.spec))) + 1
    for part in np.split(rows, borders):
        yield stored[part]


def tokens(
    measured: Measured, array: str, chosen: Chosen, kept: Bool[np.ndarray, " read"] | None = None
) -> Float[np.ndarray, "patch channel"]:
    """Return the patch tokens of the chosen rows as stored, row by row: all, or those that are ``kept``."""
    stored = measured.features[array]
    n_channels = stored.shape[-1]
    if kept is None:
        return stored[chosen.rows].reshape(-1, n_channels)
    # Filled in place: a copy of what is kept beside the whole would need both in memory.
    found = np.empty((np.count_nonzero(kept), n_channels), stored.dtype)
    seen = filled = 0
    for block in chunkwise(stored, chosen.rows):
        patches = block.reshape(-1, n_channels)
        part = patches[kept[seen : seen + len(patches)]]
        found[filled : filled + len(part)] = part
        seen, filled = seen + len(patches), filled + len(part)
    return found


def token_variance(measured: Measured, array: str, chosen: Chosen) -> Float64[np.ndarray, " channel"]:
    """Return each feature's variance over the patch tokens of the chosen rows: one pass, float64.

    Rows are merged one by one, so that the bits do not depend on how a set is cut into chunks.
    """
    return Moments.of(row for block in chunkwise(measured.features[array], chosen.rows) for row in block).variance


def owned_boxes(measured: Measured, chosen: Chosen) -> Int64[np.ndarray, "sample 4"]:
    """Return (left, top, right, bottom) of what each row is scored on, in input pixels."""
    columns = ["owned_left", "owned_top", "owned_right", "owned_bottom"]
    return measured.samples[columns].to_numpy(dtype=np.int64)[chosen.rows]


def owned_patches(measured: Measured, array: str, chosen: Chosen) -> Bool[np.ndarray, " patch"]:
    """Return which patches have their centre in the part their tile is scored on."""
    rows, columns = measured.grid(array)
    size = measured.spec.frame.input
    y = (np.arange(rows) + 0.5) * size.height / rows
    x = (np.arange(columns) + 0.5) * size.width / columns
    left, top, right, bottom = (owned_boxes(measured, chosen)[:, axis, None] for axis in range(4))
    inside_y = (y >= top) & (y < bottom)
    inside_x = (x >= left) & (x < right)
    return (inside_y[:, :, None] & inside_x[:, None, :]).reshape(-1)


def patch_labels(measured: Measured, array: str, chosen: Chosen) -> UInt8[np.ndarray, " patch"]:
    """Return the patch labels on an array's grid, 255 for void."""
    return measured.labels[measured.label_array(measured.grid(array))][chosen.rows].reshape(-1)


def scored_labels(measured: Measured, array: str, chosen: Chosen) -> UInt8[np.ndarray, " patch"]:
    """Return the patch labels with everything another tile is scored on set to void."""
    labels = patch_labels(measured, array, chosen).copy()
    labels[~owned_patches(measured, array, chosen)] = VOID
    return labels


def pixel_histograms(measured: Measured, array: str, chosen: Chosen) -> UInt32[np.ndarray, "patch classes_and_void"]:
    """Return how many pixels of each class every patch covers, counting only what its tile is scored on."""
    boxes = owned_boxes(measured, chosen)
    n_classes = len(measured.classes)
    rows, columns = measured.grid(array)
    found = np.empty((len(chosen.rows), rows * columns, n_classes + 1), np.uint32)
    done = 0
    for block in chunkwise(measured.labels[PIXELS], chosen.rows):
        here = slice(done, done + len(block))
        found[here] = patch_histograms(block, (rows, columns), n_classes, boxes[here])
        done += len(block)
    return found.reshape(-1, n_classes + 1)


def class_names(measured: Measured) -> Sequence[str]:
    """Return the class names by id."""
    return [str(name) for name in measured.classes["name"]]
