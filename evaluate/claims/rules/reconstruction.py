"""The claim about reconstruction with features zeroed: 17."""

from collections.abc import Iterator

from evaluate.claims.evidence import Evidence
from evaluate.claims.roles import ModelInfo
from evaluate.claims.verdicts import Condition, MissingEvidenceError, above, add_analysis, below
from evaluate.results.metrics import MSE_NORMALISED_OVER_MEAN_PATCH, MSE_NORMALISED_RATIO

MILD = 1.5
"""Error over that of untouched features which still counts as mild; the paper has 1.22 and 1.14."""
MASKINGS = (0.0, 0.75)


def reconstruction(evidence: Evidence) -> Iterator[Condition]:
    """Claim 17: without its top 200 MAE's squared error grows, and by less than half, with no patch and with 75 % of
    the patches masked.

    A ratio of two bad pictures is near 1 too, so that it counts only where the untouched one beats the mean patch.
    """
    mae = evidence.info("mae")
    m = mae.scaled(200)
    add = add_analysis("reconstruction", m=m)
    rows = evidence.rows(mae, "reconstruction", MSE_NORMALISED_RATIO, outcome="top", m=m, x_name="mask_ratio")
    if not rows:
        raise MissingEvidenceError(f"there is no reconstruction by {mae.title}: {add}")
    for masking in MASKINGS:
        _beats_mean_patch(evidence, mae, masking, add)
    for masking in MASKINGS:
        here = [row for row in rows if row["x_value"] == masking]
        name = f"squared error of {mae.title} without its top features over all, {masking:.0%} masked"
        change = evidence.estimate(here, name, f"{add} and masking = [0.0, 0.75]")
        yield above(change, 1.0)
        yield below(change, MILD)


def _beats_mean_patch(evidence: Evidence, info: ModelInfo, masking: float, add: str) -> None:
    """Raise MissingEvidenceError unless the error with nothing zeroed is below that of the mean visible patch."""
    where = {"outcome": "none", "x_name": "mask_ratio", "x_value": masking}
    rows = evidence.rows(info, "reconstruction", MSE_NORMALISED_OVER_MEAN_PATCH, **where)
    name = f"squared error of {info.title} over that of the mean patch, {masking:.0%} masked"
    untouched = evidence.estimate(rows, name, f"{add} and masking = [0.0, 0.75]")
    if not untouched.high < 1.0:
        raise MissingEvidenceError(
            f"the interval of {untouched} covers 1 or lies above: what it draws shows nothing here"
        )
