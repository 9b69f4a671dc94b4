"""Classes of patches by nearest neighbours and linear probes, with the top-m features removed or not.

Paper A, sections 3.1 (few-shot patch classification), 3.2 (removal of high-variance features) and 4 (layers).
Classifiers are fitted on the labelled training patches; the ranking of features is that of all training patches.
Scores count patches (a patch has one label) and pixels (every pixel of a patch gets the patch's prediction).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from evaluate.inputs.memory import SEARCH_BYTES, search_memory
from evaluate.inputs.model_sets import ModelSets
from evaluate.inputs.rows import RowSplit
from evaluate.inputs.work import Work
from evaluate.results.metrics import PATCH_MIOU, REDONE_IN_FLOAT64
from evaluate.results.rows import score_row
from evaluate.results.table import Result
from evaluate.scoring.classifier_task import ClassifierTask
from evaluate.scoring.patch_classifiers import KnnOptions, PatchData, predict_probe
from evaluate.scoring.patches import Truth
from evaluate.selection import SelectionRule
from evaluate.settings import (
    BootstrapSettings,
    ClassifierSettings,
    Context,
    LayerSettings,
    PatchRemovalSettings,
    Selection,
)


class PatchClassification(ClassifierSettings, LayerSettings, PatchRemovalSettings, BootstrapSettings):
    """Classes of patches by nearest neighbours and by a linear probe (paper A, sections 3.1 and 4).

    Every combination of layer, classifier, training size and number of removed features is one line of results.
    """

    kind: Literal["patch-classification"]
    k: tuple[Annotated[int, Field(ge=1)], ...] = (1,)
    """Neighbours that vote."""
    metric: Literal["euclidean", "cosine"] = "euclidean"
    """Distance between the features as stored, or between their directions."""
    search: Literal["exact", "faiss"] = "exact"
    """``exact`` orders by the float64 distance of the stored values; ``faiss`` is FAISS's flat index as it is."""
    weights: Literal["uniform", "softmax"] = "uniform"
    """How neighbours vote: equally (of classes with equal votes, that of the nearest neighbour among them wins), or by
    exp(cosine similarity / temperature)."""
    temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.07
    """Temperature of ``softmax`` votes; 0.07 is DINO's."""
    train_per_group: tuple[Annotated[int, Field(ge=1)], ...] | None = None
    """Training images a group, instead of the selection's; several make a sweep of nested sets."""

    def rules(self, selection: Selection) -> list[SelectionRule]:
        """Return one training rule for each size of a sweep, else the selection's own."""
        if self.train_per_group is None:
            return [selection.train]
        return [selection.train.model_copy(update={"per_group": size}) for size in self.train_per_group]


@dataclass(frozen=True, eq=False)
class PatchClassificationTask(ClassifierTask[PatchClassification]):
    """mIoU, accuracy and class IoUs of one classifier for every m (and k), by patches and by pixels."""

    analysis = "patch-classification"
    revision = 5
    by_removal = True
    compared = (PATCH_MIOU,)
    what = "{task.classifier_title} on {task.array}"
    key_settings = ("resamples",)
    key_counts = ("remove",)

    @classmethod
    def splits(cls, model: ModelSets, settings: PatchClassification, context: Context) -> list[RowSplit]:
        """Return one split a training size."""
        if context.selection is None:
            return super().splits(model, settings, context)
        rules = settings.rules(context.selection)
        selections = [context.selection.model_copy(update={"train": rule}) for rule in rules]
        return [RowSplit(model, selection, cls.analysis) for selection in selections]

    def parameters(self) -> dict[str, Any]:
        """Return the parameters that this classifier uses."""
        if self.classifier == "probe":
            return {**super().parameters(), **self.probe_parameters}
        names = {"metric", "search", "weights"} | ({"temperature"} if self.settings.weights == "softmax" else set())
        votes = self.settings.model_dump(mode="json", include=names)
        faiss = self.device_parameter(self.settings.search == "faiss")
        return {**super().parameters(), **votes, "k": sorted(set(self.k)), **faiss}

    @property
    def columns(self) -> dict[str, Any]:
        """The shared columns, the distance of neighbours, and the layer as x."""
        distance = self.settings.metric if self.classifier == "knn" else None
        x = {"x_name": "layer", "x_value": float(self.model.layer(self.array))}
        return {**super().columns, **x, "distance": distance, "seed": self.context.seed}

    def compute(self) -> Result:
        """Return the scores of every m and k, and that of the most common class."""
        patches = self.patches()
        truth = Truth(self.model, self.array, self.validation)
        bootstrap = self.bootstrap(self.validation.sources)
        rows = [truth.majority_row(patches.bank_labels)]
        for columns, predicted, details in self._predictions(patches):
            rows += truth.rows(predicted, bootstrap, columns)
            rows += [score_row(metric, value, **columns) for metric, value in details.items()]
        easy = self.model.classes.loc[self.model.classes["easy"].astype(bool), "name"]
        arrays = {"easy_classes": np.array([str(name) for name in easy], dtype=np.str_)}
        return Result(rows, arrays)

    def _predictions(self, patches: PatchData) -> Iterator[tuple[dict[str, Any], np.ndarray, dict[str, float]]]:
        """Yield the columns m and k, the predicted classes, and numbers about how they were computed."""
        settings = self.settings
        if self.classifier == "probe":
            for m, (predicted, details) in predict_probe(patches, self.removed, self.probe_options).items():
                yield {"m": m}, predicted, details
            return
        options = KnnOptions(
            self.search_bytes,
            self.context.results,
            settings.k,
            settings.metric,
            settings.search,
            settings.weights,
            settings.temperature,
            self.context.device.name,
        )
        predictions = options.votes(patches, options.neighbours(patches, self.removed))
        for (m, k), (predicted, redone) in predictions.items():
            yield {"m": m, "k": k}, predicted, {REDONE_IN_FLOAT64: redone} if settings.search == "exact" else {}

    def work(self) -> Work:
        """Estimate the operations: one search or fits side by side, and six resampled scores of every prediction."""
        n_m, n_k = len(self.removed), len(set(self.k)) if self.classifier == "knn" else 1
        n_searches = n_m if self.classifier == "knn" and self.settings.metric == "cosine" else 1
        scored = self.operations.scoring(self.settings.resamples, 6 * n_m * n_k)
        return self.classifier_work(n_m, n_searches) + scored

    @property
    def search_bytes(self) -> int:
        """Memory that the neighbour search may use; FAISS needs a reserve of its own."""
        reserved = SEARCH_BYTES if self.settings.search == "exact" else self.memory.faiss(max(self.k))
        return search_memory(self.context.memory_bytes, self.peak_bytes(), reserved)

    def peak_bytes(self) -> int:
        """Estimate peak memory: all patches of both selections, and what the classifier needs."""
        n_m, n_k = len(set(self.settings.remove)), len(set(self.k)) if self.classifier == "knn" else 1
        scoring = self.memory.scoring(self.settings.resamples, n_m * n_k)
        return scoring + self.classifier_bytes(n_m, self.settings.search)
