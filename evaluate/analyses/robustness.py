"""Classifiers trained on clean patches, tested on corrupted ones: paper A, section 3.2 (experiment A-10).

For every view of the experiment that leaves the labels where they are, the classifier fitted on the clean training
patches predicts the validation patches under the view. The entropy of the predicted classes shows a collapse: masked
models' nearest neighbours fall on one class under the slightest corruption.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np

from evaluate.inputs.memory import (
    n_patches,
    probed_bytes,
    rows_bytes,
    scoring_bytes,
    searched_bytes,
)
from evaluate.inputs.patches import tokens
from evaluate.kernels.confusion import (
    largest_predicted_share,
    miou_present,
    pixel_accuracy,
    predicted_entropy,
)
from evaluate.kernels.penalties import PENALTIES
from evaluate.kernels.probes import Probe, predict_side_by_side
from evaluate.results.draws import result_of
from evaluate.results.metrics import PATCH_MIOU
from evaluate.results.rows import Bootstrap, score_row
from evaluate.results.table import Result
from evaluate.scoring.patch_classifiers import PatchData, fit_probe, predict_knn, read_patches
from evaluate.scoring.patches import Truth
from evaluate.settings import BootstrapSettings, ClassifierSettings, LayerSettings, RemovalSettings
from evaluate.task import ClassifierTask
from stores.errors import UserError

View = tuple[str, float]
"""Name and level."""
CLEAN: View = ("clean", 0.0)


class Robustness(ClassifierSettings, LayerSettings, RemovalSettings, BootstrapSettings):
    """mIoU of patches under corruptions, classifiers fitted on clean images (paper A, Fig. 4)."""

    kind: Literal["robustness"]
    views: tuple[str, ...] | None = None
    """Names of the views to test under; None takes all of the experiment that move no label."""


@dataclass(frozen=True, eq=False)
class RobustnessTask(ClassifierTask[Robustness]):
    """Scores of one classifier under every view and level, the clean one among them, for every m."""

    analysis: ClassVar[str] = "robustness"
    revision: ClassVar[int] = 4

    @property
    def description(self) -> str:
        """The classifier and the array."""
        return f"robustness of {self.classifier_title} on {self.array}"

    @cached_property
    def views(self) -> list[View]:
        """The views to test under, by name and level; raises UserError when there is none."""
        views, names = self.model.views, self.settings.views
        moved = sorted({name for (name, _), view in views.items() if view.moves_labels})
        for name in names or ():
            if name in moved:
                raise UserError(f"robustness cannot score the view {name}, which moves the labels: use `retrieval`")
            if name not in {known for known, _ in views}:
                raise UserError(f"robustness has the view {name}, which [[views]] does not list: add it there")
        selected = [key for key in views if key[0] not in moved and (names is None or key[0] in names)]
        if not selected:
            raise UserError("robustness needs [[views]] such as blur or noise in the experiment file: add one")
        return selected

    def parameters(self) -> dict[str, Any]:
        """Return views and classifier, the counts of removed features and the images."""
        return {
            "classifier": self.classifier,
            "views": [[name, level] for name, level in self.views],
            "remove": sorted(set(self.settings.remove)),
            "resamples": self.settings.resamples,
            "seed": self.context.seed,
            "train": list(self.train.sources),
            "validation": list(self.validation.sources),
            "batchnorm": self.model.probe_batchnorm,
            "penalties": list(self.settings.penalties or PENALTIES),
        }

    def inputs(self) -> dict[str, str]:
        """Return the digests of the array under every view; raises MissingError where one lacks it."""
        inputs = super().inputs()
        for name, level in self.views:
            viewed = self.model.for_view(name, level)
            viewed.arrays((viewed.layer(self.array),), self.settings.norm)
            inputs[f"{name} {level:g} {self.array}"] = viewed.features.content[self.array]
        return inputs

    @property
    def columns(self) -> dict[str, Any]:
        """The shared columns, and how neighbours vote."""
        neighbours = {"k": 1, "distance": "euclidean"} if self.classifier == "knn" else {}
        return {**super().columns, **neighbours, "seed": self.context.seed}

    def compute(self) -> Result:
        """Return scores, collapse measures, and differences and ratios to the clean score."""
        patches = read_patches(self.model, self.array, self.train, self.validation)
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
        return result_of(rows, (PATCH_MIOU,))

    def _predictions(self, patches: PatchData) -> dict[tuple[int, View], np.ndarray]:
        """Return the predicted classes by m and view; one view's patches are in memory beside the clean ones."""
        probes: Sequence[Probe] = ()
        if self.classifier == "probe":
            probes = fit_probe(patches, self.removed, self.context.seed, self.settings.penalties).probes
        predicted: dict[tuple[int, View], np.ndarray] = {}
        for view in (CLEAN, *self.views):
            queries = patches.queries
            if view != CLEAN:
                queries = tokens(self.model.for_view(*view), self.array, self.validation)
            if self.classifier == "knn":
                viewed = replace(patches, queries=queries)
                by_m = predict_knn(viewed, self.removed, memory_bytes=self.search_bytes)
                predicted |= {(m, view): classes for (m, _), (classes, _) in by_m.items()}
            else:
                by_probe = predict_side_by_side(probes, queries)
                predicted |= {(m, view): by_probe[index] for index, m in enumerate(self.removed)}
        return predicted

    def peak_bytes(self) -> int:
        """Estimate peak memory: patches of both selections, and those of one view after the other."""
        rows, n_rows = (self.train, self.validation), len(self.validation.rows)
        n_m, n_views = len(set(self.settings.remove)), 1 + len(self.views)
        held = (
            scoring_bytes(self.model, self.array, self.validation, self.settings.resamples, 2)
            + rows_bytes(self.model, self.array, n_rows)
            + 8 * n_m * n_views * n_patches(self.model, self.array, n_rows)
        )
        if self.classifier == "knn":
            return held + searched_bytes(self.model, self.array, *rows, n_m, (1,), "exact")
        n_penalties = len(self.settings.penalties or PENALTIES)
        return held + probed_bytes(self.model, self.array, *rows, n_m, n_penalties)


def _rows(
    matrices: np.ndarray, clean: np.ndarray | None, bootstrap: Bootstrap, columns: dict[str, Any]
) -> list[dict[str, Any]]:
    rows = [
        bootstrap.confusion_row(metric, matrices, statistic, **columns)
        for metric, statistic in ((PATCH_MIOU, miou_present), ("patch_accuracy", pixel_accuracy))
    ]
    if clean is not None:
        rows.append(bootstrap.difference_row(PATCH_MIOU, matrices, clean, miou_present, reference="clean", **columns))
        miou, base = (float(miou_present(some.sum(axis=0))) for some in (matrices, clean))
        ratio = miou / base if base > 0 else None
        rows.append(score_row("patch_miou_ratio", ratio, reference="clean", **columns))
    rows += [
        bootstrap.confusion_row(metric, matrices, statistic, **columns)
        for metric, statistic in (
            ("predicted_entropy", predicted_entropy),
            ("largest_predicted_share", largest_predicted_share),
        )
    ]
    return rows
