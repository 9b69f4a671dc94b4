"""Claims about nearest neighbours beside probes, and about what removing or scaling features does: 1 to 4, 8, 9."""

from collections.abc import Iterator

from evaluate.claims.estimates import Estimate, difference, ratio, weighted
from evaluate.claims.evidence import CLASSIFIERS, Evidence, distinct
from evaluate.claims.roles import ModelInfo
from evaluate.claims.verdicts import Condition, MissingEvidenceError, above, add_analysis, below
from evaluate.results.metrics import PATCH_MIOU, PATCH_MIOU_DIFFERENCE

NOISE = 0.02
"""mIoU that counts as no change; the margin of claim 4."""

ORDER = {
    "knn": ((("dinov2", 0),), (("dino", 0),), (("supervised", 0),), (("mae", 200),), (("simmim", 0),), (("mae", 0),)),
    "probe": ((("dinov2", 0),), (("dino", 0), ("mae", 0)), (("supervised", 0),), (("simmim", 0),)),
}
"""Roles and removed features from best to worst by classifier (paper A, Table 2); one bracket is about equal."""

LEAST_AGREEMENT = 0.6
"""Kendall's tau that counts as the same order: four of five pairs."""


def gap_to_probe(evidence: Evidence) -> Iterator[Condition]:
    """Claim 1: 1-NN over probe is below a half for MAE and above 0.8 for DINO.

    The other models must lie on the side of 0.65, midway, where the paper has them (SimMIM 0.48, DINOv2 0.84,
    Supervised 0.94).
    """
    for info in evidence.present("mae"):
        yield below(_over_probe(evidence, info), 0.5)
    for info in evidence.present("dino"):
        yield above(_over_probe(evidence, info), 0.8)
    for info in evidence.present("simmim"):
        yield below(_over_probe(evidence, info), 0.65)
    for info in evidence.present("dinov2", "supervised"):
        yield above(_over_probe(evidence, info), 0.65)


def removal(evidence: Evidence) -> Iterator[Condition]:
    """Claim 2: without its top 200 MAE's 1-NN mIoU is at least threefold; the others gain no more than noise."""
    for mae in evidence.present("mae"):
        m = mae.scaled(200)
        removed, whole = evidence.patches(mae, "knn", m), evidence.patches(mae, "knn")
        yield above(ratio(f"1-NN mIoU of {mae.title} with {m} removed over all", removed, whole), 3.0)
    for info in evidence.present("dino", "dinov2", "supervised"):
        yield below(evidence.removal_gain(info, "knn", info.scaled(200)), NOISE)


def sweep(evidence: Evidence) -> Iterator[Condition]:
    """Claim 3: ten features removed at least double MAE's 1-NN mIoU, and the peak lies between D/8 and 3D/8.

    The best m of that band must beat the smallest and the largest m outside of it, and no other m outside may be better
    by more than 0.02: m just outside the band may be as good. The best is the one of the highest value, which only
    chooses what is compared.
    """
    mae = evidence.info("mae")
    few, whole = evidence.patches(mae, "knn", mae.scaled(10)), evidence.patches(mae, "knn")
    yield above(ratio(f"1-NN mIoU of {mae.title} with {mae.scaled(10)} removed over all", few, whole), 2.0)
    swept = evidence.rows(mae, "patch-classification", PATCH_MIOU, classifier="knn")
    scores = {int(m): evidence.patches(mae, "knn", int(m)) for m in distinct(swept, "m")}
    low, high = mae.width / 8, 3 * mae.width / 8
    inside = {m: score for m, score in scores.items() if low <= m <= high}
    outside = {m: score for m, score in scores.items() if m not in inside}
    if not inside or min(outside, default=high) > low or max(outside, default=low) < high:
        raise MissingEvidenceError(
            f"a peak needs m below, within and above {low:.0f} to {high:.0f}: "
            + add_analysis("patch-classification", remove=[0, mae.scaled(10), mae.width // 4, mae.width // 2])
        )
    best = max(inside, key=lambda m: inside[m].value)
    for m, score in outside.items():
        margin = 0.0 if m in (min(outside), max(outside)) else -NOISE
        yield above(difference(f"1-NN mIoU of {mae.title}, {best} less {m} removed", inside[best], score), margin)


def probe_unharmed(evidence: Evidence) -> Iterator[Condition]:
    """Claim 4: without its top 200 MAE's probe loses less than 0.02."""
    mae = evidence.info("mae")
    yield above(evidence.removal_gain(mae, "probe", mae.scaled(200)), -NOISE)


def standardising(evidence: Evidence) -> Iterator[Condition]:
    """Claim 8: BatchNorm raises MAE's 1-NN by half to twice of what removing 200 does; SimMIM's too, its probe falls.

    The SimMIM part is tested where there is such a model.
    """
    mae = evidence.info("mae")
    scaled, removed = _scaling_gain(evidence, mae, "knn"), evidence.removal_gain(mae, "knn", mae.scaled(200))
    yield above(scaled, 0.0)
    yield above(removed, 0.0)
    name = f"gain of {mae.title} by BatchNorm less {{}} that by removal"
    yield above(weighted(name.format("half of"), [(1.0, scaled), (-0.5, removed)]), 0.0)
    yield below(weighted(name.format("twice"), [(1.0, scaled), (-2.0, removed)]), 0.0)
    for info in evidence.present("simmim"):
        yield above(_scaling_gain(evidence, info, "knn"), 0.0)
        yield below(_scaling_gain(evidence, info, "probe"), 0.0)


def ranks(evidence: Evidence) -> Iterator[Condition]:
    """Claim 9: Kendall's tau with the paper's order of models, by 1-NN and by probe, is above 0.6.

    A pair counts as in order or against it only where the interval of its difference leaves out zero; pairs that are
    open stretch tau's bounds both ways. Pairs the paper calls about equal are left out.
    """
    for classifier, order in ORDER.items():
        scores = [
            (rank, evidence.patches(info, classifier, info.scaled(removed) if removed else 0))
            for rank, entries in enumerate(order)
            for role, removed in entries
            for info in evidence.present(role)
        ]
        if len(scores) < 3:
            raise MissingEvidenceError(
                "an order needs at least three of MAE, SimMIM, DINO, DINOv2 and Supervised: add models"
            )
        pairs = [
            difference("", one, other)
            for index, (rank, one) in enumerate(scores)
            for later, other in scores[index + 1 :]
            if later != rank
        ]
        in_order = [None if pair.low <= 0 < pair.high else pair.low > 0 for pair in pairs]
        yes, no = in_order.count(True), in_order.count(False)
        low, high = (2 * yes - len(pairs)) / len(pairs), (len(pairs) - 2 * no) / len(pairs)
        point = sum(1 if pair.value > 0 else -1 for pair in pairs) / len(pairs)
        name = f"Kendall's tau of {len(scores)} models by {CLASSIFIERS[classifier]}"
        yield above(Estimate(name, point, low, high), LEAST_AGREEMENT)


def _over_probe(evidence: Evidence, info: ModelInfo) -> Estimate:
    neighbours, probe = evidence.patches(info, "knn"), evidence.patches(info, "probe")
    return ratio(f"1-NN over probe of {info.title}", neighbours, probe)


def _scaling_gain(evidence: Evidence, info: ModelInfo, classifier: str) -> Estimate:
    where = {"classifier": classifier, "outcome": "batchnorm", "reference": "none"}
    rows = evidence.rows(info, "feature-treatments", PATCH_MIOU_DIFFERENCE, **where)
    add = add_analysis("feature-treatments", m=[info.scaled(200)])
    return evidence.estimate(rows, f"{CLASSIFIERS[classifier]} gain of {info.title} by BatchNorm", add)
