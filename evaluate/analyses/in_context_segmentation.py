"""In-context segmentation: pixels get the classes of the training patches that resemble their patch most.

Balažević et al. (NeurIPS 2023; Hummingbird), as vpariza/open-hummingbird-eval computes it: a memory of training
patches, normalised, each with the shares of classes among its pixels; k = 30 neighbours by cosine; their labels
weighted by softmax(cosine / 0.02); votes resized bilinearly to the input, the largest taken; mIoU over pixels. A memory
of limited size keeps ``memory_size // training tiles`` patches a tile, those of classes that are rare in the tile
rather than others.

Deviations, each deliberate: neighbours are exact (the reference uses an index); void pixels have no share in labels
(the reference takes them for class 0); nothing is augmented, for features are stored (``augmentation_epoch = 1``);
where tiles overlap only the one that owns a pixel is remembered and scored. Published numbers are of 512 px inputs and
of memories of 10.24 M patches.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64
from pydantic import Field

from evaluate.inputs.chunks import of_chunks
from evaluate.inputs.limits import check_k
from evaluate.inputs.memory import ClassifierMemory, n_patches
from evaluate.inputs.model_sets import PIXELS
from evaluate.inputs.patches import owned_boxes, pixel_histograms, placement, tokens, tokens_and_variance
from evaluate.inputs.rows import image_numbers
from evaluate.inputs.work import ClassifierWork, Work, comparing
from evaluate.kernels.moments import variance_ranking
from evaluate.kernels.segmentation import in_context as kernel
from evaluate.kernels.segmentation.confusion import iou
from evaluate.kernels.treatments import TreatedBank, treat_bank
from evaluate.neighbours.knn import Neighbours, nearest_without_top
from evaluate.neighbours.query_sections import QueryPass
from evaluate.results.metrics import MEMORY_PATCHES, REDONE_IN_FLOAT64
from evaluate.results.rows import score_row
from evaluate.results.sections import LongPass
from evaluate.results.table import Result
from evaluate.scoring.patches import STATISTICS
from evaluate.settings import BootstrapSettings, LayerSettings, PatchRemovalSettings
from evaluate.task import ModelTask
from stores.errors import UserError


class InContextSegmentation(LayerSettings, PatchRemovalSettings, BootstrapSettings):
    """Classes of pixels by attention over the nearest training patches (Hummingbird, NeurIPS 2023)."""

    kind: Literal["in-context-segmentation"]
    k: Annotated[int, Field(ge=1)] = 30
    """Neighbours that vote."""
    temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.02
    """Temperature of the softmax of cosines."""
    memory_size: Annotated[int, Field(ge=1)] | None = None
    """Training patches in memory at most, spread evenly over tiles; all with a labelled pixel without it."""


@dataclass(frozen=True, eq=False)
class InContextSegmentationTask(ModelTask[InContextSegmentation]):
    """mIoU and accuracy of pixels for every m, and the IoU of every class."""

    analysis = "in-context-segmentation"
    revision = 2
    what = "in-context segmentation of {task.array}"
    labelled = True
    by_removal = True
    key_settings = ("k", "temperature", "memory_size", "resamples")
    key_counts = ("remove",)

    @property
    def columns(self) -> dict[str, Any]:
        """The shared columns, how neighbours are found, and the layer as x."""
        x = {"x_name": "layer", "x_value": float(self.model.layer(self.array))}
        size = self.settings.memory_size
        memory = "memory of all patches" if size is None else f"memory of {size:,} patches at most"
        knn = {"classifier": "knn", "distance": "cosine", "k": self.settings.k, "outcome": memory}
        return {**super().columns, **x, **knn, "seed": self.context.seed}

    def check(self) -> None:
        """Raise UserError for data without labels, and for more neighbours than patches in memory."""
        super().check()
        size, n_tiles = self.settings.memory_size, len(self.train.rows)
        if size is not None and size < n_tiles:
            raise UserError(
                f"memory_size = {size} is less than the {n_tiles} training tiles, of each of which a patch is kept: "
                "raise it, or select fewer images"
            )
        check_k(self.settings.k, self._n_memory, "patches" if size is None else "patches in memory")

    @property
    def _n_memory(self) -> int:
        """Most patches that are remembered."""
        n_all = n_patches(self.model, self.array, len(self.train.rows))
        return n_all if self.settings.memory_size is None else min(n_all, self.settings.memory_size)

    def compute(self) -> Result:
        """Return the scores of every m."""
        read = _Remembered(self)
        check_k(self.settings.k, len(read.labels), "remembered patches")
        n_queries = n_patches(self.model, self.array, len(self.validation.rows))
        found = self._search(read, self.searched()).neighbours(n_queries, self.kept_sections())
        bootstrap = self.bootstrap(self.validation.sources)
        rows = []
        for m, neighbours in found.items():
            votes = kernel.attended(
                neighbours.indices, neighbours.squared_distances, read.labels, self.settings.temperature
            )
            matrices = self._matrices(votes)
            for name, statistic in STATISTICS.items():
                rows.append(bootstrap.confusion_row(f"pixel_{name}", matrices, statistic, m=m))
            for name, value in zip(self.model.class_names, iou(matrices.sum(axis=0)), strict=True):
                rows.append(score_row("pixel_iou", float(value), m=m, **{"class": name}))
            rows.append(score_row(REDONE_IN_FLOAT64, neighbours.redone, m=m))
            rows.append(score_row(MEMORY_PATCHES, float(len(read.labels)), m=m))
        return Result(rows)

    def _search(self, read: "_Remembered", results: Mapping[int, str]) -> QueryPass:
        """Return the search of the validation patches among the remembered ones.

        Args:
            read: both.
            results: digests of the results that neighbours are for, by m.
        """
        k, of_row = self.settings.k, n_patches(self.model, self.array, 1)

        def search(removed: Sequence[int], start: int, stop: int) -> dict[int, Neighbours]:
            return nearest_without_top(
                read.bank, read.queries[start * of_row : stop * of_row], read.ranking, removed, k, metric="cosine",
                memory_bytes=self.search_bytes, device=self.context.device.name,
            )  # fmt: skip

        n_rows = len(self.validation.rows)
        return QueryPass(self.array, ("memory",), results, k, "cosine", self._n_memory, n_rows, of_row, search)

    def passes(self) -> list[LongPass]:
        """Return the search among features as they are."""
        if self.kept_sections() is None:
            return []
        return self._search(_Remembered(self), self.searched(is_missing_alone=True)).several

    def memory(self) -> tuple[Bool[np.ndarray, " patch"], Float32[np.ndarray, "bank classes"]]:
        """Return which training patches are remembered, and the shares of classes among their labelled pixels."""
        counts = pixel_histograms(self.model, self.array, self.train)[:, :-1]
        kept = np.asarray(counts.any(axis=1))
        if self.settings.memory_size is not None:
            n_rows = len(self.train.rows)
            by_sample = counts.reshape(n_rows, -1, counts.shape[1])
            n_of_sample = self.settings.memory_size // n_rows
            rng = np.random.default_rng([self.context.seed, n_of_sample])
            kept = kernel.remembered(by_sample, n_of_sample, rng).reshape(-1)
        some = counts[kept].astype(np.float32)
        labels: np.ndarray = some / some.sum(axis=1, keepdims=True)
        return kept, labels

    def _matrices(self, votes: Float32[np.ndarray, "query classes"]) -> Int64[np.ndarray, "image classes classes"]:
        """Return one confusion matrix an image over the pixels of its tiles."""
        grid = self.model.grid(self.array)
        n_classes, by_row = votes.shape[1], votes.reshape(len(self.validation.rows), *grid, -1)
        images, boxes = image_numbers(self.model, self.validation), owned_boxes(self.model, self.validation)

        def count(first: int, block: np.ndarray) -> list[np.ndarray]:
            return [
                kernel.pixel_matrix(
                    kernel.pixel_classes(by_row[first + place], truth.shape), truth, tuple(box), n_classes
                )
                for place, (truth, box) in enumerate(zip(block, boxes[first:].tolist(), strict=False))
            ]

        matrices = np.zeros((len(self.validation.sources), n_classes, n_classes), dtype=np.int64)
        of_rows: Iterator[np.ndarray] = (
            one for some in of_chunks(self.model.labels[PIXELS], self.validation.rows, count) for one in some
        )
        for image, matrix in zip(images, of_rows, strict=True):
            matrices[image] += matrix
        return matrices

    def work(self) -> Work:
        """Estimate the operations: one search for every m, votes resized to pixels, and three resampled scores."""
        n_m, operations = len(self.removed), ClassifierWork(self.model, self.array, self.train, self.validation)
        n_queries = n_patches(self.model, self.array, len(self.validation.rows))
        searched = comparing(float(self._n_memory) * n_queries, self.model.n_channels(self.array), 1) * n_m
        size, n_classes = self.model.spec.frame.input, len(self.model.classes)
        n_votes = float(len(self.validation.rows) * size.height * size.width * n_classes)
        resized = Work(2.0 * n_votes * self.model.grid(self.array)[1], 12.0 * n_votes) * n_m
        read = operations.reading() + operations.treating(self.treatment)
        return read + searched + resized + operations.scoring(self.settings.resamples, 3 * n_m)

    def peak_bytes(self) -> int:
        """Estimate peak memory: patches of both selections, labels of the memory, votes, and those of two tiles."""
        n_m, n_classes = len(set(self.settings.remove)), len(self.model.classes)
        memory = ClassifierMemory(self.model, self.array, self.train, self.validation)
        n_train, n_queries = (
            n_patches(self.model, self.array, len(some.rows)) for some in (self.train, self.validation)
        )
        labels = 4 * 4 * (n_classes + 1) * n_train
        votes = (8 + 4 + 8) * n_classes * n_queries
        size, columns = self.model.spec.frame.input, self.model.grid(self.array)[1]
        resized = 4 * 8 * n_classes * size.height * (2 * size.width + columns)
        scoring = memory.scoring(self.settings.resamples, 1)
        treating = 0 if self.treatment is None else memory.treating()
        return memory.searching(n_m, (self.settings.k,)) + treating + labels + votes + resized + scoring


class _Remembered:
    """The patches that a task remembers and those that it asks for, read when they are first used.

    Args:
        task: Its features are treated where it has a treatment.
    """

    def __init__(self, task: InContextSegmentationTask) -> None:
        self.task = task

    @cached_property
    def labels(self) -> Float32[np.ndarray, "bank classes"]:
        """Shares of classes among the pixels of the remembered patches."""
        _, labels = self._memory
        return labels if self._treated is None else labels[self._treated.kept]

    @property
    def bank(self) -> np.ndarray:
        """The remembered patches, ``(bank, feature)``."""
        return self._stored[0] if self._treated is None else self._treated.features

    @cached_property
    def queries(self) -> np.ndarray:
        """The validation patches, ``(query, feature)``."""
        rows = tokens(self.task.model, self.task.array, self.task.validation)
        return rows if self._treated is None else self._treated.treat(rows)

    @property
    def ranking(self) -> Int64[np.ndarray, " feature"]:
        """Features by decreasing variance; of treated ones none is left out."""
        return variance_ranking(self._stored[1]) if self._treated is None else np.arange(self.bank.shape[1])

    @cached_property
    def _memory(self) -> tuple[Bool[np.ndarray, " patch"], Float32[np.ndarray, "bank classes"]]:
        return self.task.memory()

    @cached_property
    def _stored(self) -> tuple[np.ndarray, Float64[np.ndarray, " channel"]]:
        return tokens_and_variance(self.task.model, self.task.array, self.task.train, self._memory[0])

    @cached_property
    def _treated(self) -> TreatedBank | None:
        task = self.task
        if task.treatment is None:
            return None
        placed = placement(task.model, task.array, task.train, self._memory[0])
        return treat_bank(task.treatment, self._stored[0], placed, task.context.seed)
