"""Predicted patch classes of whole source images, beside the truth: paper A, appendix (qualitative maps)."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from jaxtyping import Integer, UInt8
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
from evaluate.settings import PatchRemovalSettings, SingleLayerSettings
from evaluate.task import ModelTask
from stores.specs import VOID


class LabelMaps(SingleLayerSettings, PatchRemovalSettings):
    """Predicted patch classes of some validation images, beside the truth (paper A, appendix)."""

    kind: Literal["label-maps"]
    classifier: Literal["knn", "probe"] = "knn"
    """What predicts the classes."""
    images: int = Field(default=4, ge=1, le=64)
    """Validation images, spread evenly over the selection."""


def _stitch(
    model: ModelSets, array: str, images: RowSelection, classes: Integer[np.ndarray, " patch"]
) -> UInt8[np.ndarray, "image height width"]:
    """Return one map an image from the classes of its tiles' patches; void where no tile is scored.

    A patch is put where its centre lies in the source; where tiles overlap only the one that owns the place counts.
    The map has as many cells as patches fit the source side by side; images of mixed size are padded with void.
    """
    rows, columns = model.grid(array)
    table = model.samples.iloc[images.rows]
    left, top, right, bottom = (table[name].to_numpy(dtype=np.float64) for name in ("left", "top", "right", "bottom"))
    cell_height, cell_width = (bottom - top) / rows, (right - left) / columns
    y = (top[:, None] + (np.arange(rows) + 0.5) * cell_height[:, None]) / cell_height[:, None]
    x = (left[:, None] + (np.arange(columns) + 0.5) * cell_width[:, None]) / cell_width[:, None]
    row = np.repeat(np.floor(y).astype(int)[:, :, None], columns, axis=2).reshape(-1)
    column = np.repeat(np.floor(x).astype(int)[:, None, :], rows, axis=1).reshape(-1)
    owned = owned_patches(model, array, images)
    numbers = image_numbers(model, images, rows * columns)
    maps = np.full((len(images.sources), row[owned].max() + 1, column[owned].max() + 1), VOID, np.uint8)
    maps[numbers[owned], row[owned], column[owned]] = classes[owned].astype(np.uint8)
    return maps


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

    @property
    def columns(self) -> dict[str, Any]:
        """The shared columns and the classifier, with the image as x."""
        distance = "euclidean" if self.settings.classifier == "knn" else None
        return {**super().columns, "classifier": self.settings.classifier, "distance": distance, "x_name": "image"}

    def compute(self) -> Result:
        """Return the accuracy of every map, and the maps themselves beside the truth."""
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
        maps = [_stitch(self.model, self.array, self.images, classes) for classes in predicted.values()]
        arrays = {
            **({} if self.treatment is None else {"treatment": np.array(self.treatment.label)}),
            "truth": _stitch(self.model, self.array, self.images, truth),
            "predicted": np.stack(maps),
            "predicted_m": np.array(list(predicted), dtype=np.int64),
            "colours": self.model.classes[["red", "green", "blue"]].to_numpy(dtype=np.uint8),
            "class_names": np.array(self.model.class_names),
            "sources": np.array(self.images.sources),
        }
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
        by_probe = self.settings.classifier == "probe"
        predicting = memory.probing(n_m, len(PENALTIES)) if by_probe else memory.searching(n_m)
        return predicting + (0 if self.treatment is None else memory.treating())
