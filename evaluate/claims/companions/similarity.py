"""Claims about the similarity of models by CKA: 21 to 24 and 27 ("Objectives Matter")."""

from collections.abc import Iterator, Sequence

from evaluate.claims.estimates import Estimate, difference, weighted
from evaluate.claims.evidence import Evidence, Row, distinct
from evaluate.claims.roles import ModelInfo
from evaluate.claims.verdicts import Condition, MissingEvidenceError, above, add_analysis
from evaluate.results.metrics import CKA

TOKENS = ("patches", "all", "mean-patch", "class-token")
"""Kinds of token, the preferred one first."""
_ADD = add_analysis("similarity")


def objectives(evidence: Evidence) -> Iterator[Condition]:
    """Claim 21: every masked model is less like each of the first two joint-embedding models than these are alike."""
    joint = evidence.present("dino", "dinov2", "ibot", "mocov3")
    if len(joint) < 2:
        raise MissingEvidenceError(
            "one joint-embedding model is there and two are compared: add another, such as dinov2 or ibot"
        )
    alike = _cka(evidence, joint[0], joint[1])
    for masked in evidence.present("mae", "simmim"):
        for other in joint[:2]:
            name = f"{alike.name} less that of {masked.title} and {other.title}"
            yield above(difference(name, alike, _cka(evidence, masked, other)), 0.0)


def architectures(evidence: Evidence) -> Iterator[Condition]:
    """Claim 22: two models of DINO's role and other widths are more alike than MAE and DINO of one width."""
    mae, dino = evidence.info("mae"), evidence.info("dino")
    others = [info for info in evidence.every if info.role == "dino" and info.width != dino.width]
    if not others:
        raise MissingEvidenceError('there is no second architecture: add a model of another width with role = "dino"')
    if mae.width != dino.width:
        raise MissingEvidenceError(f"{mae.title} and {dino.title} are of different widths: compare models of one")
    same_objective, same_architecture = _cka(evidence, dino, others[0]), _cka(evidence, mae, dino)
    yield above(
        difference(f"{same_objective.name} less {same_architecture.name}", same_objective, same_architecture), 0.0
    )


def early(evidence: Evidence) -> Iterator[Condition]:
    """Claim 23: CKA falls over the blocks, and at half depth lies below the mean of the first and the last block's."""
    mae, dino = evidence.info("mae"), evidence.info("dino")
    first, half, last = (_cka(evidence, mae, dino, share) for share in (0.0, 0.5, 1.0))
    yield above(difference("CKA of first blocks less that of last blocks", first, last), 0.0)
    name = "mean CKA of first and last blocks less that at half depth"
    yield above(weighted(name, [(0.5, first), (0.5, last), (-1.0, half)]), 0.0)


def sublayers(evidence: Evidence) -> Iterator[Condition]:
    """Claim 24: mean CKA over the blocks of the MLPs' outputs is above that of attention and both norms."""
    mae, dino = evidence.info("mae"), evidence.info("dino")
    mlp = _mean_cka(evidence, mae, dino, "mlp")
    for point in ("attention", "norm1", "norm2"):
        other = _mean_cka(evidence, mae, dino, point)
        yield above(difference(f"mean CKA of mlp less that of {point}", mlp, other), 0.0)


def fine_tuning(evidence: Evidence) -> Iterator[Condition]:
    """Claim 27: the last layers of fine-tuned MAE and DINO are more alike than those of MAE and DINO."""
    tuned, plain = (_cka(evidence, evidence.info(role), evidence.info("dino")) for role in ("mae-finetuned", "mae"))
    yield above(difference(f"{tuned.name} less {plain.name}", tuned, plain), 0.0)


def _rows(evidence: Evidence, one: ModelInfo, other: ModelInfo, point: str | None) -> list[Row]:
    """Return the rows of two models at a point, of the preferred kind of token, whichever model comes first."""
    for first, second in ((one, other), (other, one)):
        rows = evidence.rows(first, "similarity", CKA, reference=second.title, outcome=point)
        for token in TOKENS:
            of_token = [row for row in rows if row["token"] == token]
            if of_token:
                return of_token
    where = f' with points = ["{point}"]' if point else ""
    raise MissingEvidenceError(f"there is no CKA of {one.title} and {other.title}: {_ADD}{where}")


def _cka(evidence: Evidence, one: ModelInfo, other: ModelInfo, share: float = 1.0) -> Estimate:
    """Return CKA of the block outputs at a share of the depth of both models: 0 is the first block, 1 the last."""
    rows = _rows(evidence, one, other, None)
    layers, depths = distinct(rows, "layer"), distinct(rows, "x_value")
    layer, depth = (values[round(share * (len(values) - 1))] for values in (layers, depths))
    found = [row for row in rows if row["layer"] == layer and row["x_value"] == depth]
    return evidence.estimate(found, f"CKA of {one.title} and {other.title}", _ADD)


def _mean_cka(evidence: Evidence, one: ModelInfo, other: ModelInfo, point: str) -> Estimate:
    """Return the mean CKA of corresponding blocks at a point; raises MissingEvidenceError for unequal depths."""
    rows = _rows(evidence, one, other, point)
    layers, depths = distinct(rows, "layer"), distinct(rows, "x_value")
    if len(layers) != len(depths):
        raise MissingEvidenceError(f"{one.title} and {other.title} differ in depth: compare models of one depth")
    pairs: Sequence[tuple[object, object]] = list(zip(layers, depths, strict=True))
    estimates = [
        evidence.estimate([row for row in rows if (row["layer"], row["x_value"]) == pair], f"CKA of {point}", _ADD)
        for pair in pairs
    ]
    return weighted(f"mean CKA of {point}", [(1.0 / len(estimates), one) for one in estimates])
