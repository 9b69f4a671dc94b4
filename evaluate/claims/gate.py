"""Gate: whether a claim can be tested: its models must beat both no features and features of random weights.

The measure is the linear probe's mIoU of patches against that of calling every patch the most common training class.
Data without a class for every pixel has no such probe: for tracking, the measure is the accuracy one step ahead against
chance, for whole images the accuracy of nearest neighbours against the most common class. Where an experiment has no
probe, that of the same models in an experiment beside it counts. Majority and chance are properties of the scored
images; where the results give them no interval their value is the threshold, and it is the model's interval that must
clear it. Against random weights the two intervals must lie apart, though both are of the same images: one draw of
weights beats another in pairs easily, since no interval over images covers the luck of a draw. Where there are several
controls, all must be beaten.
"""

from collections.abc import Callable, Mapping, Sequence

from evaluate.claims.estimates import Estimate, exactly
from evaluate.claims.evidence import Evidence, distinct
from evaluate.claims.roles import ModelInfo
from evaluate.claims.verdicts import MissingEvidenceError, add_analysis
from evaluate.results import metrics

CLASS_TOKEN = "class-token"  # noqa: S105  (a value of the column token)

Measure = Callable[[Evidence, ModelInfo], tuple[Estimate, Estimate]]
"""Returns a model's score and the score that needs no features."""


def by_probe(evidence: Evidence, info: ModelInfo) -> tuple[Estimate, Estimate]:
    """Return the probe's mIoU and the most common class's."""
    score = evidence.patches(info, "probe")
    rows = evidence.rows(info, "patch-classification", metrics.MAJORITY_MIOU, classifier="probe")
    if not rows:
        raise MissingEvidenceError("there is no mIoU of the most common class: run `patchbank evaluate` again")
    largest = float(max(row["value"] for row in rows))  # of several training sets the harder one counts
    return score, exactly("mIoU of the most common class", largest)


def by_tracking(evidence: Evidence, info: ModelInfo) -> tuple[Estimate, Estimate]:
    """Return the share of objects found again at the smallest gap, and what chance finds."""
    rows = evidence.rows(info, "tracking", metrics.INSTANCE_ACCURACY, m=0)
    gap = min(distinct(rows, "x_value"), default=None)
    add = add_analysis("tracking", remove=[0])
    rows = [row for row in rows if row["x_value"] == gap]
    score = evidence.estimate(rows, f"tracking accuracy of {info.title}", add)
    chance = evidence.rows(info, "tracking", metrics.CHANCE, m=0, x_value=gap)
    return score, evidence.estimate(chance, "chance", add)


def by_images(evidence: Evidence, info: ModelInfo) -> tuple[Estimate, Estimate]:
    """Return the accuracy of nearest neighbours by class token at the native size, and the most common class's."""
    add = add_analysis("image-knn", remove=[0, 200])
    rows = evidence.rows(info, "image-knn", metrics.IMAGE_ACCURACY, view="clean", m=0)
    rows = [row for row in rows if row["token"] == CLASS_TOKEN]
    score = evidence.estimate(rows, f"image accuracy of {info.title}", add)
    majority = evidence.rows(info, "image-knn", metrics.MAJORITY_ACCURACY)
    return score, evidence.estimate(majority, "accuracy of the most common class", add)


def by_any_probe(evidence: Evidence, info: ModelInfo) -> tuple[Estimate, Estimate]:
    """Return the linear probe's score, of images where they have classes, else of patches, and its baseline."""
    rows = evidence.rows(info, "image-classification", metrics.IMAGE_ACCURACY, classifier="probe")
    if not rows:
        return by_probe(evidence, info)
    score = evidence.estimate(rows, f"probe accuracy of {info.title}", "")
    majority = evidence.rows(info, "image-classification", metrics.MAJORITY_ACCURACY, classifier="probe")
    return score, exactly("accuracy of the most common class", float(max(row["value"] for row in majority)))


_OF_PROBES: Mapping[Measure, Sequence[tuple[str, str]]] = {
    by_probe: [("patch-classification", metrics.PATCH_MIOU)],
    by_any_probe: [
        ("image-classification", metrics.IMAGE_ACCURACY),
        ("patch-classification", metrics.PATCH_MIOU),
    ],
}
"""Analysis and metric of the scores that a measure takes, for measures of probes."""


def pass_gate(evidence: Evidence, models_info: Sequence[ModelInfo], measure: Measure) -> None:
    """Raise MissingEvidenceError unless every model beats both baselines by the interval."""
    if measure in _OF_PROBES:
        evidence, models_info = _with_probes(evidence, models_info, _OF_PROBES[measure])
    controls = [info for info in evidence.models_info if info.role == "random"]
    if not controls:
        raise MissingEvidenceError('no model has random weights: add one with weights = "random" as control')
    for info in models_info:
        score, baseline = measure(evidence, info)
        beats(score, baseline)
        for control in controls:
            beats(score, measure(evidence, control)[0])


def _with_probes(
    evidence: Evidence, models_info: Sequence[ModelInfo], probes: Sequence[tuple[str, str]]
) -> tuple[Evidence, Sequence[ModelInfo]]:
    """Return the first experiment, and its models, that has probes of them all; the given one where none has.

    Args:
        evidence: The experiment that a claim is about.
        models_info: Its models.
        probes: Analysis and metric of scores that count as those of a probe.
    """
    where = {"classifier": "probe"}
    for experiment in (evidence, *evidence.beside):
        others = [experiment.by_role.get(info.role) for info in models_info]
        same = [other for info, other in zip(models_info, others, strict=True) if other and other.is_same_model(info)]
        for analysis, metric in probes:
            probed = [experiment.rows(other, analysis, metric, **where) for other in same]
            if len(same) == len(models_info) and all(probed):
                return experiment, same
    return evidence, models_info


def beats(score: Estimate, other: Estimate) -> None:
    """Raise MissingEvidenceError unless the whole interval of a score lies above that of another."""
    if not score.low > other.high:
        raise MissingEvidenceError(f"{score} does not beat {other} by the interval: its features show nothing here")
