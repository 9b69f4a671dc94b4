"""Classifiers trained on clean patches, tested on corrupted ones: paper A, section 3.2 (experiment A-10).

For every view of the experiment that leaves the labels where they are, the classifier fitted on the clean training
patches predicts the validation patches under the view. The entropy of the predicted classes shows a collapse: masked
models' nearest neighbours fall on one class under the slightest corruption.

With ``classes = "images"`` whole images are classified instead (`evaluate.scoring.images.robustness`).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, partial
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, model_validator

from evaluate.inputs.memory import n_patches, rows_bytes
from evaluate.inputs.model_sets import ModelSets
from evaluate.inputs.patches import tokens
from evaluate.inputs.views import selected_views, view_inputs
from evaluate.inputs.work import Work, reading, treating
from evaluate.kernels.moments import without_top
from evaluate.kernels.probing.probes import Probe, predict_side_by_side
from evaluate.kernels.segmentation.confusion import (
    largest_predicted_share,
    miou_present,
    pixel_accuracy,
    predicted_entropy,
)
from evaluate.neighbours.knn import Neighbours
from evaluate.neighbours.query_sections import Last, QueryPass
from evaluate.results import metrics
from evaluate.results.rows import Bootstrap, score_row
from evaluate.results.sections import LongPass
from evaluate.results.table import Result
from evaluate.scoring.classifier_task import ClassifierTask
from evaluate.scoring.images.robustness import CLEAN, NO_VIEWS, ImageRobustnessTask, View
from evaluate.scoring.images.vectors import Pooled
from evaluate.scoring.patch_classifiers import KnnOptions, PatchData
from evaluate.scoring.patches import Truth
from evaluate.settings import (
    BootstrapSettings,
    ClassifierSettings,
    Context,
    LayerSettings,
    PatchRemovalSettings,
)
from evaluate.task import ModelTask
from stores.errors import UserError


class Robustness(ClassifierSettings, LayerSettings, PatchRemovalSettings, BootstrapSettings):
    """mIoU of patches under corruptions, classifiers fitted on clean images (paper A, Fig. 4)."""

    kind: Literal["robustness"]
    views: tuple[str, ...] | None = None
    """Names of the views to test under; None takes all of the experiment that move no label, or all for images."""
    classes: Literal["patches", "images"] = "patches"
    """What is classified: patches, or whole images by neighbours that vote and a converged probe."""
    pooled: Annotated[tuple[Pooled, ...], Field(min_length=1)] = ("class-token", "mean-patch")
    """What stands for an image: the first prefix token, the mean of the patch tokens, or both one after the other."""
    image_k: int = Field(default=20, ge=1)
    """Neighbours that vote about an image; patches have one."""

    @model_validator(mode="after")
    def _fits_images(self) -> "Robustness":
        if self.classes == "images" and (self.probe != "converged" or set(self.remove) != {0} or self.treatments):
            raise ValueError('classes = "images" has no `remove`, `treatments` or probe = "adamw": leave them out')
        return self


@dataclass(frozen=True, eq=False)
class RobustnessTask(ClassifierTask[Robustness]):
    """Scores of one classifier under every view and level, the clean one among them, for every m."""

    analysis = "robustness"
    revision = 6
    by_removal = True
    compared = (metrics.PATCH_MIOU,)
    what = "robustness of {task.classifier_title} on {task.array}"
    key_settings = ("resamples",)
    key_counts = ("remove",)

    @classmethod
    def tasks(
        cls, models: Sequence[ModelSets], settings: Robustness, context: Context
    ) -> Iterator[ModelTask[Robustness]]:
        """Yield one task a model, layer and classifier; of whole images one a kind of token too."""
        if settings.classes == "patches":
            yield from super().tasks(models, settings, context)
            return
        for model in models:
            yield from ImageRobustnessTask.of_model(model, settings, context)

    @cached_property
    def views(self) -> list[View]:
        """The views to test under, by name and level; raises UserError when there is none."""
        moved = {name for (name, _), view in self.model.views.items() if view.moves_labels}
        for name in self.settings.views or ():
            if name in moved:
                raise UserError(f"robustness cannot score the view {name}, which moves the labels: use `retrieval`")
        views = selected_views(self.model, self.settings.views, self.analysis)
        views = [view for view in views if view[0] not in moved]
        if not views:
            raise UserError(NO_VIEWS)
        return views

    def parameters(self) -> dict[str, Any]:
        """Return the parameters that the class lists, the views, and the parameters of probes."""
        return {**super().parameters(), "views": [list(view) for view in self.views], **self.probe_parameters}

    def inputs(self) -> dict[str, str]:
        """Return the digests of the array under every view; raises MissingError where one lacks it."""
        return super().inputs() | view_inputs(self.model, self.array, self.views, self.settings.norm)

    @property
    def columns(self) -> dict[str, Any]:
        """The shared columns, and how neighbours vote."""
        neighbours = {"k": 1, "distance": "euclidean"} if self.classifier == "knn" else {}
        return {**super().columns, **neighbours, "seed": self.context.seed}

    def compute(self) -> Result:
        """Return scores, collapse measures, and differences and ratios to the clean score."""
        patches = self.patches()
        truth = Truth(self.model, self.array, self.validation)
        bootstrap = self.bootstrap(self.validation.sources)
        predicted = self._predictions(patches)
        rows: list[dict[str, Any]] = []
        for m in self.removed:
            clean = truth.patch_confusion(predicted[m, CLEAN])
            for view in (CLEAN, *self.views):
                columns = {"view": view[0], "level": None if view == CLEAN else view[1], "m": m}
                matrices = truth.patch_confusion(predicted[m, view])
                rows += _rows(matrices, None if view == CLEAN else clean, bootstrap, columns)
        return Result(rows)

    def _predictions(self, patches: PatchData) -> dict[tuple[int, View], np.ndarray]:
        """Return the predicted classes by m and view; one view's patches are in memory beside the clean ones."""
        probes: Sequence[Probe] = ()
        if self.classifier == "probe":
            kept = [without_top(patches.ranking, m) for m in self.removed]
            probes = [one.probe for one in self.probe_options.fit_probes(patches, kept)]
        predicted: dict[tuple[int, View], np.ndarray] = {}
        if self.classifier == "knn":
            searches = self._searches(lambda: patches, self.searched())
            for view in (CLEAN, *self.views):
                if view == CLEAN:
                    found = self._knn.neighbours(patches, self.removed)
                else:
                    found = searches[view].neighbours(patches.n_queries, self.kept_sections())
                votes = self._knn.votes(patches, found)
                predicted |= {(m, view): classes for (m, _), (classes, _) in votes.items()}
            return predicted
        for view in (CLEAN, *self.views):
            by_probe = predict_side_by_side(probes, patches.queries if view == CLEAN else self._under(view, patches))
            predicted |= {(m, view): by_probe[index] for index, m in enumerate(self.removed)}
        return predicted

    @property
    def _knn(self) -> KnnOptions:
        return KnnOptions(self.search_bytes, self.context.results, device=self.context.device.name)

    def _under(self, view: View, patches: PatchData) -> np.ndarray:
        """Return the validation patches under a view, treated as the others are."""
        return patches.treat(tokens(self.model.for_view(*view), self.array, self.validation))

    def _searches(self, patches: Callable[[], PatchData], results: Mapping[int, str]) -> dict[View, QueryPass]:
        """Return the search of the validation patches under every view but the clean one.

        Args:
            patches: reads the clean patches.
            results: digests of the results that neighbours are for, by m.
        """
        n_bank, of_row = (n_patches(self.model, self.array, n_rows) for n_rows in (len(self.train.rows), 1))
        n_rows, last = len(self.validation.rows), Last[np.ndarray]()

        def search(view: View, removed: Sequence[int], start: int, stop: int) -> dict[int, Neighbours]:
            queries = last.of(view, lambda: self._under(view, patches()))
            return self._knn.searched(patches(), removed, queries[start * of_row : stop * of_row])

        return {
            view: QueryPass(
                f"{self.array} under {view[0]} {view[1]:g}", view, results, 1, "euclidean", n_bank, n_rows, of_row,
                partial(search, view),
            )
            for view in self.views
        }  # fmt: skip

    def passes(self) -> list[LongPass]:
        """Return the clean search, and those under the other views of patches as they are."""
        if self.classifier != "knn" or self.kept_sections() is None:
            return super().passes()
        searches = self._searches(cache(self.patches), self.searched(is_missing_alone=True))
        return super().passes() + [one for search in searches.values() for one in search.several]

    def work(self) -> Work:
        """Estimate the operations: a search or fits, a search of every view, and six resampled scores of each."""
        n_m, n_views = len(self.removed), len(self.views)
        viewed = reading(self.model, self.array, len(self.validation.rows))
        viewed += treating(
            self.treatment, 0, n_patches(self.model, self.array, len(self.validation.rows)), self.n_channels
        )
        if self.classifier == "knn":
            viewed += self.operations.searching(n_m)
        scored = self.operations.scoring(self.settings.resamples, 6 * n_m * (1 + n_views))
        return self.classifier_work(n_m) + viewed * n_views + scored

    def peak_bytes(self) -> int:
        """Estimate peak memory: patches of both selections, and those of one view after the other."""
        n_m, n_views, n_rows = len(set(self.settings.remove)), 1 + len(self.views), len(self.validation.rows)
        return (
            self.memory.scoring(self.settings.resamples, 2)
            + rows_bytes(self.model, self.array, n_rows)
            + 8 * n_m * n_views * n_patches(self.model, self.array, n_rows)
            + self.classifier_bytes(n_m)
        )


_STATISTICS = {
    metrics.PATCH_MIOU: miou_present,
    metrics.PATCH_ACCURACY: pixel_accuracy,
    metrics.PREDICTED_ENTROPY: predicted_entropy,
    metrics.LARGEST_PREDICTED_SHARE: largest_predicted_share,
}


def _rows(
    matrices: np.ndarray, clean: np.ndarray | None, bootstrap: Bootstrap, columns: dict[str, Any]
) -> list[dict[str, Any]]:
    rows = [bootstrap.confusion_row(name, matrices, statistic, **columns) for name, statistic in _STATISTICS.items()]
    if clean is not None:
        columns = {**columns, "reference": "clean"}
        difference = bootstrap.difference_row(metrics.PATCH_MIOU, matrices, clean, miou_present, **columns)
        miou, base = (float(miou_present(some.sum(axis=0))) for some in (matrices, clean))
        ratio = score_row(metrics.PATCH_MIOU_RATIO, miou / base if base > 0 else None, **columns)
        rows[2:2] = [difference, ratio]  # after mIoU and accuracy
    return rows
