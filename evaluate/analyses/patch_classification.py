"""Classes of patches by nearest neighbours and linear probes, with the top-m features removed or not.

Paper A, sections 3.1 (few-shot patch classification), 3.2 (removal of high-variance features) and 4 (layers).
Classifiers are fitted on the labelled training patches; the ranking of features is that of all training patches.
Scores count patches (a patch has one label) and pixels (every pixel of a patch gets the patch's prediction).
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from evaluate.inputs.model_sets import ModelSets
from evaluate.kernels.memory import (
    SEARCH_BYTES,
    faiss_bytes,
    n_patches,
    probed_bytes,
    scoring_bytes,
    search_memory,
    searched_bytes,
)
from evaluate.kernels.penalties import PENALTIES
from evaluate.results.table import Result, ResultKey
from evaluate.scoring.patch_classifiers import (
    Classifier,
    predict_knn,
    predict_probe,
    read_patches,
    refuse_more_neighbours,
    selected,
)
from evaluate.scoring.patches import Truth
from evaluate.selection import SelectionRule
from evaluate.settings import Context, Layers, Selection, Settings, train_rules
from evaluate.task import Task, task_of

REVISION = 2
"""Raised when the same inputs and parameters give other numbers."""


class PatchClassification(Settings):
    """Classes of patches by nearest neighbours and by a linear probe (paper A, sections 3.1 and 4).

    Every combination of layer, classifier, training size and number of removed features is one line of results.
    """

    kind: Literal["patch-classification"]
    classifiers: tuple[Literal["knn", "probe"], ...] = ("knn", "probe")
    """Nearest neighbours, a linear probe, or both."""
    layers: Layers = (-1,)
    """Layers to ask about: ``all`` that are stored, or numbers from 0; negative ones count from the last stored."""
    norm: Literal["final", "none"] = "final"
    """Tokens through the model's final norm, or as the block left them."""
    k: tuple[Annotated[int, Field(ge=1)], ...] = (1,)
    """Neighbours that vote."""
    metric: Literal["euclidean", "cosine"] = "euclidean"
    """Distance between the features as stored, or between their directions."""
    search: Literal["exact", "faiss"] = "exact"
    """``exact`` orders by the float64 distance of the stored values; ``faiss`` is FAISS's flat index as it is."""
    weights: Literal["uniform", "softmax"] = "uniform"
    """How neighbours vote: equally, or by exp(similarity / 0.07)."""
    remove: tuple[Annotated[int, Field(ge=0)], ...] = (0,)
    """Numbers m of highest-variance features to leave out; the ranking is that of the training patches."""
    train_per_group: tuple[Annotated[int, Field(ge=1)], ...] | None = None
    """Training images a group, instead of the selection's; several make a sweep of nested sets."""
    penalties: tuple[Annotated[float, Field(ge=0)], ...] | None = None
    """L2 penalties to choose from on held-out training images; None takes the default grid."""
    resamples: int = Field(default=1000, ge=0)
    """Bootstrap resamples over images; 0 prints no intervals."""

    def rules(self, selection: Selection) -> list[SelectionRule]:
        """Return one training rule for each size of a sweep."""
        return train_rules(selection.train, self.train_per_group)


def asked(
    model: ModelSets,
    array: str,
    classifier: Classifier,
    analysis: PatchClassification,
    context: Context,
    train_rule: SelectionRule | None,
) -> ResultKey:
    """Return what the answer depends on: only the parameters that this classifier uses."""
    model.need_labels("patch-classification")
    train, validation = selected(model, context, "patch-classification", train_rule)
    parameters: dict[str, Any] = {
        "classifier": classifier,
        "remove": sorted(set(analysis.remove)),
        "resamples": analysis.resamples,
        "seed": context.seed,
        "train": list(train.sources),
        "validation": list(validation.sources),
    }
    if classifier == "knn":
        refuse_more_neighbours(max(analysis.k), n_patches(model, array, len(train.rows)))
        parameters |= {
            "k": sorted(set(analysis.k)),
            "metric": analysis.metric,
            "search": analysis.search,
            "weights": analysis.weights,
        }
    else:
        parameters |= {
            "penalties": list(analysis.penalties or PENALTIES),
            "batchnorm": model.probe_batchnorm,
        }
    return ResultKey("patch-classification", REVISION, parameters, model.inputs(array, labelled=True))


def answer(
    model: ModelSets,
    array: str,
    classifier: Classifier,
    analysis: PatchClassification,
    context: Context,
    train_rule: SelectionRule | None,
) -> Result:
    """Return mIoU, accuracy and class IoUs for every m (and k), by patches and by pixels."""
    train, validation = selected(model, context, "patch-classification", train_rule)
    given = read_patches(model, array, train, validation)
    truth = Truth(model, array, validation)
    common: dict[str, Any] = {
        "classifier": classifier,
        "train": train.title,
        "x_name": "layer",
        "x_value": float(model.layer(array)),
        "seed": context.seed,
    }
    rows = [{**common, "metric": "majority_miou", "reference": "majority", **truth.majority(given.bank_labels)}]
    easy = model.classes.loc[model.classes["easy"].astype(bool), "name"]
    arrays: dict[str, np.ndarray] = {"easy_classes": np.array([str(name) for name in easy], dtype=np.str_)}
    if classifier == "knn":
        for (m, k), (predicted, redone) in predict_knn(
            given,
            analysis.remove,
            analysis.k,
            metric=analysis.metric,
            search=analysis.search,
            weights=analysis.weights,
            memory_bytes=search_memory(
                context.memory_bytes,
                peak_bytes(model, array, classifier, analysis, context, train_rule),
                SEARCH_BYTES if analysis.search == "exact" else faiss_bytes(model, array, validation, max(analysis.k)),
            ),
        ).items():
            cell = {**common, "m": m, "k": k}
            rows += truth.rows(predicted, cell, analysis.resamples, context.seed)
            if analysis.search == "exact":
                rows.append({**cell, "metric": "redone_in_float64", "value": redone})
            arrays[f"patch_confusion_m{m}_k{k}"] = truth.patch_confusion(predicted)
    else:
        for m, (predicted, penalty, converged) in predict_probe(
            given, analysis.remove, context.seed, analysis.penalties
        ).items():
            cell = {**common, "m": m}
            rows += truth.rows(predicted, cell, analysis.resamples, context.seed)
            rows.append({**cell, "metric": "penalty", "value": penalty})
            rows.append({**cell, "metric": "converged", "value": float(converged)})
            arrays[f"patch_confusion_m{m}"] = truth.patch_confusion(predicted)
    return Result(rows, arrays)


def peak_bytes(
    model: ModelSets,
    array: str,
    classifier: Classifier,
    analysis: PatchClassification,
    context: Context,
    train_rule: SelectionRule | None,
) -> int:
    """Return the bytes that answering holds: all patches of both selections, and what the classifier needs."""
    train, validation = selected(model, context, "patch-classification", train_rule)
    n_m, n_k = len(set(analysis.remove)), len(set(analysis.k)) if classifier == "knn" else 1
    scoring = scoring_bytes(model, array, validation, analysis.resamples, n_m * n_k)
    if classifier == "probe":
        return scoring + probed_bytes(model, array, train, validation, n_m, len(analysis.penalties or PENALTIES))
    searched = searched_bytes(model, array, train, validation, n_m, analysis.k, analysis.search)
    return scoring + searched


def cells(models: Sequence[ModelSets], analysis: PatchClassification, context: Context) -> Iterator[Task]:
    """Yield one answer a model, layer, training size and classifier."""
    rules: list[SelectionRule | None] = [None]
    if context.selection is not None and analysis.train_per_group is not None:
        rules = [*train_rules(context.selection.train, analysis.train_per_group)]
    for model in models:
        for array in model.arrays(analysis.layers, analysis.norm):
            for rule in rules:
                for classifier in analysis.classifiers:
                    yield task_of(
                        model,
                        array,
                        asked(model, array, classifier, analysis, context, rule),
                        partial(answer, model, array, classifier, analysis, context, rule),
                        f"{'k-NN' if classifier == 'knn' else classifier} on {array}",
                        partial(peak_bytes, model, array, classifier, analysis, context, rule),
                    )
