"""Patch classification: labelled training patches, validation patches, and predictions by classifiers.

Paper A, sections 3.1 and 3.2. Classifiers are fitted on the labelled training patches; the ranking of features is that
of all training patches.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Int64, UInt8

from evaluate.inputs.limits import check_k
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
    bank: np.ndarray
    """Labelled training patches, ``(bank, channel)``, as stored."""
    bank_labels: UInt8[np.ndarray, " bank"]
    bank_images: Int64[np.ndarray, " bank"]
    queries: np.ndarray
    """Validation patches, ``(query, channel)``, void ones included so that maps have no holes."""
    ranking: Int64[np.ndarray, " channel"]


def read_patches(model: ModelSets, array: str, train: RowSelection, validation: RowSelection) -> PatchData:
    """Read the patches of one array; raises UserError when no training patch is labelled.

    Args:
        model: stored sets of the model.
        array: address of the token array.
        train: rows whose labelled patches train, and whose patches rank the features.
        validation: rows whose patches are predicted.
    """
    n_patches = model.grid(array)[0] * model.grid(array)[1]
    labels = patch_labels(model, array, train)
    labelled = labels != VOID
    if not labelled.any():
        raise UserError(f"none of the {train.title} for training has a labelled patch: choose other training images")
    return PatchData(
        model=model,
        bank=tokens(model, array, train, labelled),
        bank_labels=labels[labelled],
        bank_images=image_numbers(model, train, n_patches)[labelled],
        queries=tokens(model, array, validation),
        ranking=variance_ranking(token_variance(model, array, train)),
    )


def predict_knn(
    patches: PatchData,
    removed: Sequence[int],
    k: Sequence[int] = (1,),
    *,
    metric: Literal["euclidean", "cosine"] = "euclidean",
    search: Literal["exact", "faiss"] = "exact",
    weights: Literal["uniform", "softmax"] = "uniform",
    memory_bytes: int,
) -> dict[tuple[int, int], tuple[Int64[np.ndarray, " query"], float]]:
    """Return, for every (m, k), the predicted classes and the share of queries redone in float64.

    Args:
        patches: training and validation patches.
        removed: numbers m of highest-variance features to leave out.
        k: numbers of neighbours that vote.
        metric: distance between features.
        search: exact neighbours, or those of FAISS's flat index.
        weights: how neighbours vote.
        memory_bytes: memory the search may use beside its inputs.
    """
    most = max(k)
    check_k(most, len(patches.bank))
    if search == "exact":
        by_m = nearest_without_top(
            patches.bank, patches.queries, patches.ranking, removed, most, metric=metric, memory_bytes=memory_bytes
        )
    else:
        by_m = {m: _nearest_by_faiss(patches, m, most, metric, memory_bytes) for m in removed}
    n_classes = len(patches.model.classes)
    labels = patches.bank_labels.astype(np.int64)
    return {
        (m, votes): (vote(neighbours, labels, n_classes, votes, weights=weights), neighbours.redone)
        for m, neighbours in by_m.items()
        for votes in k
    }


def _nearest_by_faiss(
    patches: PatchData, m: int, k: int, metric: Literal["euclidean", "cosine"], memory_bytes: int
) -> Neighbours:
    kept = np.sort(patches.ranking[m:])
    bank, queries = np.take(patches.bank, kept, axis=1), np.take(patches.queries, kept, axis=1)
    return nearest(bank, queries, k, metric=metric, method="faiss", memory_bytes=memory_bytes)


def fit_probe(
    patches: PatchData, removed: Sequence[int], seed: int, penalties: Sequence[float] | None = None
) -> PenaltyChoice:
    """Return the probes for every m of ``removed``, their penalties selected on held-out training images.

    Args:
        patches: training and validation patches.
        removed: numbers m of highest-variance features to leave out.
        seed: seed of the held-out images.
        penalties: L2 penalties to select from, `PENALTIES` by default.
    """
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
    patches: PatchData, removed: Sequence[int], seed: int, penalties: Sequence[float] | None = None
) -> dict[int, tuple[Int64[np.ndarray, " query"], float, bool]]:
    """Return, for every m, the predicted classes, the selected penalty and whether the fit converged.

    Args:
        patches: training and validation patches.
        removed: numbers m of highest-variance features to leave out.
        seed: seed of the held-out images.
        penalties: L2 penalties to select from, `PENALTIES` by default.
    """
    probes = fit_probe(patches, removed, seed, penalties).probes
    predicted = predict_side_by_side(probes, patches.queries)
    return {
        m: (classes, probe.head.penalty, probe.converged)
        for m, classes, probe in zip(removed, predicted, probes, strict=True)
    }
