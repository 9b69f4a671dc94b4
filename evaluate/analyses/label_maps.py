"""Predicted patch classes of whole source images, beside the images and the truth: paper A, appendix (maps)."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Int64, UInt8
from PIL import Image
from pydantic import Field

from evaluate.inputs.memory import ClassifierMemory
from evaluate.inputs.model_sets import ModelSets
from evaluate.inputs.patches import owned_patches, scored_labels
from evaluate.inputs.rows import RowSelection, image_numbers, spread_selection
from evaluate.inputs.work import ClassifierWork, Work
from evaluate.kernels.probing.penalties import PENALTIES
from evaluate.results.metrics import PATCH_ACCURACY
from evaluate.results.rows import score_row
from evaluate.results.table import Result
from evaluate.scoring.patch_classifiers import KnnOptions, ProbeOptions, predict_probe, read_patches, treat_patches
from evaluate.scoring.retrieval.examples import pixels_of
from evaluate.settings import PatchRemovalSettings, SingleLayerSettings
from evaluate.task import ModelTask
from stores.specs import VOID


class LabelMaps(SingleLayerSettings, PatchRemovalSettings):
    """Predicted patch classes of some validation images, beside the truth (paper A, appendix), and beside the images
    with ``input_pixels = true`` in [features]."""

    kind: Literal["label-maps"]
    classifier: Literal["knn", "probe"] = "knn"
    """What predicts the classes."""
    images: int = Field(default=4, ge=1, le=64)
    """Validation images, spread evenly over the selection."""


MOST_PIXELS = 8
"""Pixels a side of a patch in the picture of an image, at most."""


@dataclass(frozen=True)
class _Mosaic:
    """Where the patches of some images lie in maps of whole sources, with one cell a patch.

    A patch is put where its centre lies in the source; where tiles overlap only the one that owns the place counts.
    A map has as many cells as patches fit the source side by side; images of mixed size are padded.
    """

    n_images: int
    owned: Bool[np.ndarray, " patch"]
    number: Int64[np.ndarray, " owned"]
    row: Int64[np.ndarray, " owned"]
    column: Int64[np.ndarray, " owned"]

    @classmethod
    def of(cls, model: ModelSets, array: str, images: RowSelection) -> "_Mosaic":
        """Return the places of the patches of an array's grid."""
        rows, columns = model.grid(array)
        table = model.samples.iloc[images.rows]
        left, top, right, bottom = (
            table[name].to_numpy(dtype=np.float64) for name in ("left", "top", "right", "bottom")
        )
        cell_height, cell_width = (bottom - top) / rows, (right - left) / columns
        y = (top[:, None] + (np.arange(rows) + 0.5) * cell_height[:, None]) / cell_height[:, None]
        x = (left[:, None] + (np.arange(columns) + 0.5) * cell_width[:, None]) / cell_width[:, None]
        row = np.repeat(np.floor(y).astype(np.int64)[:, :, None], columns, axis=2).reshape(-1)
        column = np.repeat(np.floor(x).astype(np.int64)[:, None, :], rows, axis=1).reshape(-1)
        owned = owned_patches(model, array, images)
        numbers = image_numbers(model, images, rows * columns)
        return cls(len(images.sources), owned, numbers[owned], row[owned], column[owned])

    def stitch(self, values: UInt8[np.ndarray, "patch ..."], padding: int) -> UInt8[np.ndarray, "image row column ..."]:
        """Return one map an image from the values of its patches; ``padding`` where no tile is scored."""
        shape = self.n_images, int(self.row.max()) + 1, int(self.column.max()) + 1, *values.shape[1:]
        maps = np.full(shape, padding, np.uint8)
        maps[self.number, self.row, self.column] = values[self.owned]
        return maps

    def pictures(
        self, inputs: UInt8[np.ndarray, "tile height width 3"], grid: tuple[int, int]
    ) -> UInt8[np.ndarray, "image rows columns 3"]:
        """Return the images themselves, patch by patch as the maps are; white where no tile is scored."""
        (rows, columns), (height, width) = grid, inputs.shape[1:3]
        side = min(MOST_PIXELS, height // rows, width // columns)
        reduced = [
            np.asarray(Image.fromarray(tile).resize((columns * side, rows * side), Image.Resampling.BOX))
            for tile in inputs
        ]
        parts = np.stack(reduced).reshape(-1, rows, side, columns, side, 3).swapaxes(2, 3)
        maps = self.stitch(parts.reshape(-1, side, side, 3), 255)
        joined: np.ndarray = maps.swapaxes(2, 3).reshape(self.n_images, maps.shape[1] * side, maps.shape[2] * side, 3)
        return joined


@dataclass(frozen=True, eq=False)
class LabelMapsTask(ModelTask[LabelMaps]):
    """Maps of predicted classes of some validation images, stitched from their tiles, one cell a patch."""

    analysis = "label-maps"
    revision = 4
    what = "label maps of {task.array}"
    labelled = True
    key_settings = ("classifier",)
    key_counts = ("remove",)
    key_rows = ("train", "images")

    @cached_property
    def images(self) -> RowSelection:
        """The validation images that are shown, spread evenly over the selection."""
        return spread_selection(self.model, self.validation, self.settings.images)

    def parameters(self) -> dict[str, Any]:
        """Return the parameters that the class lists, whether probes standardise, and where they are fitted."""
        device = self.device_parameter(self.settings.classifier == "probe")
        return {**super().parameters(), "batchnorm": self.model.probe_batchnorm, **device}

    def inputs(self) -> dict[str, str]:
        """Return the digests of tokens and labels, and of the inputs' pixels where they are stored."""
        pixels = pixels_of(self.model)
        return super().inputs() | ({pixels: self.model.labels.content[pixels]} if pixels else {})

    @property
    def columns(self) -> dict[str, Any]:
        """The shared columns and the classifier, with the image as x."""
        distance = "euclidean" if self.settings.classifier == "knn" else None
        return {**super().columns, "classifier": self.settings.classifier, "distance": distance, "x_name": "image"}

    def compute(self) -> Result:
        """Return the accuracy of every map, and the maps beside the truth and, where stored, the images."""
        patches = read_patches(self.model, self.array, self.train, self.images)
        patches = treat_patches(patches, self.treatment, self.context.seed)
        predicted: dict[int, np.ndarray]
        if self.settings.classifier == "knn":
            options = KnnOptions(self.search_bytes, self.context.results, device=self.context.device.name)
            by_m = options.votes(patches, options.neighbours(patches, self.removed, larger=self.validation))
            predicted = {m: classes for (m, _), (classes, _) in by_m.items()}
        else:
            fits = predict_probe(
                patches, self.removed, ProbeOptions(self.context.seed, device=self.context.device.name)
            )
            predicted = {m: classes for m, (classes, _) in fits.items()}
        truth = scored_labels(self.model, self.array, self.images)
        numbers = image_numbers(self.model, self.images, len(truth) // len(self.images.rows))
        rows = []
        for m, classes in predicted.items():
            for number in range(len(self.images.sources)):
                here = (numbers == number) & (truth != VOID)
                accuracy = float((classes[here] == truth[here]).mean()) if here.any() else None
                rows.append(score_row(PATCH_ACCURACY, accuracy, m=m, x_value=float(number)))
        mosaic = _Mosaic.of(self.model, self.array, self.images)
        maps = [mosaic.stitch(classes.astype(np.uint8), VOID) for classes in predicted.values()]
        arrays = {
            **({} if self.treatment is None else {"treatment": np.array(self.treatment.label)}),
            "truth": mosaic.stitch(truth, VOID),
            "predicted": np.stack(maps),
            "predicted_m": np.array(list(predicted), dtype=np.int64),
            "colours": self.model.classes[["red", "green", "blue"]].to_numpy(dtype=np.uint8),
            "class_names": np.array(self.model.class_names),
            "sources": np.array(self.images.sources),
        }
        if (pixels := pixels_of(self.model)) is not None:
            inputs = np.asarray(self.model.labels[pixels][self.images.rows])
            arrays["pictures"] = mosaic.pictures(inputs, self.model.grid(self.array))
        return Result(rows, arrays)

    def work(self) -> Work:
        """Estimate the operations: one search or fits side by side, of the images that are shown."""
        n_m = len(self.removed)
        of_shown = ClassifierWork(self.model, self.array, self.train, self.images)
        by_probe = self.settings.classifier == "probe"
        predicting = of_shown.probing(n_m, len(PENALTIES)) if by_probe else of_shown.searching(n_m)
        return of_shown.reading() + of_shown.treating(self.treatment) + predicting

    def peak_bytes(self) -> int:
        """Estimate peak memory: the training patches and those of the images that are shown."""
        n_m = len(set(self.settings.remove))
        memory = ClassifierMemory(self.model, self.array, self.train, self.images)
        pixels = pixels_of(self.model)
        stored = None if pixels is None else self.model.labels[pixels]
        n_tiles = 0 if stored is None else 3 * len(self.images.rows) + 2 * stored.layout.chunk_rows(stored.spec)
        pictures = 0 if stored is None else n_tiles * stored.spec.row_bytes
        by_probe = self.settings.classifier == "probe"
        predicting = memory.probing(n_m, len(PENALTIES)) if by_probe else memory.searching(n_m)
        return pictures + predicting + (0 if self.treatment is None else memory.treating())
