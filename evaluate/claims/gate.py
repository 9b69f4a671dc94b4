"""Is a claim testable at all? Only where its models do better than no features, and than features of random weights.

The measure is the linear probe's mIoU of patches against that of calling every patch the most common training class.
Data without a class for every pixel has no such probe: for tracking, the measure is the accuracy one step ahead against
chance, for whole images the accuracy of nearest neighbours against the most common class. Where an experiment asked for
no probe, that of the same models in an experiment beside it counts. Majority and chance are properties of the scored
images; where the results give them no interval their value is the threshold, and it is the model's interval that must
clear it. Against random weights the two intervals must lie apart, though both are of the same images: one draw beats
another in pairs easily, since no interval over images covers the luck of a draw. Several controls are all to be beaten.
"""

from collections.abc import Callable, Sequence

from evaluate.claims.estimates import Estimate, exactly
from evaluate.claims.evidence import Evidence, distinct
from evaluate.claims.roles import ModelInfo
from evaluate.claims.verdicts import MissingEvidenceError, add_analysis

CLASS_TOKEN = "class-token"  # noqa: S105  (a value of the column token)

Measure = Callable[[Evidence, ModelInfo], tuple[Estimate, Estimate]]
"""Returns a model's score and the score that needs no features."""


def by_probe(evidence: Evidence, info: ModelInfo) -> tuple[Estimate, Estimate]:
    """Return the probe's mIoU and the most common class's."""
    score = evidence.patches(info, "probe")
    rows = evidence.rows(info, "patch-classification", "majority_miou", classifier="probe")
    if not rows:
        raise MissingEvidenceError("there is no mIoU of the most common class: run `patchbank evaluate` again")
    largest = float(max(row["value"] for row in rows))  # of several training sets the harder one counts
    return score, exactly("mIoU of the most common class", largest)


def by_tracking(evidence: Evidence, info: ModelInfo) -> tuple[Estimate, Estimate]:
    """Return the share of objects found again at the smallest gap, and what chance finds."""
    found = evidence.rows(info, "tracking", "instance_accuracy", m=0)
    gap = min(distinct(found, "x_value"), default=None)
    add = add_analysis("tracking", remove=[0])
    score = evidence.estimate(
        [row for row in found if row["x_value"] == gap], f"tracking accuracy of {info.title}", add
    )
    chance = evidence.rows(info, "tracking", "chance", m=0, x_value=gap)
    return score, evidence.estimate(chance, "chance", add)


def by_images(evidence: Evidence, info: ModelInfo) -> tuple[Estimate, Estimate]:
    """Return the accuracy of nearest neighbours by class token at the native size, and the most common class's."""
    add = add_analysis("image-knn", remove=[0, 200])
    found = evidence.rows(info, "image-knn", "image_accuracy", view="clean", m=0)
    found = [row for row in found if row["token"] == CLASS_TOKEN]
    score = evidence.estimate(found, f"image accuracy of {info.title}", add)
    majority = evidence.rows(info, "image-knn", "majority_accuracy")
    return score, evidence.estimate(majority, "accuracy of the most common class", add)


def pass_gate(evidence: Evidence, models_info: Sequence[ModelInfo], measure: Measure) -> None:
    """Raise MissingEvidenceError unless every model beats both baselines by the interval."""
    if measure is by_probe:
        evidence, models_info = _with_probes(evidence, models_info)
    controls = [info for info in evidence.models_info if info.role == "random"]
    if not controls:
        raise MissingEvidenceError('no model has random weights: add one with weights = "random" as control')
    for info in models_info:
        score, floor = measure(evidence, info)
        beats(score, floor)
        for control in controls:
            beats(score, measure(evidence, control)[0])


def _with_probes(evidence: Evidence, models_info: Sequence[ModelInfo]) -> tuple[Evidence, Sequence[ModelInfo]]:
    """Return the first experiment, and its models, that asked for probes of them all; the given one where none did."""
    for place in (evidence, *evidence.beside):
        there = [place.by_role.get(info.role) for info in models_info]
        same = [
            other
            for info, other in zip(models_info, there, strict=True)
            if other is not None and other.name == info.name
        ]
        probed = [place.rows(other, "patch-classification", "patch_miou", classifier="probe", m=0) for other in same]
        if len(same) == len(models_info) and all(probed):
            return place, same
    return evidence, models_info


def beats(score: Estimate, other: Estimate) -> None:
    """Raise MissingEvidenceError unless the whole interval of a score lies above that of another."""
    if not score.low > other.high:
        raise MissingEvidenceError(f"{score} does not beat {other} by the interval: its features show nothing here")
