"""Classes of patches by nearest neighbours and linear probes, with the top-m features removed or not.

Paper A, sections 3.1 (few-shot patch classification), 3.2 (removal of high-variance features) and 4 (layers).
Classifiers are fitted on the labelled training patches; the ranking of features is that of all training patches.
Scores count patches (a patch has one label) and pixels (every pixel of a patch gets the patch's prediction).
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Int64, UInt8

from evaluate.measured import (
    Chosen,
    Measured,
    choose_both,
    class_names,
    image_numbers,
    patch_labels,
    pixel_histograms,
    scored_labels,
    tokens,
)
from evaluate.moments import variance_ranking, without_top
from evaluate.neighbour_votes import vote
from evaluate.neighbours import Neighbours, nearest, nearest_without_top
from evaluate.probes import PENALTIES, choose_penalty, predict_side_by_side
from evaluate.questions import PatchClassification, Questions
from evaluate.results import Answer, Asked
from evaluate.segmentation import (
    bootstrap,
    confusion,
    iou,
    miou_all,
    miou_present,
    pixel_accuracy,
    pixel_confusion,
)
from evaluate.selections import SelectionRule
from evaluate.variance_spectrum import token_variance
from stores.errors import UserError
from stores.specs import VOID

REVISION = 1
"""Raised when the same inputs and parameters give other numbers."""

Classifier = Literal["knn", "probe"]

STATISTICS = {"miou": miou_present, "miou_all": miou_all, "accuracy": pixel_accuracy}


@dataclass(frozen=True)
class Task:
    """Training and validation patches of one array."""

    measured: Measured
    array: str
    train: Chosen
    validation: Chosen
    bank: np.ndarray
    """Labelled training patches, ``(bank, channel)``, as stored."""
    bank_labels: UInt8[np.ndarray, " bank"]
    bank_images: Int64[np.ndarray, " bank"]
    queries: np.ndarray
    """Validation patches, ``(query, channel)``, void ones included so that maps have no holes."""
    ranking: Int64[np.ndarray, " channel"]


def selected(
    measured: Measured, questions: Questions, analysis: str, train_rule: SelectionRule | None = None
) -> tuple[Chosen, Chosen]:
    """Return training and validation rows, the training rule replaced if one is given."""
    selection = questions.selection
    if selection is not None and train_rule is not None:
        selection = selection.model_copy(update={"train": train_rule})
    return choose_both(measured, selection, analysis)


def task(measured: Measured, array: str, train: Chosen, validation: Chosen) -> Task:
    """Read the patches of one array; raises UserError when no training patch is labelled."""
    n_patches = measured.grid(array)[0] * measured.grid(array)[1]
    labels = patch_labels(measured, array, train)
    labelled = labels != VOID
    if not labelled.any():
        raise UserError(f"none of the {train.title} for training has a labelled patch: choose other training images")
    return Task(
        measured=measured,
        array=array,
        train=train,
        validation=validation,
        bank=tokens(measured, array, train)[labelled],
        bank_labels=labels[labelled],
        bank_images=image_numbers(measured, train, n_patches)[labelled],
        queries=tokens(measured, array, validation),
        ranking=variance_ranking(token_variance(measured, array, train)),
    )


def predict_knn(
    given: Task, analysis: PatchClassification, memory_bytes: int
) -> dict[tuple[int, int], tuple[Int64[np.ndarray, " query"], float]]:
    """Return, for every (m, k), the predicted classes and the share of queries redone in float64."""
    k = max(analysis.k)
    if k > len(given.bank):
        raise UserError(f"k = {k} neighbours are asked of {len(given.bank)} training patches: lower k")
    n_features = given.bank.shape[1]
    removed = [m for m in analysis.remove if m < n_features]
    found: dict[int, Neighbours]
    if analysis.search == "exact":
        found = nearest_without_top(
            given.bank,
            given.queries,
            given.ranking,
            removed,
            k,
            metric=analysis.metric,
            memory_bytes=memory_bytes,
        )
    else:
        found = {}
        for m in removed:
            kept = np.sort(given.ranking[m:])
            found[m] = nearest(
                np.ascontiguousarray(given.bank[:, kept]),
                np.ascontiguousarray(given.queries[:, kept]),
                k,
                metric=analysis.metric,
                method="faiss",
                memory_bytes=memory_bytes,
            )
    n_classes = len(given.measured.classes)
    labels = given.bank_labels.astype(np.int64)
    return {
        (m, votes): (vote(neighbours, labels, n_classes, votes, weights=analysis.weights), neighbours.redone)
        for m, neighbours in found.items()
        for votes in analysis.k
    }


def predict_probe(
    given: Task, analysis: PatchClassification, seed: int
) -> dict[int, tuple[Int64[np.ndarray, " query"], float, bool]]:
    """Return, for every m, the predicted classes, the chosen penalty and whether the fit converged."""
    removed = [m for m in analysis.remove if m < given.bank.shape[1]]
    choice = choose_penalty(
        given.bank,
        given.bank_labels,
        given.bank_images,
        len(given.measured.classes),
        standardise=given.measured.probe_batchnorm,
        seed=seed,
        kept=[without_top(given.ranking, m) for m in removed],
        penalties=analysis.penalties or PENALTIES,
    )
    predicted = predict_side_by_side(choice.probes, given.queries)
    return {
        m: (predicted[place], choice.probes[place].head.penalty, choice.probes[place].converged)
        for place, m in enumerate(removed)
    }


def asked(
    measured: Measured,
    array: str,
    classifier: Classifier,
    analysis: PatchClassification,
    questions: Questions,
    train_rule: SelectionRule | None,
) -> Asked:
    """Return what the answer depends on: only the parameters that this classifier uses."""
    measured.need_labels("patch-classification")
    train, validation = selected(measured, questions, "patch-classification", train_rule)
    parameters: dict[str, Any] = {
        "classifier": classifier,
        "remove": sorted(set(analysis.remove)),
        "resamples": analysis.resamples,
        "seed": questions.seed,
        "train": list(train.sources),
        "validation": list(validation.sources),
    }
    if classifier == "knn":
        parameters |= {
            "k": sorted(set(analysis.k)),
            "metric": analysis.metric,
            "search": analysis.search,
            "weights": analysis.weights,
        }
    else:
        parameters |= {
            "penalties": list(analysis.penalties or PENALTIES),
            "batchnorm": measured.probe_batchnorm,
        }
    return Asked("patch-classification", REVISION, parameters, measured.inputs(array, labelled=True))


def answer(
    measured: Measured,
    array: str,
    classifier: Classifier,
    analysis: PatchClassification,
    questions: Questions,
    train_rule: SelectionRule | None,
    memory_bytes: int,
) -> Answer:
    """Return mIoU, accuracy and class IoUs for every m (and k), by patches and by pixels."""
    train, validation = selected(measured, questions, "patch-classification", train_rule)
    given = task(measured, array, train, validation)
    truth = Truth(measured, array, validation)
    common: dict[str, Any] = {
        "classifier": classifier,
        "train": train.title,
        "x_name": "layer",
        "x_value": float(measured.layer(array)),
        "seed": questions.seed,
    }
    rows: list[dict[str, Any]] = []
    arrays: dict[str, np.ndarray] = {}
    if classifier == "knn":
        for (m, k), (predicted, redone) in predict_knn(given, analysis, memory_bytes).items():
            cell = {**common, "m": m, "k": k}
            rows += truth.rows(predicted, cell, analysis.resamples, questions.seed)
            if analysis.search == "exact":
                rows.append({**cell, "metric": "redone_in_float64", "value": redone})
            arrays[f"patch_confusion_m{m}_k{k}"] = truth.patch_confusion(predicted)
    else:
        for m, (predicted, penalty, converged) in predict_probe(given, analysis, questions.seed).items():
            cell = {**common, "m": m}
            rows += truth.rows(predicted, cell, analysis.resamples, questions.seed)
            rows.append({**cell, "metric": "penalty", "value": penalty})
            rows.append({**cell, "metric": "converged", "value": float(converged)})
            arrays[f"patch_confusion_m{m}"] = truth.patch_confusion(predicted)
    return Answer(rows, arrays)


class Truth:
    """The validation patches' labels and pixels, against which predictions are scored."""

    def __init__(self, measured: Measured, array: str, validation: Chosen) -> None:
        n_patches = measured.grid(array)[0] * measured.grid(array)[1]
        self.names = class_names(measured)
        self.n_images = len(validation.sources)
        self.images = image_numbers(measured, validation, n_patches)
        self.labels = scored_labels(measured, array, validation)
        self.histograms = pixel_histograms(measured, array, validation)

    def patch_confusion(self, predicted: Int64[np.ndarray, " query"]) -> Int64[np.ndarray, "image classes classes"]:
        """Return one confusion matrix an image, patches counted."""
        return confusion(self.labels, predicted, self.images, self.n_images, len(self.names))

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
