"""Patch classification: labelled training patches, validation patches, and predictions by classifiers.

Paper A, sections 3.1 and 3.2. Classifiers are fitted on the labelled training patches; the ranking of features is that
of all training patches.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Int64, UInt8

from evaluate.inputs.limits import check_k
from evaluate.inputs.model_sets import ModelSets
from evaluate.inputs.patches import patch_labels, placement, tokens, tokens_and_variance
from evaluate.inputs.rows import RowSelection, image_numbers
from evaluate.kernels.moments import variance_ranking, without_top
from evaluate.kernels.probing.first_order import fit_adamw
from evaluate.kernels.probing.penalties import PENALTIES, PenaltyScore, choose_penalty
from evaluate.kernels.probing.probes import Probe, predict_side_by_side
from evaluate.kernels.subspaces import Placement
from evaluate.kernels.treatments import TreatedBank, Treatment, treat_bank
from evaluate.neighbours.knn import Method, Metric, Neighbours, nearest, nearest_without_top
from evaluate.neighbours.voting import vote
from evaluate.results.metrics import CONVERGED, PENALTY, TRAINING_LOSS, TRIALS_CONVERGED
from evaluate.results.table import ResultStore
from evaluate.scoring.stored_neighbours import Search, only
from stores.errors import UserError
from stores.specs import VOID


@dataclass(frozen=True, eq=False)
class PatchData:
    """Training and validation patches of one array; tokens are read when they are first used."""

    model: ModelSets
    array: str
    train: RowSelection
    """Rows whose labelled patches train, and whose patches rank the features."""
    validation: RowSelection
    """Rows whose patches are predicted."""
    labelled: Bool[np.ndarray, " patch"]
    """Which training patches have a label."""
    bank_labels: UInt8[np.ndarray, " bank"]
    bank_images: Int64[np.ndarray, " bank"]

    @cached_property
    def _training(self) -> tuple[np.ndarray, np.ndarray]:
        return tokens_and_variance(self.model, self.array, self.train, self.labelled)

    @property
    def bank(self) -> np.ndarray:
        """Labelled training patches, ``(bank, channel)``, as stored."""
        return self._training[0]

    @property
    def placement(self) -> Placement:
        """Image of each training patch, and its place on the grid, row by row from 0."""
        return placement(self.model, self.array, self.train, self.labelled)

    def treat(self, rows: np.ndarray) -> np.ndarray:
        """Return other patches with what was done to these: nothing."""
        return rows

    @cached_property
    def ranking(self) -> Int64[np.ndarray, " channel"]:
        """Features by decreasing variance over all training patches."""
        return variance_ranking(self._training[1])

    @cached_property
    def queries(self) -> np.ndarray:
        """Validation patches, ``(query, channel)``, void ones included so that maps have no holes."""
        return tokens(self.model, self.array, self.validation)

    @property
    def n_queries(self) -> int:
        """Number of validation patches."""
        rows, columns = self.model.grid(self.array)
        return rows * columns * len(self.validation.rows)

    def search(self, validation: RowSelection, metric: Metric) -> Search:
        """Return the search of the patches of some validation rows among the training patches."""
        rows, columns = self.model.grid(self.array)
        n_queries = rows * columns * len(validation.rows)
        return Search(self.model, self.array, self.train, validation, metric, len(self.bank_labels), n_queries)


@dataclass(frozen=True, eq=False)
class TreatedPatches(PatchData):
    """Patches with treated features; training patches that a treatment leaves out are gone."""

    treated: TreatedBank

    @property
    def bank(self) -> np.ndarray:
        """Labelled training patches, ``(bank, feature)``."""
        return self.treated.features

    @cached_property
    def ranking(self) -> Int64[np.ndarray, " channel"]:
        """Features in their order: none is left out."""
        return np.arange(self.bank.shape[1])

    @cached_property
    def queries(self) -> np.ndarray:
        """Validation patches, ``(query, feature)``."""
        return self.treat(tokens(self.model, self.array, self.validation))

    def treat(self, rows: np.ndarray) -> np.ndarray:
        """Return other patches treated as these are."""
        return self.treated.treat(rows)


def treat_patches(patches: PatchData, treatment: Treatment | None, seed: int) -> PatchData:
    """Return patches with treated features, statistics of the training patches alone; as they are without a treatment.

    Args:
        patches: patches as stored.
        treatment: what is done; no removal.
        seed: seed of random signs.
    """
    if treatment is None:
        return patches
    treated = treat_bank(treatment, patches.bank, patches.placement, seed)
    labelled = patches.labelled.copy()
    labelled[labelled] = treated.kept
    labels, images = patches.bank_labels[treated.kept], patches.bank_images[treated.kept]
    sets = patches.model, patches.array, patches.train, patches.validation
    return TreatedPatches(*sets, labelled, labels, images, treated)


def read_patches(model: ModelSets, array: str, train: RowSelection, validation: RowSelection) -> PatchData:
    """Return the patches of one array; raises UserError when no training patch is labelled.

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
    images = image_numbers(model, train, n_patches)[labelled]
    return PatchData(model, array, train, validation, labelled, labels[labelled], images)


@dataclass(frozen=True)
class KnnOptions:
    """How nearest neighbours are searched and vote."""

    memory_bytes: int
    """Memory the search may use beside its inputs."""
    results: ResultStore | None = None
    """Where exact neighbours are stored and read."""
    k: tuple[int, ...] = (1,)
    """Numbers of neighbours that vote."""
    metric: Metric = "euclidean"
    """Distance between features."""
    search: Method = "exact"
    """Exact neighbours, or those of FAISS's flat index."""
    weights: Literal["uniform", "softmax"] = "uniform"
    temperature: float = 0.07
    """Of softmax votes."""
    device: str | None = None
    """Where products are computed; None for numpy."""

    def neighbours(
        self, patches: PatchData, removed: Sequence[int], larger: RowSelection | None = None
    ) -> dict[int, Neighbours]:
        """Return the neighbours of the validation patches for every m of ``removed``, stored ones where there are.

        Args:
            patches: training and validation patches.
            removed: numbers m of highest-variance features to leave out.
            larger: more rows, among them the validation rows, whose neighbours may be stored.
        """
        most = max(self.k)
        check_k(most, len(patches.bank_labels))
        if self.search == "faiss":
            return {m: self._by_faiss(patches, m, most) for m in removed}
        # Stored neighbours are those of features as they are.
        results = None if isinstance(patches, TreatedPatches) else self.results
        found: dict[int, Neighbours] = {}
        if larger is not None and results is not None:
            n_patches = patches.n_queries // len(patches.validation.rows)
            among = np.repeat(np.isin(larger.rows, patches.validation.rows), n_patches)
            stored = patches.search(larger, self.metric).stored(removed, most, results)
            found = {m: only(neighbours, among) for m, neighbours in stored.items()}
        missing = [m for m in removed if m not in found]
        search = patches.search(patches.validation, self.metric)
        found |= search.of(missing, most, results, lambda some: self.searched(patches, some, patches.queries))
        return {m: found[m] for m in removed}

    def searched(self, patches: PatchData, removed: Sequence[int], queries: np.ndarray) -> dict[int, Neighbours]:
        """Return the exact neighbours of rows among the training patches, whether stored or not."""
        return nearest_without_top(
            patches.bank, queries, patches.ranking, removed, max(self.k), metric=self.metric,
            memory_bytes=self.memory_bytes, device=self.device,
        )  # fmt: skip

    def _by_faiss(self, patches: PatchData, m: int, k: int) -> Neighbours:
        kept = np.sort(patches.ranking[m:])
        bank, queries = np.take(patches.bank, kept, axis=1), np.take(patches.queries, kept, axis=1)
        options = {"metric": self.metric, "memory_bytes": self.memory_bytes, "device": self.device}
        return nearest(bank, queries, k, method="faiss", **options)  # type: ignore[arg-type]

    def votes(
        self, patches: PatchData, by_m: dict[int, Neighbours]
    ) -> dict[tuple[int, int], tuple[Int64[np.ndarray, " query"], float]]:
        """Return, for every (m, k), the classes that neighbours vote for, and the share redone in float64."""
        n_classes = len(patches.model.classes)
        labels = patches.bank_labels.astype(np.int64)
        return {
            (m, k): (
                vote(found, labels, n_classes, k, weights=self.weights, temperature=self.temperature),
                found.redone,
            )
            for m, found in by_m.items()
            for k in self.k
        }


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
    device: str | None = None
    """Where fits are computed; None for the processor."""

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
                learning_rate=self.learning_rate, device=self.device,
            )  # fmt: skip
            return FittedProbe(probe, {TRAINING_LOSS: probe.objective})
        choice = choose_penalty(
            bank, labels, patches.bank_images, n_classes, standardise=standardise, seed=self.seed, kept=kept,
            penalties=self.penalties, score=self.penalty_score, device=self.device,
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
