"""The claim about class shares predicted from one patch: 18."""

from collections.abc import Iterator

from evaluate.claims.estimates import Estimate
from evaluate.claims.evidence import Evidence
from evaluate.claims.verdicts import Condition, above, add_analysis, below
from evaluate.results.metrics import R2_DIFFERENCE

MARGIN = 0.02
"""R² that counts as no difference; the paper's is 0.004."""


def global_context(evidence: Evidence) -> Iterator[Condition]:
    """Claim 18: R² without MAE's top 200 stays within 0.02 of that of all, is better than that of 200 random features
    alone, which is better than that of the top 200 alone.
    """
    mae = evidence.info("mae")
    m = mae.scaled(200)

    def difference(outcome: str, reference: str) -> Estimate:
        rows = evidence.rows(mae, "global-context", R2_DIFFERENCE, outcome=outcome, reference=reference, m=m)
        return evidence.estimate(
            rows, f"R² of {mae.title}, {outcome} less {reference}", add_analysis("global-context", m=m)
        )

    without_top = difference("without-top", "all")
    yield above(without_top, -MARGIN)
    yield below(without_top, MARGIN)
    yield below(difference("random-alone", "without-top"), 0.0)
    yield below(difference("top-alone", "random-alone"), 0.0)
