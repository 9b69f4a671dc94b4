"""Treatments of features beside removing the top m: controls and alternatives (paper A, section 4 and appendix).

If high variance is what harms nearest neighbours, removing random or lowest-variance features must not help, and
scaling features (BatchNorm, whitening) must help about as much. If the model and not the data decides which features
vary, removing those of highest variance on another data set must help about as much too. Every score has a row with its
difference to untreated features on the same images.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal

import numpy as np
from jaxtyping import Int64
from pydantic import Field

from evaluate.inputs.counterparts import Counterpart, counterparts
from evaluate.inputs.memory import reading_bytes
from evaluate.inputs.work import Work, ranking
from evaluate.kernels.confusion import miou_present
from evaluate.kernels.probing.probes import predict_side_by_side
from evaluate.kernels.treatments import Treatment, fit_treatment, kept_features
from evaluate.neighbours.knn import nearest
from evaluate.neighbours.voting import vote
from evaluate.results.metrics import PATCH_MIOU
from evaluate.results.table import Result
from evaluate.scoring.classifier_task import ClassifierTask
from evaluate.scoring.patch_classifiers import FittedProbe, PatchData, read_patches
from evaluate.scoring.patches import Truth
from evaluate.settings import BootstrapSettings, ClassifierSettings, LayerSettings

Rankings = Mapping[str | None, Int64[np.ndarray, " channel"]]
"""Features by decreasing variance: of this experiment under None, of others under the experiment's file."""

Predicted = tuple[Treatment, Int64[np.ndarray, " query"], FittedProbe | None]
"""A treatment, the predicted classes, and the probe that predicted them."""


class FeatureTreatments(ClassifierSettings, LayerSettings, BootstrapSettings):
    """Nearest neighbours and probes on treated features, beside untreated ones (paper A, section 4)."""

    kind: Literal["feature-treatments"]
    treatments: tuple[
        Literal["none", "remove-top", "remove-random", "remove-lowest", "batchnorm", "whiten", "l2"], ...
    ] = ("remove-top", "remove-random", "remove-lowest", "batchnorm", "whiten", "l2")
    """What is done to the features; ``none`` is always there to compare with."""
    experiments: tuple[str, ...] = ()
    """Experiment files with the same models on other data, relative to this file: of each, ``remove-other`` leaves out
    the features that vary most over its training patches; models are matched by title."""
    m: tuple[Annotated[int, Field(ge=1)], ...] = (200,)
    """Numbers of features to remove; those that leave no feature are left out."""
    draws: int = Field(default=3, ge=1, le=100)
    """Random choices of features to remove, each reported."""
    k: int = Field(default=1, ge=1)
    """Neighbours that vote."""

    def other_experiments(self) -> tuple[str, ...]:
        """Return the experiments whose rankings ``remove-other`` uses."""
        return self.experiments

    def expand(self, n_features: int, experiments: Sequence[str] = ()) -> list[Treatment]:
        """Return the treatments of this number of features, none first and rankings of other experiments last."""
        counts = [m for m in self.m if m < n_features]
        treatments = [Treatment("none")]
        for name in dict.fromkeys(self.treatments):
            if name in ("remove-top", "remove-random", "remove-lowest"):
                draws = range(self.draws) if name == "remove-random" else (None,)
                treatments += [Treatment(name, m, draw) for m in counts for draw in draws]
            elif name != "none":
                treatments.append(Treatment(name))
        return treatments + [Treatment("remove-other", m, experiment=other) for other in experiments for m in counts]


@dataclass(frozen=True, eq=False)
class FeatureTreatmentsTask(ClassifierTask[FeatureTreatments]):
    """mIoU of one classifier under every treatment, and its difference to untreated features."""

    analysis = "feature-treatments"
    revision = 6
    what = "{task.classifier_title} on treated {task.array}"
    key_settings = ("treatments", "m", "draws", "resamples")

    @cached_property
    def others(self) -> list[Counterpart]:
        """The same layer of the same model in the experiments that the settings name."""
        return counterparts(self.model, self.array, self.settings, self.context)

    @cached_property
    def treatments(self) -> list[Treatment]:
        """The treatments, the untreated features first and rankings of other experiments last."""
        return self.settings.expand(self.n_channels, [other.experiment for other in self.others])

    def parameters(self) -> dict[str, Any]:
        """Return the parameters that this classifier uses, and the training images of other experiments."""
        parameters = super().parameters()
        parameters |= {"k": self.settings.k} if self.classifier == "knn" else self.probe_parameters
        if self.others:
            parameters["others_train"] = [[other.experiment, list(other.train.sources)] for other in self.others]
        return parameters

    def inputs(self) -> dict[str, str]:
        """Return the digests of the array and labels, and of what is read of other experiments."""
        inputs = super().inputs()
        for other in self.others:
            inputs |= other.inputs()
        return inputs

    @property
    def columns(self) -> dict[str, Any]:
        """The shared columns, and how neighbours vote."""
        neighbours = {"k": self.settings.k, "distance": "euclidean"} if self.classifier == "knn" else {}
        return {**super().columns, **neighbours}

    def compute(self) -> Result:
        """Return the mIoU of every treatment and its paired difference to untreated features."""
        patches = read_patches(self.model, self.array, self.train, self.validation)
        truth = Truth(self.model, self.array, self.validation)
        bootstrap = self.bootstrap(self.validation.sources)
        rankings: Rankings = {None: patches.ranking, **{other.experiment: other.ranking() for other in self.others}}
        predict = self._by_neighbours if self.classifier == "knn" else self._by_probes
        rows: list[dict[str, Any]] = []
        untreated: np.ndarray | None = None
        for treatment, predicted, probe in predict(patches, rankings):
            matrices = truth.patch_confusion(predicted)
            untreated = matrices if untreated is None else untreated
            columns: dict[str, Any] = {"m": treatment.m, "outcome": treatment.outcome}
            if treatment.draw is not None:
                columns |= {"x_name": "draw", "x_value": float(treatment.draw)}
            rows.append(bootstrap.confusion_row(PATCH_MIOU, matrices, miou_present, **columns))
            if treatment.name != "none":
                rows.append(bootstrap.difference_row(PATCH_MIOU, matrices, untreated, miou_present,
                                                     reference="none", **columns))  # fmt: skip
            if probe is not None:
                rows += [bootstrap.row(metric, value, None, **columns) for metric, value in probe.details.items()]
        return Result(rows)

    def _by_neighbours(self, patches: PatchData, rankings: Rankings) -> Iterator[Predicted]:
        labels = patches.bank_labels.astype(np.int64)
        for treatment in self.treatments:
            treat = fit_treatment(treatment, patches.bank, rankings[treatment.experiment], self.context.seed)
            neighbours = nearest(
                treat(patches.bank),
                treat(patches.queries),
                self.settings.k,
                memory_bytes=self.search_bytes,
                device=self.context.device.name,
            )
            yield treatment, vote(neighbours, labels, len(self.model.classes), self.settings.k), None

    def _by_probes(self, patches: PatchData, rankings: Rankings) -> Iterator[Predicted]:
        """Fit all feature subsets side by side; treatments that change values need features of their own."""
        subsets = [treatment for treatment in self.treatments if treatment.is_feature_subset]
        masks = [kept_features(one, rankings[one.experiment], self.context.seed) for one in subsets]
        fitted = self.probe_options.fit_probes(patches, masks)
        predicted = predict_side_by_side([one.probe for one in fitted], patches.queries)
        yield from zip(subsets, predicted, fitted, strict=True)
        for treatment in self.treatments:
            if treatment in subsets:
                continue
            bank, queries, standardise = patches.bank, patches.queries, treatment.name == "batchnorm"
            if not standardise:
                treat = fit_treatment(treatment, patches.bank, rankings[treatment.experiment], self.context.seed)
                bank, queries = treat(patches.bank), treat(patches.queries)
            [one] = self.probe_options.fit_probes(patches, [None], bank, standardise=standardise)
            yield treatment, predict_side_by_side([one.probe], queries)[0], one

    def work(self) -> Work:
        """Estimate the operations: a search or fit a treatment, and three resampled scores of each."""
        n_treatments = len(self.treatments)
        others = [ranking(other.model, other.array, len(other.train.rows)) for other in self.others]
        scored = self.operations.scoring(self.settings.resamples, 3 * n_treatments)
        return self.classifier_work(n_treatments, n_treatments) + sum(others, scored)

    def peak_bytes(self) -> int:
        """Estimate peak memory: all patches of both selections and a treated float32 copy.

        The patches of other experiments stream; their rankings are kept.
        """
        streamed = max((reading_bytes(other.model, other.array) for other in self.others), default=0)
        n_subsets = sum(treatment.is_feature_subset for treatment in self.treatments)
        predicting = self.classifier_bytes(1 if self.classifier == "knn" else n_subsets)
        return streamed + self.memory.scoring(self.settings.resamples, 0) + self.memory.treating() + predicting
