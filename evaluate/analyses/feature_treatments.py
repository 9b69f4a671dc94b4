"""Controls and alternatives to removing the top-m features: paper A, section 4 and appendix.

If high variance is what ruins nearest neighbours, removing random or lowest-variance features must not help, and
scaling features (BatchNorm, whitening) must help about as much. If which features vary is a matter of the model and not
of the data, removing those of highest variance on another data set must help about as much too. Every score comes with
its difference to untreated features on the same images.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Annotated, Any, Literal

import numpy as np
from jaxtyping import Int64
from pydantic import Field

from evaluate.inputs.counterparts import Counterpart, counterparts
from evaluate.inputs.model_sets import ModelSets
from evaluate.kernels.bootstrap import bootstrap, paired_bootstrap
from evaluate.kernels.confusion import miou_present
from evaluate.kernels.memory import (
    n_patches,
    probed_bytes,
    reading_bytes,
    scoring_bytes,
    search_memory,
    searched_bytes,
    treated_bytes,
)
from evaluate.kernels.penalties import PENALTIES, choose_penalty
from evaluate.kernels.probes import Probe, predict_side_by_side
from evaluate.kernels.treatments import Treatment, fit_treatment, kept_features
from evaluate.neighbours.knn import nearest
from evaluate.neighbours.voting import vote
from evaluate.results.table import Result, ResultKey
from evaluate.scoring.patch_classifiers import Classifier, PatchData, read_patches, refuse_more_neighbours, selected
from evaluate.scoring.patches import Truth
from evaluate.settings import Context, Layers, Settings
from evaluate.task import Task, task_of

REVISION = 3
"""Raised when the same inputs and parameters give other numbers."""

Rankings = Mapping[str | None, Int64[np.ndarray, " channel"]]
"""Features by decreasing variance: here under None, elsewhere under the experiment's file."""

Predicted = tuple[Treatment, Int64[np.ndarray, " query"], Probe | None]
"""A treatment, the classes that are predicted after it, and the probe that predicts them."""


class FeatureTreatments(Settings):
    """Nearest neighbours and probes on treated features, beside untreated ones (paper A, section 4)."""

    kind: Literal["feature-treatments"]
    classifiers: tuple[Literal["knn", "probe"], ...] = ("knn", "probe")
    """Nearest neighbours, a linear probe, or both."""
    treatments: tuple[
        Literal["none", "remove-top", "remove-random", "remove-lowest", "batchnorm", "whiten", "l2"], ...
    ] = ("remove-top", "remove-random", "remove-lowest", "batchnorm", "whiten", "l2")
    """What is done to the features; ``none`` is always there to compare with."""
    experiments: tuple[str, ...] = ()
    """Experiment files with the same models on other data, relative to this file: of each, ``remove-other`` leaves out
    the features that vary most over its training patches; models meet by their titles."""
    m: tuple[Annotated[int, Field(ge=1)], ...] = (200,)
    """Numbers of features that removals take; those that leave no feature are passed over."""
    draws: int = Field(default=3, ge=1, le=100)
    """Random choices of features to remove, each reported."""
    layers: Layers = (-1,)
    """Layers to ask about: ``all`` that are stored, or numbers from 0; negative ones count from the last stored."""
    norm: Literal["final", "none"] = "final"
    """Tokens through the model's final norm, or as the block left them."""
    k: int = Field(default=1, ge=1)
    """Neighbours that vote."""
    penalties: tuple[Annotated[float, Field(gt=0)], ...] | None = None
    """L2 penalties to choose from on held-out training images; None takes the default grid."""
    resamples: int = Field(default=1000, ge=0)
    """Bootstrap resamples over images; 0 prints no intervals."""

    def other_experiments(self) -> tuple[str, ...]:
        """Return the experiments whose rankings ``remove-other`` goes by."""
        return self.experiments

    def wanted(self, n_features: int, experiments: Sequence[str] = ()) -> list[Treatment]:
        """Return the treatments of features of this number, the untreated ones first and foreign rankings last."""
        found = [Treatment("none")]
        for name in dict.fromkeys(self.treatments):
            if not name.startswith("remove"):
                found += [Treatment(name)] if name != "none" else []
                continue
            draws = range(self.draws) if name == "remove-random" else (None,)
            found += [Treatment(name, m, draw) for m in self.m if m < n_features for draw in draws]
        return found + [
            Treatment("remove-other", m, experiment=other) for other in experiments for m in self.m if m < n_features
        ]


def asked(
    model: ModelSets,
    array: str,
    classifier: Classifier,
    analysis: FeatureTreatments,
    context: Context,
    others: Sequence[Counterpart] = (),
) -> ResultKey:
    """Return what the answer depends on, the sets and the training images of ``others`` among it."""
    model.need_labels("feature-treatments")
    train, validation = selected(model, context, "feature-treatments")
    if classifier == "knn":
        refuse_more_neighbours(analysis.k, n_patches(model, array, len(train.rows)))
    parameters: dict[str, Any] = {
        "classifier": classifier,
        "treatments": list(analysis.treatments),
        "m": list(analysis.m),
        "draws": analysis.draws,
        "resamples": analysis.resamples,
        "seed": context.seed,
        "train": list(train.sources),
        "validation": list(validation.sources),
    }
    parameters |= (
        {"k": analysis.k}
        if classifier == "knn"
        else {"batchnorm": model.probe_batchnorm, "penalties": list(analysis.penalties or PENALTIES)}
    )
    inputs = model.inputs(array, labelled=True)
    if others:  # without, the question is what it always was
        parameters["others_train"] = [[other.experiment, list(other.train.sources)] for other in others]
        for other in others:
            inputs |= other.inputs()
    return ResultKey("feature-treatments", REVISION, parameters, inputs)


def answer(
    model: ModelSets,
    array: str,
    classifier: Classifier,
    analysis: FeatureTreatments,
    context: Context,
    others: Sequence[Counterpart] = (),
) -> Result:
    """Return the mIoU of every treatment and its difference to untreated features."""
    train, validation = selected(model, context, "feature-treatments")
    given = read_patches(model, array, train, validation)
    truth = Truth(model, array, validation)
    rankings: Rankings = {None: given.ranking, **{other.experiment: other.ranking() for other in others}}
    treatments = analysis.wanted(given.bank.shape[1], [other.experiment for other in others])
    predict = _by_neighbours if classifier == "knn" else _by_probes
    rows: list[dict[str, Any]] = []
    untreated: np.ndarray | None = None
    for treatment, predicted, probe in predict(given, rankings, treatments, analysis, context):
        matrices = truth.patch_confusion(predicted)
        untreated = matrices if untreated is None else untreated
        cell = {
            "classifier": classifier,
            "train": train.title,
            "m": treatment.m,
            "k": analysis.k if classifier == "knn" else None,
            "x_name": None if treatment.draw is None else "draw",
            "x_value": None if treatment.draw is None else float(treatment.draw),
            "outcome": treatment.outcome,
            "unit": "image",
            "n_units": truth.n_images,
            "seed": context.seed,
        }
        value = float(miou_present(matrices.sum(axis=0)))
        base = float(miou_present(untreated.sum(axis=0)))
        options: dict[str, Any] = {"seed": context.seed, "resamples": analysis.resamples}
        interval = bootstrap(matrices, miou_present, **options) if analysis.resamples else None
        rows.append({**cell, "metric": "patch_miou", "value": value, **_bounds(interval)})
        if treatment.name != "none":
            paired = paired_bootstrap(matrices, untreated, miou_present, **options) if analysis.resamples else None
            rows.append(
                {
                    **cell,
                    "metric": "patch_miou_difference",
                    "reference": "none",
                    "value": value - base,
                    **_bounds(paired),
                }
            )
        if probe is not None:
            rows.append({**cell, "metric": "penalty", "value": probe.head.penalty})
            rows.append({**cell, "metric": "converged", "value": float(probe.converged)})
    return Result(rows)


def _bounds(interval: Any) -> dict[str, float | None]:
    return {"low": interval.low if interval else None, "high": interval.high if interval else None}


def _by_neighbours(
    given: PatchData,
    rankings: Rankings,
    treatments: Sequence[Treatment],
    analysis: FeatureTreatments,
    context: Context,
) -> Iterator[Predicted]:
    memory_bytes = search_memory(context.memory_bytes, peak_bytes(given.model, given.array, "knn", analysis, context))
    labels = given.bank_labels.astype(np.int64)
    for treatment in treatments:
        treat = fit_treatment(treatment, given.bank, rankings[treatment.experiment], context.seed)
        found = nearest(treat(given.bank), treat(given.queries), analysis.k, memory_bytes=memory_bytes)
        yield treatment, vote(found, labels, len(given.model.classes), analysis.k), None


def _by_probes(
    given: PatchData,
    rankings: Rankings,
    treatments: Sequence[Treatment],
    analysis: FeatureTreatments,
    context: Context,
) -> Iterator[Predicted]:
    """Fit all removals side by side; treatments that change every value need features of their own."""
    removals = [treatment for treatment in treatments if treatment.is_feature_subset]
    n_classes = len(given.model.classes)

    def probes(bank: np.ndarray, kept: list[Any], *, standardise: bool) -> Any:
        return choose_penalty(
            bank,
            given.bank_labels,
            given.bank_images,
            n_classes,
            standardise=standardise,
            seed=context.seed,
            kept=kept,
            penalties=analysis.penalties or PENALTIES,
        ).probes

    masks = [kept_features(treatment, rankings[treatment.experiment], context.seed) for treatment in removals]
    found = probes(given.bank, masks, standardise=given.model.probe_batchnorm)
    yield from zip(removals, predict_side_by_side(found, given.queries), found, strict=True)
    for treatment in treatments:
        if treatment in removals:
            continue
        if treatment.name == "batchnorm":
            found, queries = probes(given.bank, [None], standardise=True), given.queries
        else:
            treat = fit_treatment(treatment, given.bank, rankings[treatment.experiment], context.seed)
            found, queries = probes(treat(given.bank), [None], standardise=False), treat(given.queries)
        yield treatment, predict_side_by_side(found, queries)[0], found[0]


def peak_bytes(
    model: ModelSets,
    array: str,
    classifier: Classifier,
    analysis: FeatureTreatments,
    context: Context,
    others: Sequence[Counterpart] = (),
) -> int:
    """Return the bytes that answering holds: all patches of both selections, and a float32 copy that is treated.

    The patches of ``others`` stream; their rankings are kept.
    """
    train, validation = selected(model, context, "feature-treatments")
    other_experiments = max((reading_bytes(other.model, other.array) for other in others), default=0)
    scoring = scoring_bytes(model, array, validation, analysis.resamples, 0) + other_experiments
    treated = treated_bytes(model, array, len(train.rows) + len(validation.rows))
    if classifier == "knn":
        return scoring + treated + searched_bytes(model, array, train, validation, 1, (analysis.k,), "exact")
    treatments = analysis.wanted(model.n_channels(array), [other.experiment for other in others])
    kept = sum(treatment.is_feature_subset for treatment in treatments)
    penalties = len(analysis.penalties or PENALTIES)
    return scoring + treated + probed_bytes(model, array, train, validation, kept, penalties)


def cells(models: Sequence[ModelSets], analysis: FeatureTreatments, context: Context) -> Iterator[Task]:
    """Yield one answer a model, layer and classifier."""
    for model in models:
        for array in model.arrays(analysis.layers, analysis.norm):
            others = counterparts(model, array, analysis.norm, analysis, context)
            for classifier in analysis.classifiers:
                yield task_of(
                    model,
                    array,
                    asked(model, array, classifier, analysis, context, others),
                    partial(answer, model, array, classifier, analysis, context, others),
                    f"{'k-NN' if classifier == 'knn' else classifier} on treated {array}",
                    partial(peak_bytes, model, array, classifier, analysis, context, others),
                )
