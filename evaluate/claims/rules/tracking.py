"""The claim about tracking by retrieval: 15."""

from collections.abc import Iterator

from evaluate.claims.estimates import Estimate, difference, weighted
from evaluate.claims.evidence import Evidence, distinct
from evaluate.claims.roles import ModelInfo
from evaluate.claims.verdicts import Condition, MissingEvidenceError, above, add_analysis
from evaluate.results.metrics import CATEGORY_ACCURACY_ON_FAILURE, INSTANCE_ACCURACY

MARGIN = 0.02
"""Accuracy by which a model may fall short and still be at least as good."""


def tracking(evidence: Evidence) -> Iterator[Condition]:
    """Claim 15: accuracy falls with the gap, more in the first half of the gaps than in the second; at the middle gap
    DINO and DINOv2 lead MAE without its top 200, that leads Supervised, which is at least as good as MAE; DINO is at
    least as good as DINOv2 at the smallest gap; where the object is wrong the category is right in over 90 %.

    DINOv2 and Supervised are tested where there are such models.
    """
    dino = evidence.info("dino")
    gaps = distinct(evidence.rows(dino, "tracking", INSTANCE_ACCURACY, m=0), "x_value")
    if len(gaps) < 3:
        raise MissingEvidenceError(f"three gaps or more are needed: {add_analysis('tracking', gaps=[1, 5, 30])}")
    first, middle, last = gaps[0], gaps[len(gaps) // 2], gaps[-1]
    at = [_accuracy(evidence, dino, gap) for gap in (first, middle, last)]
    yield above(difference(f"{at[0].name} less at gap {last:g}", at[0], at[2]), 0.0)
    name = f"accuracy of {dino.title}: fall before gap {middle:g} less the fall after"
    yield above(weighted(name, [(1.0, at[0]), (-2.0, at[1]), (1.0, at[2])]), 0.0)
    for dinov2 in evidence.present("dinov2"):
        other = _accuracy(evidence, dinov2, first)
        yield above(difference(f"{at[0].name} less {other.name}", at[0], other), -MARGIN)
    for info in evidence.present("dino", "dinov2"):
        rows = evidence.rows(info, "tracking", CATEGORY_ACCURACY_ON_FAILURE, m=0, x_value=middle)
        yield above(evidence.estimate(rows, f"right category of wrong objects, {info.title}", _add(0)), 0.9)
    for mae in evidence.present("mae"):
        yield from _against_masked(evidence, mae, middle)


def _against_masked(evidence: Evidence, mae: ModelInfo, middle: float) -> Iterator[Condition]:
    """Yield the conditions of claim 15 that compare others with MAE, at the middle gap."""
    without = _accuracy(evidence, mae, middle, mae.scaled(200))
    for info in evidence.present("dino", "dinov2"):
        leading = _accuracy(evidence, info, middle)
        yield above(difference(f"{leading.name} less {without.name}", leading, without), 0.0)
    for supervised in evidence.present("supervised"):
        score = _accuracy(evidence, supervised, middle)
        yield above(difference(f"{without.name} less {score.name}", without, score), 0.0)
        worst = _accuracy(evidence, mae, middle)
        yield above(difference(f"{score.name} less {worst.name}", score, worst), -MARGIN)


def _accuracy(evidence: Evidence, info: ModelInfo, gap: float, m: int = 0) -> Estimate:
    rows = evidence.rows(info, "tracking", INSTANCE_ACCURACY, m=m, x_value=gap)
    lacks = f" without {m}" if m else ""
    return evidence.estimate(rows, f"accuracy of {info.title}{lacks} at gap {gap:g}", _add(m))


def _add(m: int) -> str:
    return f"{add_analysis('tracking', remove=[0, m or 200])} and the same gaps"
