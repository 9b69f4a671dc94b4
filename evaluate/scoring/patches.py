"""Scores of predicted patch classes: by patches, where a patch has one label, and by pixels.

Every pixel of a patch gets the patch's prediction. Where tiles overlap only the one that owns a place is scored.
"""

from typing import Any

import numpy as np
from jaxtyping import Int64, UInt8

from evaluate.inputs.model_sets import ModelSets
from evaluate.inputs.patches import pixel_histograms, scored_labels
from evaluate.inputs.rows import RowSelection, image_numbers
from evaluate.kernels.bootstrap import bootstrap
from evaluate.kernels.confusion import confusion, iou, miou_all, miou_present, pixel_accuracy, pixel_confusion

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

    def majority(self, bank_labels: UInt8[np.ndarray, " bank"]) -> dict[str, Any]:
        """Return the mIoU of calling every patch the most common training class: what needs no features at all."""
        common = int(np.bincount(bank_labels, minlength=len(self.names)).argmax())
        matrices = self.patch_confusion(np.full(len(self.labels), common, dtype=np.int64))
        return {"value": float(miou_present(matrices.sum(axis=0))), "unit": "image", "n_units": self.n_images}

    def rows(
        self, predicted: Int64[np.ndarray, " query"], cell: dict[str, Any], resamples: int, seed: int
    ) -> list[dict[str, Any]]:
        """Return the rows of the long table for one set of predictions."""
        found: list[dict[str, Any]] = []
        for level, matrices in (
            ("patch", self.patch_confusion(predicted)),
            ("pixel", pixel_confusion(self.histograms, predicted, self.images, self.n_images)),
        ):
            total = matrices.sum(axis=0)
            for name, statistic in STATISTICS.items():
                interval = bootstrap(matrices, statistic, seed=seed, resamples=resamples) if resamples else None
                found.append(
                    {
                        **cell,
                        "metric": f"{level}_{name}",
                        "value": float(statistic(total)),
                        "low": interval.low if interval else None,
                        "high": interval.high if interval else None,
                        "unit": "image",
                        "n_units": self.n_images,
                    }
                )
            found += [
                {**cell, "metric": f"{level}_iou", "class": name, "value": None if np.isnan(value) else float(value)}
                for name, value in zip(self.names, iou(total), strict=True)
            ]
        return found
