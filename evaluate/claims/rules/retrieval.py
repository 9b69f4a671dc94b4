"""Claims about finding changed patches again: 12 to 14."""

from collections.abc import Iterator

from evaluate.claims.estimates import Estimate, difference, weighted
from evaluate.claims.evidence import Evidence, distinct
from evaluate.claims.roles import ModelInfo
from evaluate.claims.verdicts import Condition, MissingEvidenceError, above, add_analysis, below
from evaluate.results.metrics import SHARE, UPPER_BOUND

SMALL = ("shift", "blur", "noise")
"""Views that the paper calls small transforms."""
MARGIN = 0.02
"""Share of queries by which a model may fall short and still be at least as good."""


def order_of_models(evidence: Evidence) -> Iterator[Condition]:
    """Claim 12: DINO finds the same patch more often than DINOv2 at every level of shift, blur and noise, and iBOT at
    least as often as DINO; with the own tile left out, DINOv2 finds the same category most often.
    """
    dino, dinov2 = evidence.info("dino"), evidence.info("dinov2")
    views = [(view, level) for view in SMALL for level in _levels(evidence, dino, view)]
    if not views:
        raise MissingEvidenceError(
            'there is no retrieval under small transforms: add [[views]] name = "noise" and "blur"'
        )
    for view, level in views:
        first = _share(evidence, dino, view, level)
        at = f"same patch under {view} {level:g}"
        yield above(difference(f"{at}, DINO less DINOv2", first, _share(evidence, dinov2, view, level)), 0.0)
        for ibot in evidence.present("ibot"):
            yield above(difference(f"{at}, iBOT less DINO", _share(evidence, ibot, view, level), first), -MARGIN)
    best = _share(evidence, dinov2, "clean", None, "same-category", "tile")
    for info in [dino, *evidence.present("supervised", "mae")]:
        other = _share(evidence, info, "clean", None, "same-category", "tile")
        yield above(difference(f"same category in other tiles, DINOv2 less {info.title}", best, other), 0.0)


def masked_model(evidence: Evidence) -> Iterator[Condition]:
    """Claim 13: under the least noise MAE finds the same patch in 30 to 60 % of queries, most misses are background,
    and without its top 200 it comes within 10 % of DINO.
    """
    mae = evidence.info("mae")
    level = _least(evidence, mae, "noise")
    same = _share(evidence, mae, "noise", level)
    yield above(same, 0.3)
    yield below(same, 0.6)
    background = _share(evidence, mae, "noise", level, "background")
    name = f"background less half of the misses of {mae.title}"
    half = weighted(name, [(1.0, background), (0.5, same)])
    yield above(half, 0.5)
    for dino in evidence.present("dino"):
        removed = _share(evidence, mae, "noise", level, m=mae.scaled(200))
        name = f"same patch under noise {level:g}, DINO less {mae.title} without its top features"
        yield below(difference(name, _share(evidence, dino, "noise", level), removed), 0.1)


def rotation_and_scale(evidence: Evidence) -> Iterator[Condition]:
    """Claim 14: the least rotation and the mildest scale lose more patches than the strongest blur and noise.

    A loss counts only queries that have a corresponding patch at all. Tested for DINO, and for DINOv2, Supervised and
    iBOT where there are such models; MAE is the paper's outlier.
    """
    for info in evidence.present("dino", "dinov2", "supervised", "ibot"):
        turned = _least(evidence, info, "rotation")
        scaled = min(_all_levels(evidence, info, "scale"), key=lambda level: abs(level - 1.0))
        for view, level in (("rotation", turned), ("scale", scaled)):
            for other in ("blur", "noise"):
                strongest = max(_all_levels(evidence, info, other))
                name = f"{info.title}: loss under {view} {level:g} less that under {other} {strongest:g}"
                moved, blurred = _loss(evidence, info, view, level), _loss(evidence, info, other, strongest)
                yield above(difference(name, moved, blurred), 0.0)


def _share(
    evidence: Evidence,
    info: ModelInfo,
    view: str,
    level: float | None,
    outcome: str = "same-patch",
    left_out: str = "nothing",
    m: int = 0,
) -> Estimate:
    """Return the share of queries under a view whose nearest patch has this outcome."""
    rows = evidence.rows(
        info, "retrieval", SHARE, view=view, level=level, outcome=outcome, m=m, reference=f"{left_out} left out"
    )
    under = view if level is None else f"{view} {level:g}"
    name = f"{outcome} of {info.title} under {under}" + (f", {m} removed" if m else "")
    return evidence.estimate(rows, name, add_analysis("retrieval", remove=[0, m or 200]))


def _levels(evidence: Evidence, info: ModelInfo, view: str) -> list[float]:
    """Return the levels of a view at which the share of same patches was computed."""
    return distinct(evidence.rows(info, "retrieval", SHARE, view=view, outcome="same-patch"), "level")


def _all_levels(evidence: Evidence, info: ModelInfo, view: str) -> list[float]:
    known = _levels(evidence, info, view)
    if not known:
        raise MissingEvidenceError(
            f'{info.title} has no retrieval under {view}: add [[views]] name = "{view}" and [[analyses]] '
            'kind = "retrieval"'
        )
    return known


def _least(evidence: Evidence, info: ModelInfo, view: str) -> float:
    return min(_all_levels(evidence, info, view), key=abs)


def _loss(evidence: Evidence, info: ModelInfo, view: str, level: float) -> Estimate:
    where = {"view": view, "level": level, "m": 0}
    bound = evidence.rows(info, "retrieval", UPPER_BOUND, **where)
    name = f"upper bound of {info.title} under {view} {level:g}"
    most = evidence.estimate(bound, name, add_analysis("retrieval", left_out=["nothing"]))
    return difference(f"loss of {info.title} under {view}", most, _share(evidence, info, view, level))
