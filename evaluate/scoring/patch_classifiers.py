"""Patch classification as a task: labelled training patches, validation patches, and what classifies them.

Paper A, sections 3.1 and 3.2. Classifiers are fitted on the labelled training patches; the ranking of features is that
of all training patches.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Int64, UInt8

from evaluate.inputs.model_sets import ModelSets
from evaluate.inputs.patches import patch_labels, token_variance, tokens
from evaluate.inputs.rows import RowSelection, image_numbers
from evaluate.kernels.moments import variance_ranking, without_top
from evaluate.kernels.penalties import PENALTIES, PenaltyChoice, choose_penalty
from evaluate.kernels.probes import predict_side_by_side
from evaluate.neighbours.knn import Neighbours, nearest, nearest_without_top
from evaluate.neighbours.voting import vote
from stores.errors import UserError
from stores.specs import VOID


@dataclass(frozen=True)
class PatchData:
    """Training and validation patches of one array."""

    model: ModelSets
    array: str
    train: RowSelection
    validation: RowSelection
    bank: np.ndarray
    """Labelled training patches, ``(bank, channel)``, as stored."""
    bank_labels: UInt8[np.ndarray, " bank"]
    bank_images: Int64[np.ndarray, " bank"]
    queries: np.ndarray
    """Validation patches, ``(query, channel)``, void ones included so that maps have no holes."""
    ranking: Int64[np.ndarray, " channel"]


def read_patches(model: ModelSets, array: str, train: RowSelection, validation: RowSelection) -> PatchData:
    """Read the patches of one array; raises UserError when no training patch is labelled."""
    n_patches = model.grid(array)[0] * model.grid(array)[1]
    labels = patch_labels(model, array, train)
    labelled = labels != VOID
    if not labelled.any():
        raise UserError(f"none of the {train.title} for training has a labelled patch: choose other training images")
    return PatchData(
        model=model,
        array=array,
        train=train,
        validation=validation,
        bank=tokens(model, array, train, labelled),
        bank_labels=labels[labelled],
        bank_images=image_numbers(model, train, n_patches)[labelled],
        queries=tokens(model, array, validation),
        ranking=variance_ranking(token_variance(model, array, train)),
    )


def check_k(k: int, n_rows: int, unit: str = "patches") -> None:
    """Raise UserError when k is larger than the number of training patches (or other units)."""
    if k > n_rows:
        raise UserError(f"k = {k} neighbours are more than the {n_rows} training {unit}: lower k")


def predict_knn(
    patches: PatchData,
    remove: Sequence[int],
    k: Sequence[int] = (1,),
    *,
    metric: Literal["euclidean", "cosine"] = "euclidean",
    search: Literal["exact", "faiss"] = "exact",
    weights: Literal["uniform", "softmax"] = "uniform",
    memory_bytes: int,
) -> dict[tuple[int, int], tuple[Int64[np.ndarray, " query"], float]]:
    """Return, for every (m, k), the predicted classes and the share of queries redone in float64."""
    most = max(k)
    check_k(most, len(patches.bank))
    removed = list(remove)
    found: dict[int, Neighbours]
    if search == "exact":
        found = nearest_without_top(
            patches.bank,
            patches.queries,
            patches.ranking,
            removed,
            most,
            metric=metric,
            memory_bytes=memory_bytes,
        )
    else:
        found = {}
        for m in removed:
            kept = np.sort(patches.ranking[m:])
            found[m] = nearest(
                np.take(patches.bank, kept, axis=1),
                np.take(patches.queries, kept, axis=1),
                most,
                metric=metric,
                method="faiss",
                memory_bytes=memory_bytes,
            )
    n_classes = len(patches.model.classes)
    labels = patches.bank_labels.astype(np.int64)
    return {
        (m, votes): (vote(neighbours, labels, n_classes, votes, weights=weights), neighbours.redone)
        for m, neighbours in found.items()
        for votes in k
    }


def fit_probe(
    patches: PatchData, removed: Sequence[int], seed: int, penalties: Sequence[float] | None = None
) -> PenaltyChoice:
    """Return the probes for every m of ``removed``, their penalties chosen on held-out training images."""
    return choose_penalty(
        patches.bank,
        patches.bank_labels,
        patches.bank_images,
        len(patches.model.classes),
        standardise=patches.model.probe_batchnorm,
        seed=seed,
        kept=[without_top(patches.ranking, m) for m in removed],
        penalties=penalties or PENALTIES,
    )


def predict_probe(
    patches: PatchData, remove: Sequence[int], seed: int, penalties: Sequence[float] | None = None
) -> dict[int, tuple[Int64[np.ndarray, " query"], float, bool]]:
    """Return, for every m, the predicted classes, the chosen penalty and whether the fit converged."""
    removed = list(remove)
    choice = fit_probe(patches, removed, seed, penalties)
    predicted = predict_side_by_side(choice.probes, patches.queries)
    return {
        m: (predicted[place], choice.probes[place].head.penalty, choice.probes[place].converged)
        for place, m in enumerate(removed)
    }
