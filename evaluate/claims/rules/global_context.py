"""The claim about what one patch knows of the whole image: 18."""

from collections.abc import Iterator

from evaluate.claims.evidence import Evidence
from evaluate.claims.verdicts import Condition, above, add_analysis, below

MARGIN = 0.02
"""R² that counts as no difference; the paper's is 0.004."""


def global_context(evidence: Evidence) -> Iterator[Condition]:
    """Claim 18: R² without MAE's top 200 stays within 0.02 of that of all, is better than that of 200 random features
    alone, which is better than that of the top 200 alone.
    """
    mae = evidence.info("mae")
    m = mae.scaled(200)

    def change(outcome: str, reference: str) -> Iterator[Condition]:
        rows = evidence.rows(mae, "global-context", "r2_difference", outcome=outcome, reference=reference, m=m)
        add = add_analysis("global-context", m=m)
        one = evidence.estimate(rows, f"R² of {mae.title}, {outcome} less {reference}", add)
        if reference == "all":
            yield above(one, -MARGIN)
            yield below(one, MARGIN)
        else:
            yield below(one, 0.0)

    yield from change("without-top", "all")
    yield from change("random-alone", "without-top")
    yield from change("top-alone", "random-alone")
