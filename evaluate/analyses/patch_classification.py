"""Classes of patches by nearest neighbours and linear probes, with the top-m features removed or not.

Paper A, sections 3.1 (few-shot patch classification), 3.2 (removal of high-variance features) and 4 (layers).
Classifiers are fitted on the labelled training patches; the ranking of features is that of all training patches.
Scores count patches (a patch has one label) and pixels (every pixel of a patch gets the patch's prediction).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from evaluate.inputs.memory import (
    SEARCH_BYTES,
    faiss_bytes,
    n_patches,
    probed_bytes,
    scoring_bytes,
    search_memory,
    searched_bytes,
)
from evaluate.inputs.model_sets import ModelSets
from evaluate.inputs.rows import RowSplit
from evaluate.kernels.penalties import PENALTIES
from evaluate.results.draws import result_of
from evaluate.results.metrics import PATCH_MIOU
from evaluate.results.rows import score_row
from evaluate.results.table import Result
from evaluate.scoring.patch_classifiers import (
    PatchData,
    check_k,
    predict_knn,
    predict_probe,
    read_patches,
)
from evaluate.scoring.patches import Truth
from evaluate.selection import SelectionRule
from evaluate.settings import (
    BootstrapSettings,
    ClassifierSettings,
    Context,
    LayerSettings,
    RemovalSettings,
    Selection,
    train_rules,
)
from evaluate.task import ClassifierTask


class PatchClassification(ClassifierSettings, LayerSettings, RemovalSettings, BootstrapSettings):
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
    """How neighbours vote: equally, or by exp(similarity / 0.07)."""
    train_per_group: tuple[Annotated[int, Field(ge=1)], ...] | None = None
    """Training images a group, instead of the selection's; several make a sweep of nested sets."""

    def rules(self, selection: Selection) -> list[SelectionRule]:
        """Return one training rule for each size of a sweep."""
        return train_rules(selection.train, self.train_per_group)


@dataclass(frozen=True, eq=False)
class PatchClassificationTask(ClassifierTask[PatchClassification]):
    """mIoU, accuracy and class IoUs of one classifier for every m (and k), by patches and by pixels."""

    analysis: ClassVar[str] = "patch-classification"
    revision: ClassVar[int] = 3

    @classmethod
    def of_model(
        cls, model: ModelSets, settings: PatchClassification, context: Context
    ) -> Iterator["PatchClassificationTask"]:
        """Yield one task a layer, training size and classifier."""
        selections = [context.selection]
        if context.selection is not None and settings.train_per_group is not None:
            rules = train_rules(context.selection.train, settings.train_per_group)
            selections = [context.selection.model_copy(update={"train": rule}) for rule in rules]
        splits = [RowSplit(model, selection, cls.analysis) for selection in selections]
        for array in model.arrays(settings.layers, settings.norm):
            for split in splits:
                for classifier in settings.classifiers:
                    yield cls(model, array, settings, context, split, classifier)

    @property
    def description(self) -> str:
        """The classifier and the array."""
        return f"{self.classifier_title} on {self.array}"

    def check(self) -> None:
        """Raise UserError for data without labels, and for more neighbours than training patches."""
        super().check()
        if self.classifier == "knn":
            check_k(max(self.settings.k), n_patches(self.model, self.array, len(self.train.rows)))

    def parameters(self) -> dict[str, Any]:
        """Return the parameters that this classifier uses."""
        parameters: dict[str, Any] = {
            "classifier": self.classifier,
            "remove": sorted(set(self.settings.remove)),
            "resamples": self.settings.resamples,
            "seed": self.context.seed,
            "train": list(self.train.sources),
            "validation": list(self.validation.sources),
        }
        if self.classifier == "knn":
            return parameters | {
                "k": sorted(set(self.settings.k)),
                "metric": self.settings.metric,
                "search": self.settings.search,
                "weights": self.settings.weights,
            }
        return parameters | {
            "penalties": list(self.settings.penalties or PENALTIES),
            "batchnorm": self.model.probe_batchnorm,
        }

    @property
    def columns(self) -> dict[str, Any]:
        """The shared columns, the distance of neighbours, and the layer as x."""
        distance = self.settings.metric if self.classifier == "knn" else None
        return {
            **super().columns,
            "distance": distance,
            "x_name": "layer",
            "x_value": float(self.model.layer(self.array)),
            "seed": self.context.seed,
        }

    def compute(self) -> Result:
        """Return the scores of every m and k, and that of the most common class."""
        patches = read_patches(self.model, self.array, self.train, self.validation)
        truth = Truth(self.model, self.array, self.validation)
        bootstrap = self.bootstrap(self.validation.sources)
        rows = [truth.majority_row(patches.bank_labels)]
        for columns, predicted, details in self._predictions(patches):
            rows += truth.rows(predicted, bootstrap, columns)
            rows += [score_row(metric, value, **columns) for metric, value in details.items()]
        easy = self.model.classes.loc[self.model.classes["easy"].astype(bool), "name"]
        arrays = {"easy_classes": np.array([str(name) for name in easy], dtype=np.str_)}
        return result_of(rows, (PATCH_MIOU,), arrays)

    def _predictions(self, patches: PatchData) -> Iterator[tuple[dict[str, Any], np.ndarray, dict[str, float]]]:
        """Yield the columns m and k, the predicted classes, and numbers about how they were computed."""
        settings = self.settings
        if self.classifier == "probe":
            fits = predict_probe(patches, self.removed, self.context.seed, settings.penalties)
            for m, (predicted, penalty, converged) in fits.items():
                yield {"m": m}, predicted, {"penalty": penalty, "converged": float(converged)}
            return
        by_cell = predict_knn(
            patches,
            self.removed,
            settings.k,
            metric=settings.metric,
            search=settings.search,
            weights=settings.weights,
            memory_bytes=self.search_bytes,
        )
        for (m, k), (predicted, redone) in by_cell.items():
            yield {"m": m, "k": k}, predicted, {"redone_in_float64": redone} if settings.search == "exact" else {}

    @property
    def search_bytes(self) -> int:
        """Memory that the neighbour search may use; FAISS needs a reserve of its own."""
        faiss = faiss_bytes(self.model, self.array, self.validation, max(self.settings.k))
        reserved = SEARCH_BYTES if self.settings.search == "exact" else faiss
        return search_memory(self.context.memory_bytes, self.peak_bytes(), reserved)

    def peak_bytes(self) -> int:
        """Estimate peak memory: all patches of both selections, and what the classifier needs."""
        settings, rows = self.settings, (self.train, self.validation)
        n_m, n_k = len(set(settings.remove)), len(set(settings.k)) if self.classifier == "knn" else 1
        scoring = scoring_bytes(self.model, self.array, self.validation, settings.resamples, n_m * n_k)
        if self.classifier == "probe":
            n_penalties = len(settings.penalties or PENALTIES)
            return scoring + probed_bytes(self.model, self.array, *rows, n_m, n_penalties)
        return scoring + searched_bytes(self.model, self.array, *rows, n_m, settings.k, settings.search)
