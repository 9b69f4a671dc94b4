"""Overclustering: patch tokens are clustered without labels, then every cluster is given one class.

k-means with as many clusters as classes, and with more (100 and 300), as Leopart (Ziegler and Asano, CVPR 2022), NeCo
(2408.11054) and Franca (2507.14137) report it. Clusters are mapped to classes on the patches that are scored, as in all
of these: by *majority* (several clusters may have one class), and, with as many clusters as classes, *one to one* by
the Hungarian method. So scores grow with the number of clusters, and are no accuracy on new images. Tokens are brought
to length 1 (``normalise``); k-means starts at k-means++ of each seed.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from jaxtyping import Float32, Int64
from pydantic import Field

from evaluate.inputs.chunks import n_readers, of_chunks
from evaluate.inputs.memory import ClassifierMemory, n_patches, reducing_bytes
from evaluate.inputs.patches import tokens
from evaluate.inputs.work import ClassifierWork, Work
from evaluate.kernels.segmentation.clustering import (
    MOST_ITERATIONS,
    cluster_centres,
    contingency,
    hungarian_mapping,
    majority_mapping,
    nearest_centres,
    unit_length,
)
from evaluate.results.table import Result
from evaluate.scoring.patches import Truth
from evaluate.scoring.tokens.captured_task import reading_numbers
from evaluate.settings import BootstrapSettings, LayerSettings
from evaluate.task import ModelTask
from stores.errors import UserError
from stores.specs import VOID

MAJORITY = "majority"
ONE_TO_ONE = "one to one"


class Overclustering(LayerSettings, BootstrapSettings):
    """Classes of clusters of patches, found without labels (Leopart, CVPR 2022; Franca, 2507.14137)."""

    kind: Literal["overclustering"]
    clusters: Annotated[
        tuple[Annotated[int, Field(ge=2, le=10_000)] | Literal["classes"], ...], Field(min_length=1)
    ] = ("classes", 100, 300)
    """Numbers of clusters; ``classes`` for as many as the data has classes."""
    draws: int = Field(default=3, ge=1, le=20)
    """Runs of k-means with a start of their own, each reported."""
    patches: int = Field(default=50_000, ge=100)
    """Patches that k-means is fitted on at most, chosen at random; all patches then go to their nearest centre."""
    normalise: bool = True
    """Bring tokens to length 1."""


@dataclass(frozen=True, eq=False)
class OverclusteringTask(ModelTask[Overclustering]):
    """mIoU of clusters for every number of clusters and run, by patches and by pixels."""

    analysis = "overclustering"
    what = "clusters of {task.array}"
    labelled = True
    key_settings = ("clusters", "draws", "patches", "normalise", "resamples")
    key_rows = ("validation",)
    trains = False

    @property
    def columns(self) -> dict[str, Any]:
        """The shared columns, and how tokens are compared."""
        distance = "cosine" if self.settings.normalise else "euclidean"
        return {**super().columns, "classifier": "k-means", "distance": distance, "seed": self.context.seed}

    @property
    def _counts(self) -> list[int]:
        n_classes = len(self.model.classes)
        return list(dict.fromkeys(n_classes if count == "classes" else count for count in self.settings.clusters))

    def check(self) -> None:
        """Raise UserError for data without labels, and for more clusters than patches."""
        super().check()
        n_fitted = min(self.settings.patches, n_patches(self.model, self.array, len(self.validation.rows)))
        if max(self._counts) > n_fitted:
            raise UserError(
                f"{max(self._counts)} clusters are more than the {n_fitted} patches that k-means is fitted on: lower "
                "`clusters`, or raise `patches`"
            )

    def compute(self) -> Result:
        """Return the scores of every number of clusters, run and mapping."""
        truth = Truth(self.model, self.array, self.validation)
        scored = truth.labels != VOID
        if not scored.any():
            raise UserError(f"none of the {self.validation.title} to cluster has a labelled patch: choose others")
        bootstrap = self.bootstrap(self.validation.sources)
        n_classes = len(self.model.classes)
        fitted = self._fitted()
        rows: list[dict[str, Any]] = []
        for n_clusters, draw, clusters in self._clustered(fitted):
            counts = contingency(clusters[scored], truth.labels[scored], n_clusters, n_classes)
            mappings = {MAJORITY: majority_mapping(counts)}
            if n_clusters == n_classes:
                mappings[ONE_TO_ONE] = hungarian_mapping(counts)
            for outcome, mapping in mappings.items():
                columns = {"k": n_clusters, "outcome": outcome, "x_name": "draw", "x_value": float(draw)}
                rows += truth.rows(mapping[clusters], bootstrap, columns)
        return Result(rows)

    def _fitted(self) -> Float32[np.ndarray, "patch channel"]:
        """Return the patches that k-means is fitted on."""
        n_all = n_patches(self.model, self.array, len(self.validation.rows))
        chosen = np.zeros(n_all, dtype=bool)
        rng = np.random.default_rng(self.context.seed)
        chosen[rng.permutation(n_all)[: self.settings.patches]] = True
        found = tokens(self.model, self.array, self.validation, chosen)
        return unit_length(found) if self.settings.normalise else found.astype(np.float32)

    def _clustered(
        self, fitted: Float32[np.ndarray, "patch channel"]
    ) -> Iterator[tuple[int, int, Int64[np.ndarray, " patch"]]]:
        """Yield a number of clusters, the number of the run, and the cluster of every patch."""
        runs = [(count, draw) for count in self._counts for draw in range(self.settings.draws)]
        centres = [cluster_centres(fitted, count, self.context.seed + draw) for count, draw in runs]

        def assigned(first: int, block: np.ndarray) -> list[np.ndarray]:
            some = block.reshape(-1, block.shape[-1])
            some = unit_length(some) if self.settings.normalise else some
            return [nearest_centres(some, one) for one in centres]

        parts = list(of_chunks(self.model.features[self.array], self.validation.rows, assigned))
        for number, (count, draw) in enumerate(runs):
            yield count, draw, np.concatenate([part[number] for part in parts])

    def work(self) -> Work:
        """Estimate the operations: a third of the iterations that k-means may take, and six resampled scores a run."""
        width, draws = self.model.n_channels(self.array), self.settings.draws
        n_all = n_patches(self.model, self.array, len(self.validation.rows))
        n_fitted, clusters = min(self.settings.patches, n_all), float(sum(self._counts)) * draws
        fitted = Work(2.0 * n_fitted * width * clusters * MOST_ITERATIONS / 3)
        given = Work(2.0 * n_all * width * clusters)
        operations = ClassifierWork(self.model, self.array, self.validation, self.validation)
        scored = operations.scoring(self.settings.resamples, 6 * draws * (len(self._counts) + 1))
        return reading_numbers(self.model, self.array, 2 * len(self.validation.rows)) + fitted + given + scored

    def peak_bytes(self) -> int:
        """Estimate peak memory: the fitted patches with k-means' copies, the clusters of all runs, and scoring."""
        width, n_all = self.model.n_channels(self.array), n_patches(self.model, self.array, len(self.validation.rows))
        n_fitted, n_runs = min(self.settings.patches, n_all), len(self._counts) * self.settings.draws
        stored, rows = self.model.features[self.array], self.validation.rows
        chunk_rows = min(len(rows), stored.layout.chunk_rows(stored.spec))
        n_tokens = chunk_rows * (n_all // max(1, len(rows)))
        # Of a chunk each reader has float32 tokens twice, once in float64, and their distances from all centres.
        given = n_readers(stored, rows) * n_tokens * (16 * width + 16 * max(self._counts))
        memory = ClassifierMemory(self.model, self.array, self.validation, self.validation)
        fitted = 3 * 4 * n_fitted * width + 8 * n_fitted * 12
        kept = 4 * n_fitted * width + 9 * n_all + 8 * n_all * (2 * n_runs + 4)
        reading = reducing_bytes(self.model, self.array, rows)
        return reading + kept + max(fitted, given) + memory.scoring(self.settings.resamples, 2)
