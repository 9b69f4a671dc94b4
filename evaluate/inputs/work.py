"""Estimated work of what analyses do with a model's sets, in operations, and the seconds that a machine takes for it.

Operations are of two sorts, whose rates a machine is measured for: those of float32 matrix products, which use all
cores, and passes over single values, which use one. The constants were fitted on CamVid: 216 tiles, ViT-S/16 with
random weights and DINOv2 ViT-S/14, two quiet cores, one BLAS thread. In these runs the estimates over the measured
times were: patch-classification and feature-treatments by k-NN 0.8 to 1.2, label-maps by k-NN 0.8 to 1.0,
variance-spectrum 0.8, global-context 0.5 to 1.0, ranking-overlap 0.3 to 0.7 (of tenths of a second). The iterations of
probes are a guess. On cores that others use too BLAS threads wait for each other: global-context took 8 times as long
as estimated. Not compared: feature-treatments and label-maps by probes, robustness, retrieval, tracking, image-knn,
AdamW.
"""

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from evaluate.inputs.memory import n_patches
from evaluate.inputs.model_sets import PIXELS, ModelSets
from evaluate.inputs.rows import RowSelection
from evaluate.kernels.subspaces import FLIPS
from evaluate.kernels.treatments import Treatment

READ = 6.0
"""Passes over every value that is read: the bytes are decoded and copied."""
RANKED = 20.0
"""Passes over every value whose variance is computed, in float64."""
COMPARED = 150.0
"""Operations for every score of a query and a bank row and each set of removed features, beside the product."""
SCORED = 25.0
"""Passes over every score of a row and class in one iteration of a probe: exponentials, sums and gradients."""
ITERATIONS = 80.0
"""Iterations of a probe, the mean over the penalties of a grid, those that are not tried counted as none: 43 and 80 in
two probes on CamVid. A guess: features decide."""
RESAMPLED = 12.0
"""Passes over every element of a confusion matrix that is resampled, for each statistic."""
COUNTED = 12.0
"""Passes over every pixel whose class is counted."""
CALL = 3e4
"""Passes that a few calls of numpy on little data take as long as."""

OF_TASK = 12_000 * CALL
"""Passes that selecting rows and writing and reading a result take as long as: a tenth of a second. 99 small results of
the demo's models took 14 seconds."""
OF_PAGE = 700_000 * CALL
"""Passes that loading libraries and drawing a page of some figures take as long as: about five seconds."""


@dataclass(frozen=True)
class Work:
    """Operations of float32 matrix products, and passes over single values."""

    products: float = 0.0
    passes: float = 0.0

    def __add__(self, other: "Work") -> "Work":
        return Work(self.products + other.products, self.passes + other.passes)

    def __mul__(self, times: float) -> "Work":
        return Work(self.products * times, self.passes * times)


@dataclass(frozen=True)
class Speed:
    """What a machine computes in a second."""

    products: float
    """Operations of float32 matrix products, on all cores."""
    passes: float
    """Values that one core multiplies in float64."""

    def seconds(self, work: Work) -> float:
        """Return how long some work takes."""
        return work.products / self.products + work.passes / self.passes


def measure_speed(seconds: float = 0.1) -> Speed:
    """Return the speed of this machine, now: products and passes are each repeated for so many seconds.

    Every core multiplies matrices of its own, as in a neighbour search.
    """
    n_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    matrix, values = np.ones((512, 512), np.float32), np.ones(2**16)
    passed = np.empty_like(values)

    def multiply(seconds: float) -> float:
        product = np.empty_like(matrix)
        return _times_a_second(lambda: np.matmul(matrix, matrix, out=product), seconds)

    with threadpool_limits(1), ThreadPoolExecutor(n_cores) as workers:
        products = 2.0 * 512**3 * sum(workers.map(multiply, [seconds] * n_cores))
    passes = values.size * _times_a_second(lambda: np.multiply(values, values, out=passed), seconds)
    return Speed(products, passes)


def _times_a_second(call: Callable[[], object], seconds: float) -> float:
    call()  # memory is touched
    started, count = time.perf_counter(), 0
    while (passed := time.perf_counter() - started) < seconds or not count:
        call()
        count += 1
    return count / passed


def reading(model: ModelSets, array: str, n_rows: int) -> Work:
    """Return the work of reading rows of a token array."""
    return Work(passes=READ * n_patches(model, array, n_rows) * model.n_channels(array))


def ranking(model: ModelSets, array: str, n_rows: int) -> Work:
    """Return the work of reading rows and ranking their features by variance."""
    return reading(model, array, n_rows) * ((READ + RANKED) / READ)


def comparing(n_scores: float, n_channels: int, n_levels: int) -> Work:
    """Return the work of a search with so many scores of a query and a bank row, for several sets of features."""
    return Work(n_scores * (2.0 * n_channels + COMPARED * n_levels))


def treating(treatment: Treatment | None, n_bank: float, n_rows: float, n_channels: int) -> Work:
    """Return the work of a treatment in float64, whose products take twice as long; none without one.

    Args:
        treatment: what is done.
        n_bank: tokens that its statistics are taken from.
        n_rows: rows that are treated.
        n_channels: features of a token.
    """
    if treatment is None:
        return Work()
    fitted = Work(passes=RANKED * n_bank * n_channels)
    if treatment.name == "remove-position":
        fitted += Work(40.0 * n_channels**3, 4.0 * (1 + FLIPS) * n_bank * n_channels)
    elif treatment.rank is not None:
        fitted += Work(4.0 * n_bank * n_channels**2 + 40.0 * n_channels**3)
    return fitted + Work(8.0 * n_rows * n_channels * (treatment.rank or 0), 8.0 * n_rows * n_channels)


def resampling(n_units: int, n_elements: int, resamples: int, n_statistics: int) -> Work:
    """Return the work of a bootstrap of statistics of so many elements a unit.

    Args:
        n_units: images or videos.
        n_elements: numbers that are summed over the units of a resample.
        resamples: bootstrap resamples.
        n_statistics: statistics, each with its own resamples.
    """
    once = Work(4.0 * resamples * n_units * n_elements, RESAMPLED * resamples * (n_elements + n_units) + CALL)
    return once * n_statistics


@dataclass(frozen=True)
class ClassifierWork:
    """Work of classifying the patches of one array (`evaluate.scoring.patch_classifiers`)."""

    model: ModelSets
    array: str
    train: RowSelection
    validation: RowSelection

    def reading(self) -> Work:
        """Return the work of `read_patches`: both selections, and the training rows again to rank their features."""
        n_train, n_rows = len(self.train.rows), len(self.train.rows) + len(self.validation.rows)
        return reading(self.model, self.array, n_rows) + ranking(self.model, self.array, n_train)

    def treating(self, treatment: Treatment | None) -> Work:
        """Return the work of fitting a treatment on the training patches and of treating all; none without one."""
        width = self.model.n_channels(self.array)
        return treating(treatment, self._n_bank, self._n_bank + self._n_queries, width)

    def searching(self, n_levels: int) -> Work:
        """Return the work of one search for several sets of removed features, as if all patches were labelled."""
        scores = float(self._n_bank) * self._n_queries
        return comparing(scores, self.model.n_channels(self.array), n_levels)

    def probing(self, n_subsets: int, n_penalties: int, iterations: float = ITERATIONS) -> Work:
        """Return the work of fitting probes for sets of kept features, their penalties chosen, and of predicting."""
        n_fits = n_subsets * (1.0 + (0.8 * n_penalties if n_penalties > 1 else 0.0))
        scores, width = float(self._n_bank) * len(self.model.classes), self.model.n_channels(self.array)
        iteration = Work(4.0 * scores * width, SCORED * scores)
        predicted = Work(2.0 * self._n_queries * len(self.model.classes) * width)
        decomposed = Work(4.0 * self._n_bank * width**2 + 40.0 * n_subsets * width**3)
        return iteration * (iterations * n_fits) + predicted * n_subsets + decomposed

    def scoring(self, resamples: int, n_statistics: int, *, pixels: bool = True) -> Work:
        """Return the work of counting the pixels of patches, and of resampling statistics of confusion matrices."""
        n_classes = len(self.model.classes)
        shape = self.model.labels.arrays[PIXELS].row_shape
        counted = Work(passes=COUNTED * len(self.validation.rows) * float(np.prod(shape)) if pixels else 0.0)
        return counted + resampling(len(self.validation.sources), n_classes**2, resamples, n_statistics)

    @property
    def _n_bank(self) -> int:
        return n_patches(self.model, self.array, len(self.train.rows))

    @property
    def _n_queries(self) -> int:
        return n_patches(self.model, self.array, len(self.validation.rows))


def total(works: Sequence[Work]) -> Work:
    """Return the work of several tasks, of selecting their rows and writing their results, and of the page once."""
    return sum(works, Work(passes=OF_TASK * len(works) + (OF_PAGE if works else 0.0)))
