"""Claims about what linear probes find in one vector an image: 25 and 26 ("Objectives Matter")."""

from collections.abc import Iterator

from evaluate.claims.estimates import Estimate, difference
from evaluate.claims.evidence import Evidence, distinct
from evaluate.claims.roles import ModelInfo
from evaluate.claims.verdicts import Condition, MissingEvidenceError, above, add_analysis
from evaluate.results.metrics import IMAGE_ACCURACY, INVARIANCE, R2

FEW = 20
"""Number of random features that count as few."""
TARGETS = ("count", "position")


def joint_embedding(evidence: Evidence) -> Iterator[Condition]:
    """Claim 25: DINO's probe is above MAE's, from 20 random features too, and so is its invariance to every view."""
    mae, dino = evidence.info("mae"), evidence.info("dino")
    scores = [probe_accuracy(evidence, info) for info in (dino, mae)]
    yield above(difference(f"probe of {dino.title} less that of {mae.title}", *scores), 0.0)
    few = [_few(evidence, info) for info in (dino, mae)]
    yield above(difference(f"probe of {FEW} features of {dino.title} less that of {mae.title}", *few), 0.0)
    add = add_analysis("invariance")
    rows = {info.title: evidence.rows(info, "invariance", INVARIANCE) for info in (dino, mae)}
    views = distinct(rows[dino.title], "view")
    if not views:
        raise MissingEvidenceError(f"there is no invariance of {dino.title}: {add}")
    for view in views:
        sides = []
        for info in (dino, mae):
            some = [row for row in rows[info.title] if row["view"] == view]
            most = max((row["level"] for row in some), default=None)
            sides.append(evidence.estimate([row for row in some if row["level"] == most], f"invariance to {view}", add))
        yield above(difference(f"invariance to {view} of {dino.title} less that of {mae.title}", *sides), 0.0)


def spatial_detail(evidence: Evidence) -> Iterator[Condition]:
    """Claim 26: R² of number and place of objects, of the last layer's mean patch, is higher for MAE than for DINO."""
    mae, dino = evidence.info("mae"), evidence.info("dino")
    add = add_analysis("object-positions")
    for target in TARGETS:
        where = {"outcome": target, "token": "mean-patch"}
        sides = [
            evidence.estimate(
                evidence.rows(info, "object-positions", R2, **where), f"R² of {target}, {info.title}", add
            )
            for info in (mae, dino)
        ]
        yield above(difference(f"R² of {target} of {mae.title} less that of {dino.title}", *sides), 0.0)


def probe_accuracy(evidence: Evidence, info: ModelInfo, layer: float | None = None) -> Estimate:
    """Return the accuracy of the linear probe of images from the mean patch, of the last layer or another."""
    where = {"classifier": "probe", "token": "mean-patch"}
    rows = evidence.rows(info, "image-classification", IMAGE_ACCURACY, **where)
    rows = [row for row in rows if layer is None or row["x_value"] == layer]
    add = add_analysis("image-classification", classifiers=["probe"], pooled=["mean-patch"])
    return evidence.estimate(rows, f"probe accuracy of {info.title}", add)


def _few(evidence: Evidence, info: ModelInfo) -> Estimate:
    rows = evidence.rows(info, "information", IMAGE_ACCURACY, outcome="random", x_value=float(FEW))
    add = add_analysis("information", features=[FEW])
    return evidence.estimate(rows, f"probe accuracy of {FEW} features of {info.title}", add)
