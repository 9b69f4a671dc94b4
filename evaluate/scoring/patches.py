"""Scores of predicted patch classes: by patches, where a patch has one label, and by pixels.

Every pixel of a patch gets the patch's prediction. Where tiles overlap only the one that owns a place is scored.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Int64, UInt8

from evaluate.inputs.model_sets import ModelSets
from evaluate.inputs.patches import pixel_histograms, scored_labels
from evaluate.inputs.rows import RowSelection, image_numbers
from evaluate.kernels.segmentation.confusion import (
    confusion,
    iou,
    miou_all,
    miou_present,
    pixel_accuracy,
    pixel_confusion,
)
from evaluate.results.metrics import MAJORITY_MIOU
from evaluate.results.rows import Bootstrap, score_row

STATISTICS = {"miou": miou_present, "miou_all": miou_all, "accuracy": pixel_accuracy}


class Truth:
    """The validation patches' labels and pixels, against which predictions are scored."""

    def __init__(self, model: ModelSets, array: str, validation: RowSelection) -> None:
        n_patches = model.grid(array)[0] * model.grid(array)[1]
        self.names = model.class_names
        self.n_images = len(validation.sources)
        self.images = image_numbers(model, validation, n_patches)
        self.labels = scored_labels(model, array, validation)
        self.histograms = pixel_histograms(model, array, validation)

    def patch_confusion(self, predicted: Int64[np.ndarray, " query"]) -> Int64[np.ndarray, "image classes classes"]:
        """Return one confusion matrix an image, patches counted."""
        return confusion(self.labels, predicted, self.images, self.n_images, len(self.names))

    def majority_row(self, bank_labels: UInt8[np.ndarray, " bank"]) -> dict[str, Any]:
        """Return the mIoU of calling every patch the most common training class: what needs no features at all."""
        common = int(np.bincount(bank_labels, minlength=len(self.names)).argmax())
        matrices = self.patch_confusion(np.full(len(self.labels), common, dtype=np.int64))
        value = float(miou_present(matrices.sum(axis=0)))
        return score_row(MAJORITY_MIOU, value, reference="majority", unit="image", n_units=self.n_images)

    def rows(
        self, predicted: Int64[np.ndarray, " query"], bootstrap: Bootstrap, columns: dict[str, Any]
    ) -> Iterator[dict[str, Any]]:
        """Yield the rows of one set of predictions: mIoU and accuracy with intervals, and the IoU of every class."""
        for level, matrices in (
            ("patch", self.patch_confusion(predicted)),
            ("pixel", pixel_confusion(self.histograms, predicted, self.images, self.n_images)),
        ):
            for name, statistic in STATISTICS.items():
                yield bootstrap.confusion_row(f"{level}_{name}", matrices, statistic, **columns)
            for name, value in zip(self.names, iou(matrices.sum(axis=0)), strict=True):
                yield score_row(f"{level}_iou", float(value), **columns, **{"class": name})
