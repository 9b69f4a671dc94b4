"""Claims about the variance of features: 5 to 7."""

from collections.abc import Iterator

from evaluate.claims.estimates import Estimate, ratio
from evaluate.claims.evidence import Evidence, distinct
from evaluate.claims.roles import ModelInfo
from evaluate.claims.verdicts import Condition, MissingEvidenceError, above, add_analysis, below
from evaluate.results.metrics import MAX_TO_MEDIAN_VARIANCE, OVERLAP_SHARE, SHARE_OF_VARIANCE

NEARLY_ALL = 0.9
FAR_LOWER = 0.6
"""Midway, rounded, between nearly all and the 0.26 that 200 of 768 features of equal variance hold."""
ORDER_OF_MAGNITUDE = 10.0
STABLE = 0.8975
"""179.5 of 200 features: at least 180."""


def leading_share(evidence: Evidence) -> Iterator[Condition]:
    """Claim 5: MAE's top 200 hold more than 0.9 of the variance, DINO's less than 0.6."""
    for info in evidence.present("mae"):
        yield above(_share(evidence, info), NEARLY_ALL)
    for info in evidence.present("dino"):
        yield below(_share(evidence, info), FAR_LOWER)


def spread(evidence: Evidence) -> Iterator[Condition]:
    """Claim 6: largest over median variance of MAE and SimMIM is ten times that of DINO and Supervised."""
    for masked in evidence.present("mae", "simmim"):
        for other in evidence.present("dino", "supervised"):
            name = f"spread of {masked.title} over that of {other.title}"
            yield above(ratio(name, _spread(evidence, masked), _spread(evidence, other)), ORDER_OF_MAGNITUDE)


def stable_top(evidence: Evidence) -> Iterator[Condition]:
    """Claim 7: of MAE's top 200 at least 180 are the same on every other data set it is compared with."""
    mae = evidence.info("mae")
    m = mae.scaled(200)
    rows = evidence.rows(mae, "ranking-overlap", OVERLAP_SHARE, m=m)
    add = add_analysis("ranking-overlap", m=[m], experiments=["other-data.toml"])
    rows = [row for row in rows if row["outcome"] == "experiment"]
    if not rows:
        raise MissingEvidenceError(f"there is no overlap with another data set of {mae.title}: {add}")
    for reference in distinct(rows, "reference"):
        here = [row for row in rows if row["reference"] == reference]
        name = f"share of the top {m} of {mae.title} that are those of {reference}"
        yield above(evidence.estimate(here, name, add), STABLE)


def _share(evidence: Evidence, info: ModelInfo) -> Estimate:
    m = info.scaled(200)
    rows = evidence.rows(info, "variance-spectrum", SHARE_OF_VARIANCE, m=m)
    add = add_analysis("variance-spectrum", top=[m])
    return evidence.estimate(rows, f"share of variance in the top {m} of {info.title}", add)


def _spread(evidence: Evidence, info: ModelInfo) -> Estimate:
    rows = evidence.rows(info, "variance-spectrum", MAX_TO_MEDIAN_VARIANCE)
    name = f"largest over median variance of {info.title}"
    return evidence.estimate(rows, name, add_analysis("variance-spectrum"))
