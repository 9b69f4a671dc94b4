"""Classes of whole images by nearest neighbours at several sizes: paper A, section 3.5 (experiment A-18).

The protocol of bair-climate-initiative/scale-mae, mae/eval/knn.py: features of training and validation images at the
same size, directions only (cosine), k = 20 neighbours that vote with exp(similarity / 0.07). Computed for the class
token and for the mean of the patch tokens, each as it is and without the m features whose variance over the training
images' *patch tokens* is highest, at every size by a ranking of its own. Where no patch tokens are stored, their means
serve, and deviations rank the features. The x axis is the relative ground distance: the size the model saw over the
native size.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal

import numpy as np
from jaxtyping import Bool, Int64
from pydantic import Field

from evaluate.inputs.limits import check_k
from evaluate.inputs.memory import n_patches, neighbours_bytes, reading_bytes
from evaluate.inputs.model_sets import ModelSets
from evaluate.inputs.work import CALL, Work, comparing, ranking, reading, treating
from evaluate.kernels.moments import Moments, variance_ranking
from evaluate.neighbours.knn import Neighbours, nearest
from evaluate.neighbours.query_sections import Last, QueryPass
from evaluate.neighbours.voting import vote
from evaluate.results.metrics import IMAGE_ACCURACY, MAJORITY_ACCURACY
from evaluate.results.sections import LongPass
from evaluate.results.table import Result
from evaluate.scoring.images.pooled_task import PooledTask
from evaluate.scoring.images.vectors import (
    Pooled,
    image_classes,
    image_vectors,
    ranking_addresses,
    stored_address,
    vector_addresses,
)
from evaluate.scoring.tokens.streamed import fit_on_tokens, fitting_bytes
from evaluate.scoring.variance_bootstrap import MomentsPass, moments_by_row
from evaluate.settings import BootstrapSettings, SingleLayerSettings, VectorRemovalSettings
from stores.errors import UserError
from stores.format.paths import MEANS, OF_LAYERS
from stores.specs import Size


class ImageKnn(SingleLayerSettings, VectorRemovalSettings, BootstrapSettings):
    """Accuracy of k nearest neighbours on whole images, at every size of the experiment (paper A, Fig. 8)."""

    kind: Literal["image-knn"]
    pooled: Annotated[tuple[Literal["class-token", "mean-patch"], ...], Field(min_length=1)] = (
        "class-token",
        "mean-patch",
    )
    """What stands for an image: the first prefix token, or the mean of the patch tokens."""
    remove: tuple[Annotated[int, Field(ge=0)], ...] = (0, 200)
    """Numbers m of features to leave out, those of highest variance over the training images' patch tokens."""
    k: Annotated[int, Field(ge=1)] = 20
    """Neighbours that vote."""
    temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.07
    """Votes are exp(cosine similarity / temperature)."""


def sizes(model: ModelSets) -> list[tuple[float | None, ModelSets]]:
    """Return the sets of each size: the clean input's first, then those of the views ``size``."""
    levels = sorted(level for name, level in model.views if name == "size")
    return [(None, model), *((level, model.for_view("size", level)) for level in levels)]


@dataclass(frozen=True, eq=False)
class ImageKnnTask(PooledTask[ImageKnn]):
    """Accuracy of every pooled token, m and size, and of the most common class."""

    analysis = "image-knn"
    revision = 4
    groups = OF_LAYERS
    by_removal = True
    compared = (IMAGE_ACCURACY,)
    what = "image k-NN on {task.array}"
    key_settings = ("pooled", "k", "temperature", "resamples")
    key_counts = ("remove",)

    def check(self) -> None:
        """Raise UserError for images without a class, too few of them, and features or rankings that are not there."""
        n_train = len(image_classes(self.model, self.train, self.analysis))
        image_classes(self.model, self.validation, self.analysis)
        check_k(self.settings.k, n_train, "images")
        for level, sized in sizes(self.model):
            for pooled in self.settings.pooled:
                vector_addresses(sized, self.array, pooled)
            at = "" if level is None else f" at size {level:g}"
            if self.treatment is not None and not self._can_fit(ranking_addresses(sized, self.array)):
                raise UserError(
                    f"image-knn fits {self.treatment.label} on patch tokens, and {sized.title}{at} keeps none of "
                    f"{self.array.partition('/')[2]}: leave it out of treatments, or name the layer in `tokens` of "
                    f"[features], and run `{sized.extract_command}`"
                )
            if any(self.removed) and not ranking_addresses(sized, self.array):
                raise UserError(
                    f"image-knn ranks the features that it removes by the variance of patch tokens, and "
                    f"{sized.title}{at} keeps none of {self.array.partition('/')[2]}: set remove = [0], or name the "
                    "layer in `tokens` of [features] or set means = true and deviations = true there, and run "
                    f"`{sized.extract_command}`"
                )

    def inputs(self) -> dict[str, str]:
        """Return the digests of patch tokens, or their means, and of prefix tokens at every size."""
        inputs = super().inputs()
        for level, sized in sizes(self.model):
            at = "clean" if level is None else f"size {level:g}"
            used = [stored_address(sized, self.array, *groups) for groups in (("tokens", MEANS), ("prefix",))]
            used += ranking_addresses(sized, self.array) if any(self.removed) or self.treatment is not None else ()
            inputs |= {f"{at} {address}": sized.features.content[address] for address in used if address is not None}
        return inputs

    def compute(self) -> Result:
        """Return one row a size, pooled token and m."""
        train, validation, settings = self.train, self.validation, self.settings
        classes, truth = (image_classes(self.model, rows, self.analysis) for rows in (train, validation))
        bootstrap = self.bootstrap(validation.sources)
        frame = self.model.spec.frame
        native = (frame.resize if isinstance(frame.resize, Size) else frame.input).height

        def accuracy_row(metric: str, right: Bool[np.ndarray, " image"], **columns: Any) -> dict[str, Any]:
            draws = bootstrap.ratio(right.astype(np.float64), np.ones(len(right)))
            return bootstrap.row(metric, float(right.mean()), draws, **columns)

        rows = [accuracy_row(MAJORITY_ACCURACY, truth == np.bincount(classes).argmax(), reference="majority")]
        for level, sized in sizes(self.model):
            seen = sized.spec.frame.input.height if level is None else level
            read = _Vectors(self, sized)
            for pooled in settings.pooled:
                found = self._search(read, level, pooled, self.searched())
                for m, neighbours in found.neighbours(len(validation.sources), self.kept_sections()).items():
                    predicted = vote(neighbours, classes, len(self.model.classes), settings.k, weights="softmax",
                                     temperature=settings.temperature)  # fmt: skip
                    columns = {
                        "view": "clean" if level is None else "size",
                        "level": level,
                        "token": pooled,
                        "classifier": "knn",
                        "distance": "cosine",
                        "m": m,
                        "k": settings.k,
                        "x_name": "relative_gsd",
                        "x_value": float(seen / native),
                    }
                    rows.append(accuracy_row(IMAGE_ACCURACY, predicted == truth, **columns))
        return Result(rows)

    def _can_fit(self, addresses: Sequence[str]) -> bool:
        """Return whether stored arrays suffice for the treatment: a mean is that of means, the rest needs tokens."""
        is_mean = self.treatment is not None and self.treatment.name == "centre"
        return bool(addresses) and (is_mean or addresses[0].startswith("tokens/"))

    def _search(self, read: "_Vectors", level: float | None, pooled: Pooled, results: Mapping[int, str]) -> QueryPass:
        """Return the search of the validation images at one size.

        Args:
            read: vectors at that size.
            level: the size; None for that of the clean inputs.
            pooled: what stands for an image.
            results: digests of the results that neighbours are for, by m.
        """

        def search(removed: Sequence[int], start: int, stop: int) -> dict[int, Neighbours]:
            ranking, (bank, queries), found = read.ranking, read.of(pooled), {}
            for m in removed:
                kept = np.sort(ranking[m:])
                parts = np.take(bank, kept, axis=1), np.take(queries[start:stop], kept, axis=1)
                found[m] = nearest(*parts, self.settings.k, metric="cosine", memory_bytes=self.search_bytes,
                                   device=self.context.device.name)  # fmt: skip
            return found

        n_bank, n_queries = len(self.train.sources), len(self.validation.sources)
        what = f"the {pooled} of {self.array}" + ("" if level is None else f" at size {level:g}")
        which = (pooled, "clean" if level is None else level)
        needs = tuple(read.ranked_by(results))
        return QueryPass(what, which, results, self.settings.k, "cosine", n_bank, n_queries, 1, search, needs)

    def passes(self) -> list[LongPass]:
        """Return the searches of every size and kind of vector, and the moments that rank features for them."""
        if self.kept_sections() is None:
            return []
        found: list[LongPass] = []
        for level, sized in sizes(self.model):
            read, results = _Vectors(self, sized), self.searched(is_missing_alone=True)
            searches = [self._search(read, level, pooled, results) for pooled in self.settings.pooled]
            found += [*read.ranked_by(results), *(one for search in searches for one in search.several)]
        return found

    def work(self) -> Work:
        """Estimate the operations: every patch of every size is read and averaged, those that train twice."""
        n_train, n_rows = len(self.train.rows), len(self.train.rows) + len(self.validation.rows)
        one = ranking(self.model, self.array, n_train) + reading(self.model, self.array, 2 * n_rows)
        if self.treatment is not None:
            tokens = float(n_patches(self.model, self.array, n_train))
            one += reading(self.model, self.array, n_train) + treating(self.treatment, tokens, n_rows, self.n_channels)
        n_images = len(self.train.sources) * float(len(self.validation.sources))
        searched = comparing(n_images, self.n_channels, 1) + Work(passes=10 * CALL)
        return (one + searched * (len(self.settings.pooled) * len(self.removed))) * len(sizes(self.model))

    def peak_bytes(self) -> int:
        """Estimate peak memory: patches stream, and every image is one vector.

        Vectors are summed in float64, divided, kept in float32, and copied without their top features; those of one
        size are there while the next are made.
        """
        n_train, n_queries = len(self.train.sources), len(self.validation.sources)
        numbers = 8 * 4 * (n_train + n_queries) + 8 * 2 * self.settings.resamples * n_queries
        # In float64 treated vectors are there centred, along directions, and in the end.
        summed, copied, treated = 20 * n_train, 4 * n_train + 20 * n_queries, 28 * max(n_train, n_queries)
        most = max(summed, copied, 8 * (n_train + n_queries), 0 if self.treatment is None else treated)
        per_channel = 4 * (n_train + n_queries) + most
        reading = max(
            sum(reading_bytes(sized, one) for one in ranking_addresses(sized, self.array))
            or reading_bytes(sized, stored_address(sized, self.array, *OF_LAYERS) or self.array)
            for _, sized in sizes(self.model)
        )
        bank = n_train, self.n_channels
        n_m, device = len(set(self.settings.remove)), self.context.device.name
        searching = neighbours_bytes(n_queries, self.settings.k, n_m, 1, bank, device)
        searching += max(
            sum(one.n_bytes for one in _Vectors(self, sized).ranked_by([1])) for _, sized in sizes(self.model)
        )
        return max(self._fitting_bytes(), reading) + self.n_channels * per_channel + numbers + searching

    def _fitting_bytes(self) -> int:
        """Return what fitting the treatment holds, at any size; nothing without one."""
        if self.treatment is None:
            return 0
        addresses = [(sized, ranking_addresses(sized, self.array)[0]) for _, sized in sizes(self.model)]
        return max(fitting_bytes(sized, address, self.treatment) for sized, address in addresses)


class _Vectors:
    """Vectors of a task's images at one size and the ranking of their features, read when they are first used.

    Args:
        task: Vectors are treated where it has a treatment.
        sized: The sets of the size.
    """

    def __init__(self, task: ImageKnnTask, sized: ModelSets) -> None:
        self.task, self.sized = task, sized
        self._last = Last[tuple[np.ndarray, np.ndarray]]()

    @property
    def moments(self) -> MomentsPass | None:
        """What ranks features; None where none is left out."""
        if not any(self.task.removed):
            return None
        return MomentsPass(self.sized, ranking_addresses(self.sized, self.task.array)[0], self.task.train)

    def ranked_by(self, removed: Iterable[int]) -> list[MomentsPass]:
        """Return the pass that ranks features for some m, if it has several sections."""
        return self.moments.several if self.moments is not None and any(removed) else []

    @cached_property
    def ranking(self) -> Int64[np.ndarray, " feature"]:
        """Features by decreasing variance over the training images' patches."""
        task = self.task
        if self.moments is not None:
            return variance_ranking(Moments.merged(self.moments.by_row(task.context.results)).variance)
        return np.arange(task.n_channels if task.treatment is None else task.treatment.n_features(task.n_channels))

    def of(self, pooled: Pooled) -> tuple[np.ndarray, np.ndarray]:
        """Return the vectors of training and validation images; those of one kind are there at a time."""
        task = self.task
        selections = (task.train, task.validation)
        vectors = (self._treat(image_vectors(self.sized, task.array, some, pooled)) for some in selections)
        return self._last.of(pooled, lambda: (next(vectors), next(vectors)))

    @cached_property
    def _treat(self) -> Callable[[np.ndarray], np.ndarray]:
        """What is done to vectors of images: a treatment fitted on the training images' patches at this size."""
        task = self.task
        if task.treatment is None:
            return lambda vectors: vectors
        address = ranking_addresses(self.sized, task.array)[0]
        mean = Moments.merged(moments_by_row(self.sized, address, task.train)).mean
        fitted = fit_on_tokens(self.sized, address, task.train, mean, task.treatment, task.context.seed)
        return lambda vectors: fitted.apply(vectors).astype(np.float32)
