"""Questions beyond the papers: does another treatment do for 1-NN what removing the top m does, and is m position?

Claims 37 to 44 are about every model with a role that passes the gate, and hold where they hold for all of them; their
numbers say for which. They are decided only where `feature-treatments` compared with ``remove-top``, or split variance.
"""

from collections.abc import Iterator
from functools import partial

from evaluate.claims.claim import Claim
from evaluate.claims.evidence import Evidence
from evaluate.claims.roles import ROLES, ModelInfo
from evaluate.claims.verdicts import Condition, MissingEvidenceError, above, add_analysis
from evaluate.kernels.treatments import Treatment
from evaluate.results.metrics import PATCH_MIOU_DIFFERENCE, POSITION_SHARE

NO_PAPER = "no paper"
"""In place of a paper: nobody has published these as findings."""
NOISE = 0.02
"""mIoU that counts as no change, as in claims 2 and 4."""
MOST = 0.5
"""Share of the variance from which it is most of it."""
_EVERY = tuple(role for role in ROLES if role not in ("random", "none"))
_SENTENCES = {
    "remove-position": "Projecting positional directions out",
    "remove-first-components": "Projecting the first principal directions out",
    "pca-k": "Keeping the first principal directions alone",
    "drop-outlier-tokens": "Leaving training tokens of aberrant norm out",
    "batchnorm": "Standardising features",
    "whiten": "Whitening",
    "l2": "Scaling tokens to unit length",
}
"""Treatments that are compared with removing the top m."""


def as_good_as_removal(evidence: Evidence, treatment: str) -> Iterator[Condition]:
    """Claims 37 to 43: 1-NN mIoU under a treatment is at most 0.02 below that without the top 200, in pairs."""
    for info in _models(evidence):
        m = info.scaled(200)
        where = {"classifier": "knn", "outcome": treatment, "reference": Treatment("remove-top", m).label}
        rows = evidence.rows(info, "feature-treatments", PATCH_MIOU_DIFFERENCE, **where)
        add = add_analysis(
            "feature-treatments", treatments=["remove-top", treatment], m=[m], references=["none", "remove-top"]
        )
        yield above(evidence.estimate(rows, f"1-NN of {info.title}, {treatment} less {m} removed", add), -NOISE)


def mostly_positional(evidence: Evidence) -> Iterator[Condition]:
    """Claim 44: more than half of the variance of the top 200 lies between mean tokens of places."""
    for info in _models(evidence):
        m = info.scaled(200)
        rows = evidence.rows(info, "feature-treatments", POSITION_SHARE, outcome="remove-top", m=m)
        add = add_analysis("feature-treatments", m=[m], parts=["scores", "removed"])
        yield above(evidence.estimate(rows, f"positional share of the top {m} of {info.title}", add), MOST)


def _models(evidence: Evidence) -> Iterator[ModelInfo]:
    found = evidence.models_info
    if not found:
        raise MissingEvidenceError("no model with a role passes the gate: add one, or set role in a [[models]] table")
    yield from found


def is_asked(evidence: Evidence) -> bool:
    """Return whether some result is about these claims."""
    return any(
        evidence.rows(info, "feature-treatments", POSITION_SHARE)
        or any(row["reference"] != "none" for row in evidence.rows(info, "feature-treatments", PATCH_MIOU_DIFFERENCE))
        for info in evidence.models_info
    )


ALTERNATIVE_CLAIMS = (
    *(
        Claim(
            number,
            f"{sentence} is as good for 1-NN as removing the features of highest variance.",
            (),
            _EVERY,
            partial(as_good_as_removal, treatment=name),
            paper=NO_PAPER,
        )
        for number, (name, sentence) in enumerate(_SENTENCES.items(), 37)
    ),
    Claim(
        44,
        "Most of the variance of the features of highest variance is positional.",
        (),
        _EVERY,
        mostly_positional,
        paper=NO_PAPER,
    ),
)
