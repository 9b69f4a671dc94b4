"""Patch classification: labelled training patches, validation patches, and predictions by classifiers.

Paper A, sections 3.1 and 3.2. Classifiers are fitted on the labelled training patches; the ranking of features is that
of all training patches.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Int64, UInt8

from evaluate.inputs.limits import check_k
from evaluate.inputs.model_sets import ModelSets
from evaluate.inputs.patches import patch_labels, tokens, tokens_and_variance
from evaluate.inputs.rows import RowSelection, image_numbers
from evaluate.kernels.first_order import fit_adamw
from evaluate.kernels.moments import variance_ranking, without_top
from evaluate.kernels.penalties import PENALTIES, PenaltyScore, choose_penalty
from evaluate.kernels.probes import Probe, predict_side_by_side
from evaluate.neighbours.knn import Neighbours, nearest, nearest_without_top
from evaluate.neighbours.voting import vote
from evaluate.results.metrics import CONVERGED, PENALTY, TRAINING_LOSS, TRIALS_CONVERGED
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
    bank, variance = tokens_and_variance(model, array, train, labelled)
    return PatchData(
        model=model,
        bank=bank,
        bank_labels=labels[labelled],
        bank_images=image_numbers(model, train, n_patches)[labelled],
        queries=tokens(model, array, validation),
        ranking=variance_ranking(variance),
    )


def predict_knn(
    patches: PatchData,
    removed: Sequence[int],
    k: Sequence[int] = (1,),
    *,
    metric: Literal["euclidean", "cosine"] = "euclidean",
    search: Literal["exact", "faiss"] = "exact",
    weights: Literal["uniform", "softmax"] = "uniform",
    temperature: float = 0.07,
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
        temperature: of softmax votes.
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
        (m, votes): (
            vote(neighbours, labels, n_classes, votes, weights=weights, temperature=temperature),
            neighbours.redone,
        )
        for m, neighbours in by_m.items()
        for votes in k
    }


def _nearest_by_faiss(
    patches: PatchData, m: int, k: int, metric: Literal["euclidean", "cosine"], memory_bytes: int
) -> Neighbours:
    kept = np.sort(patches.ranking[m:])
    bank, queries = np.take(patches.bank, kept, axis=1), np.take(patches.queries, kept, axis=1)
    return nearest(bank, queries, k, metric=metric, method="faiss", memory_bytes=memory_bytes)


class FittedProbe(NamedTuple):
    """A probe with numbers about its fit, by metric."""

    probe: Probe
    details: dict[str, float]


@dataclass(frozen=True)
class ProbeOptions:
    """How linear probes are fitted."""

    seed: int
    """Seed of held-out images, or of AdamW's initial weights and order of rows."""
    penalties: tuple[float, ...] = PENALTIES
    penalty_score: PenaltyScore = "patch_miou"
    fit: Literal["converged", "adamw"] = "converged"
    epochs: int = 10
    learning_rate: float = 1e-3

    def fit_probes(
        self,
        patches: PatchData,
        kept: Sequence[Bool[np.ndarray, " channel"] | None],
        bank: np.ndarray | None = None,
        *,
        standardise: bool | None = None,
    ) -> list[FittedProbe]:
        """Return one probe for every set of kept features.

        Args:
            patches: training patches with their labels and images.
            kept: masks of kept features, None for all.
            bank: treated features in place of the patches' own.
            standardise: whether features are standardised; None takes the model's default.
        """
        bank = patches.bank if bank is None else bank
        standardise = patches.model.probe_batchnorm if standardise is None else standardise
        # One fit for each set of features: rounding in a product of several would depend on what is fitted beside it.
        return [self._fit(patches, bank, mask, standardise) for mask in kept]

    def _fit(
        self, patches: PatchData, bank: np.ndarray, kept: Bool[np.ndarray, " channel"] | None, standardise: bool
    ) -> FittedProbe:
        labels, n_classes = patches.bank_labels, len(patches.model.classes)
        if self.fit == "adamw":
            [probe] = fit_adamw(
                bank, labels, n_classes, [kept], standardise=standardise, seed=self.seed, epochs=self.epochs,
                learning_rate=self.learning_rate,
            )  # fmt: skip
            return FittedProbe(probe, {TRAINING_LOSS: probe.objective})
        choice = choose_penalty(
            bank, labels, patches.bank_images, n_classes, standardise=standardise, seed=self.seed, kept=kept,
            penalties=self.penalties, score=self.penalty_score,
        )  # fmt: skip
        details = {PENALTY: choice.probe.head.penalty, CONVERGED: float(choice.probe.converged)}
        if choice.trials:
            details[TRIALS_CONVERGED] = float(np.mean([trial.converged for trial in choice.trials]))
        return FittedProbe(choice.probe, details)


def predict_probe(
    patches: PatchData, removed: Sequence[int], options: ProbeOptions
) -> dict[int, tuple[Int64[np.ndarray, " query"], dict[str, float]]]:
    """Return, for every m of ``removed``, the predicted classes and numbers about the fit, by metric."""
    fitted = options.fit_probes(patches, [without_top(patches.ranking, m) for m in removed])
    predicted = predict_side_by_side([one.probe for one in fitted], patches.queries)
    return {m: (classes, one.details) for m, classes, one in zip(removed, predicted, fitted, strict=True)}
