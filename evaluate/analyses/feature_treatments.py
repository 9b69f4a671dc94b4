"""Treatments of features beside removing the top m: controls and alternatives (paper A, section 4 and appendix).

If high variance is what harms nearest neighbours, removing random or lowest-variance features must not help, and
scaling features (BatchNorm, whitening) must help about as much. If the model and not the data decides which features
vary, removing those of highest variance on another data set must help about as much too. Every score has a row with its
difference to untreated features on the same images.

Variance may be a symptom: ``remove-position``, ``remove-first-components``, ``pca-k``, ``drop-outlier-tokens`` and
``centre`` (`evaluate.kernels.treatments`) ask whether it is position, the first principal directions or outlier tokens.
``references = ["none", "remove-top"]`` compares each with removing the top m, in pairs too, and ``parts = ["removed"]``
says what they take out of the labelled training patches: the share of the variance (of ``drop-outlier-tokens``, of the
squared deviations from the mean), the share of the variance of the top m that is positional, and the overlap of what
two treatments take out. Scaling takes no direction out and has none of these.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import Annotated, Any, Literal

import numpy as np
from jaxtyping import Float, Int64
from pydantic import Field, model_validator

from evaluate.inputs.counterparts import Counterpart, counterparts
from evaluate.inputs.memory import reading_bytes
from evaluate.inputs.model_sets import ModelSets
from evaluate.inputs.work import Work, ranking
from evaluate.kernels.probing.probes import predict_side_by_side
from evaluate.kernels.segmentation.confusion import miou_present
from evaluate.kernels.treatments import Alternative, Removal, Treatment, fit_treatment, kept_features, kept_tokens
from evaluate.neighbours.voting import vote
from evaluate.results.metrics import PATCH_MIOU
from evaluate.results.sections import LongPass
from evaluate.results.table import Result
from evaluate.scoring.classifier_task import ClassifierTask
from evaluate.scoring.patch_classifiers import FittedProbe, PatchData, read_patches
from evaluate.scoring.patches import Truth
from evaluate.scoring.tokens.removed import Removed, removed_bytes, removed_work
from evaluate.scoring.tokens.treated_search import Rankings, TreatedSearch
from evaluate.settings import BootstrapSettings, ClassifierSettings, Context, LayerSettings, TreatmentSettings
from evaluate.task import ModelTask

STANDARDISED = {"batchnorm": True, "whiten": False, "l2": False}
"""Whether probes of treatments that scale features standardise them; those of others do as untreated ones."""

Predicted = tuple[Treatment, Int64[np.ndarray, " query"], FittedProbe | None]
"""A treatment, the predicted classes, and the probe that predicted them."""


class FeatureTreatments(TreatmentSettings, ClassifierSettings, LayerSettings, BootstrapSettings):
    """Nearest neighbours and probes on treated features, beside untreated ones (paper A, section 4)."""

    kind: Literal["feature-treatments"]
    treatments: tuple[Literal["none", Removal, Alternative], ...] = (
        "remove-top",
        "remove-random",
        "remove-lowest",
        "batchnorm",
        "whiten",
        "l2",
    )
    """What is done to the features; ``none`` is always there to compare with. Not by default: ``remove-position``,
    ``remove-first-components``, ``pca-k``, ``centre``, ``drop-outlier-tokens``."""
    parts: Annotated[tuple[Literal["scores", "removed"], ...], Field(min_length=1)] = ("scores",)
    """``scores`` of classifiers, and what the treatments have ``removed``: which share of the variance, how much of it
    is positional, and how far the directions that two treatments take out agree."""
    references: Annotated[tuple[Literal["none", "remove-top"], ...], Field(min_length=1)] = ("none",)
    """What scores are compared with in pairs: untreated features, and every ``remove-top``, which has to be among the
    treatments then."""
    experiments: tuple[str, ...] = ()
    """Experiment files with the same models on other data, relative to this file: of each, ``remove-other`` leaves out
    the features that vary most over its training patches; models are matched by title."""
    m: tuple[Annotated[int, Field(ge=1)], ...] = (200,)
    """Numbers of features to remove; those that leave no feature are left out."""
    draws: int = Field(default=3, ge=1, le=100)
    """Random choices of features to remove, each reported."""
    k: int = Field(default=1, ge=1)
    """Neighbours that vote."""
    metric: Literal["euclidean", "cosine"] = "euclidean"
    """Distance between treated features; ``centre`` changes cosines alone, and all-but-the-top is made for them."""

    def other_experiments(self) -> tuple[str, ...]:
        """Return the experiments whose rankings ``remove-other`` uses."""
        return self.experiments

    @model_validator(mode="after")
    def _has_references(self) -> "FeatureTreatments":
        if "remove-top" in self.references and "remove-top" not in self.treatments:
            raise ValueError('references has "remove-top", which is not among the treatments: add it there')
        return self

    def expand(self, n_features: int, experiments: Sequence[str] = ()) -> list[Treatment]:
        """Return the treatments of this number of features, none first and rankings of other experiments last."""
        counts = [m for m in self.m if m < n_features]
        treatments = [Treatment("none")]
        for name in dict.fromkeys(self.treatments):
            if name in ("remove-top", "remove-random", "remove-lowest"):
                draws = range(self.draws) if name == "remove-random" else (None,)
                treatments += [Treatment(name, m, draw) for m in counts for draw in draws]
            elif name != "none":
                treatments += self.numbered(name, n_features)
        return treatments + [Treatment("remove-other", m, experiment=other) for other in experiments for m in counts]


class TreatedTask(ModelTask[FeatureTreatments]):
    """A task about treatments of one array, some of which may rank features by other experiments."""

    @cached_property
    def others(self) -> list[Counterpart]:
        """The same layer of the same model in the experiments that the settings name."""
        return counterparts(self.model, self.array, self.settings, self.context)

    @cached_property
    def treatments(self) -> list[Treatment]:
        """The treatments, the untreated features first and rankings of other experiments last."""
        return self.settings.expand(self.n_channels, [other.experiment for other in self.others])

    def _rankings(self, patches: PatchData) -> Rankings:
        return {None: patches.ranking, **{other.experiment: other.ranking() for other in self.others}}


@dataclass(frozen=True, eq=False)
class FeatureTreatmentsTask(ClassifierTask[FeatureTreatments], TreatedTask):
    """mIoU of one classifier under every treatment, and its difference to untreated features."""

    analysis = "feature-treatments"
    revision = 6
    what = "{task.classifier_title} on treated {task.array}"
    key_settings = ("treatments", "m", "draws", "resamples")

    @classmethod
    def of_model(cls, model: ModelSets, settings: FeatureTreatments, context: Context) -> Iterator[Any]:
        """Yield one task a layer and classifier, and one a layer for what the treatments remove."""
        if "scores" in settings.parts:
            yield from super().of_model(model, settings, context)
        if "removed" in settings.parts:
            yield from RemovedVarianceTask.of_model(model, settings, context)

    def parameters(self) -> dict[str, Any]:
        """Return the parameters that this classifier uses, and the training images of other experiments."""
        parameters = super().parameters() | self.settings.number_parameters(self.settings.treatments)
        if self.settings.references != ("none",):
            parameters["references"] = list(self.settings.references)
        cosine = {} if self.settings.metric == "euclidean" else {"metric": self.settings.metric}
        parameters |= {"k": self.settings.k, **cosine} if self.classifier == "knn" else self.probe_parameters
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
        neighbours = {"k": self.settings.k, "distance": self.settings.metric} if self.classifier == "knn" else {}
        return {**super().columns, **neighbours}

    def compute(self) -> Result:
        """Return the mIoU of every treatment and its paired difference to untreated features."""
        patches = read_patches(self.model, self.array, self.train, self.validation)
        truth = Truth(self.model, self.array, self.validation)
        bootstrap = self.bootstrap(self.validation.sources)
        rankings = self._rankings(patches)
        predict = self._by_neighbours if self.classifier == "knn" else self._by_probes
        rows: list[dict[str, Any]] = []
        matrices: dict[Treatment, np.ndarray] = {}
        for treatment, predicted, probe in predict(patches, rankings):
            matrices[treatment] = truth.patch_confusion(predicted)
            columns = treatment.columns
            rows.append(bootstrap.confusion_row(PATCH_MIOU, matrices[treatment], miou_present, **columns))
            if treatment.name != "none" and "none" in self.settings.references:
                rows.append(bootstrap.difference_row(PATCH_MIOU, matrices[treatment], matrices[Treatment("none")],
                                                     miou_present, reference="none", **columns))  # fmt: skip
            if probe is not None:
                rows += [bootstrap.row(metric, value, None, **columns) for metric, value in probe.details.items()]
        for one, other in self._compared():
            rows.append(bootstrap.difference_row(PATCH_MIOU, matrices[one], matrices[other], miou_present,
                                                 reference=other.label, **one.columns))  # fmt: skip
        return Result(rows)

    def _compared(self) -> list[tuple[Treatment, Treatment]]:
        """Return the treatments that are compared with ``remove-top``: those with a number m with the same m alone."""
        if "remove-top" not in self.settings.references:
            return []
        tops = [one for one in self.treatments if one.name == "remove-top"]
        others = [one for one in self.treatments if one.name not in ("none", "remove-top")]
        return [(one, top) for top in tops for one in others if one.m in (None, top.m)]

    def _by_neighbours(self, patches: PatchData, rankings: Rankings) -> Iterator[Predicted]:
        labels = patches.bank_labels.astype(np.int64)
        search = self._search(patches, lambda: rankings)
        for treatment in self.treatments:
            files = self.kept_sections() if treatment.is_feature_subset else None
            [found] = search.of(treatment, self.searched()).neighbours(patches.n_queries, files).values()
            kept = kept_tokens(treatment, patches.bank)
            yield treatment, vote(found, labels[kept], len(self.model.classes), self.settings.k), None

    def _search(self, patches: PatchData, rankings: Callable[[], Rankings]) -> TreatedSearch:
        k, metric, device = self.settings.k, self.settings.metric, self.context.device.name
        return TreatedSearch(patches, rankings, self.context.seed, k, metric, self.search_bytes, device)

    def passes(self) -> list[LongPass]:
        """Return the searches with treatments that only leave features out."""
        if self.classifier != "knn" or self.kept_sections() is None:
            return []
        patches, results = self.patches(), self.searched(is_missing_alone=True)
        search = self._search(patches, cache(lambda: self._rankings(patches)))
        subsets = [one for one in self.treatments if one.is_feature_subset]
        return [one for treatment in subsets for one in search.of(treatment, results).several]

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
            bank, queries, trained = patches.bank, patches.queries, patches
            if treatment.deviations is not None:
                kept = kept_tokens(treatment, bank)
                labels, images = patches.bank_labels[kept], patches.bank_images[kept]
                bank, trained = bank[kept], replace(patches, bank_labels=labels, bank_images=images)
            elif treatment.name != "batchnorm":
                treat = self._fit(treatment, patches, rankings)
                bank, queries = treat(patches.bank), treat(patches.queries)
            standardise = STANDARDISED.get(treatment.name)
            [one] = self.probe_options.fit_probes(trained, [None], bank, standardise=standardise)
            yield treatment, predict_side_by_side([one.probe], queries)[0], one

    def _fit(
        self, treatment: Treatment, patches: PatchData, rankings: Rankings
    ) -> Callable[[np.ndarray], Float[np.ndarray, "row feature"]]:
        ranking = rankings[treatment.experiment]
        return fit_treatment(treatment, patches.bank, ranking, self.context.seed, patches.placement)

    def work(self) -> Work:
        """Estimate the operations: a search or fit a treatment, and three resampled scores of each."""
        n_treatments, n_compared = len(self.treatments), len(self._compared())
        others = [ranking(other.model, other.array, len(other.train.rows)) for other in self.others]
        scored = self.operations.scoring(self.settings.resamples, 3 * n_treatments + 2 * n_compared)
        return self.classifier_work(n_treatments, n_treatments) + sum(others, scored)

    def peak_bytes(self) -> int:
        """Estimate peak memory: all patches of both selections and a treated float32 copy.

        The patches of other experiments stream; their rankings are kept.
        """
        streamed = max((reading_bytes(other.model, other.array) for other in self.others), default=0)
        n_subsets = sum(treatment.is_feature_subset for treatment in self.treatments)
        predicting = self.classifier_bytes(1 if self.classifier == "knn" else n_subsets)
        return streamed + self.memory.scoring(self.settings.resamples, 0) + self.memory.treating() + predicting


@dataclass(frozen=True, eq=False)
class RemovedVarianceTask(TreatedTask):
    """What treatments take out of the labelled training patches of one layer."""

    analysis = "feature-treatments"
    labelled = True
    what = "what treatments remove of {task.array}"
    key_settings = ("treatments", "m", "draws", "resamples")
    key_rows = ("train",)

    def parameters(self) -> dict[str, Any]:
        """Return the parameters that the class lists, the numbers of treatments, and other experiments' images."""
        numbers = self.settings.number_parameters(self.settings.treatments)
        others = [[other.experiment, list(other.train.sources)] for other in self.others]
        return {**super().parameters(), **numbers, "parts": ["removed"]} | ({"others_train": others} if others else {})

    def inputs(self) -> dict[str, str]:
        """Return the digests of the array and labels, and of what is read of other experiments."""
        return super().inputs() | {name: one for other in self.others for name, one in other.inputs().items()}

    def compute(self) -> Result:
        """Return shares of variance, how much of them is positional, and overlaps of all pairs."""
        patches = read_patches(self.model, self.array, self.train, self.train)
        rankings = self._rankings(patches)
        removed = Removed(patches, self.bootstrap(self.train.sources), self.context.seed)
        return Result(removed.rows(self.treatments, rankings))

    def work(self) -> Work:
        """Estimate the operations: a PCA a projection, and sums by image and place in every resample."""
        return removed_work(self.model, self.array, self.train, self.settings.resamples, len(self.treatments))

    def peak_bytes(self) -> int:
        """Estimate peak memory: the labelled training patches, and what `removed_bytes` counts."""
        streamed = max((reading_bytes(other.model, other.array) for other in self.others), default=0)
        return streamed + removed_bytes(
            self.model, self.array, self.train, self.settings.resamples, len(self.treatments)
        )
