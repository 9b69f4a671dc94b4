"""Claims: findings of the papers as rules over results; each holds, fails or is not testable, by intervals alone.

Sentences are those of the papers, thresholds stand beside each rule. A claim is tested only where its
models pass the gate (`evaluate.claims.gate`).
"""

from collections.abc import Sequence
from dataclasses import replace

from evaluate.claims.alternatives import ALTERNATIVE_CLAIMS, is_asked
from evaluate.claims.claim import Claim as Claim
from evaluate.claims.companions import ANALYSES, COMPANION_CLAIMS
from evaluate.claims.evidence import Evidence
from evaluate.claims.gate import by_images, by_tracking, pass_gate
from evaluate.claims.roles import ModelInfo
from evaluate.claims.rules import (
    global_context,
    neighbours,
    reconstruction,
    retrieval,
    robustness,
    sizes_and_layers,
    tracking,
    variance,
    whole_inputs,
)
from evaluate.claims.verdicts import Condition, Decision, MissingEvidenceError, collected, verdict_of

CLAIMS = (
    Claim(
        1,
        "Models that reconstruct pixels have 1-NN far below the linear probe; others do not.",
        ("mae", "dino"),
        ("simmim", "dinov2", "supervised"),
        neighbours.gap_to_probe,
    ),
    Claim(
        2,
        "Removing the features of highest variance raises MAE's 1-NN, and not that of DINO, DINOv2 or Supervised.",
        ("mae", "dino"),
        ("dinov2", "supervised"),
        neighbours.removal,
    ),
    Claim(
        3,
        "MAE's gain is already large with 10 features removed and peaks near a quarter of them.",
        ("mae",),
        (),
        neighbours.sweep,
    ),
    Claim(4, "MAE's linear probe is unharmed by removing its top 200.", ("mae",), (), neighbours.probe_unharmed),
    Claim(5, "MAE's top 200 carry nearly all variance, DINO's far less.", ("mae", "dino"), (), variance.leading_share),
    Claim(
        6,
        "The largest over the median variance is far higher for MAE and SimMIM than for DINO and Supervised.",
        ("mae", "dino"),
        ("simmim", "supervised"),
        variance.spread,
    ),
    Claim(7, "MAE's top 200 are nearly the same on other data sets.", ("mae",), (), variance.stable_top),
    Claim(
        8,
        "Standardising features recovers MAE's 1-NN about as much as removing 200; it raises SimMIM's 1-NN and lowers "
        "its probe.",
        ("mae",),
        ("simmim",),
        neighbours.standardising,
    ),
    Claim(
        9,
        "By 1-NN DINOv2 > DINO > Supervised > MAE without 200 > SimMIM > MAE; by probe DINOv2 > DINO ~ MAE > "
        "Supervised > SimMIM.",
        ("mae", "dino"),
        ("simmim", "dinov2", "supervised"),
        neighbours.ranks,
    ),
    Claim(
        10,
        "The linear probe gains more than 1-NN from more training images.",
        ("mae", "dino"),
        ("simmim", "dinov2", "supervised"),
        sizes_and_layers.more_images,
    ),
    Claim(
        11,
        "Over the layers DINO and Supervised saturate about layer 8, DINOv2 jumps in the last three, SimMIM is best in "
        "the middle.",
        ("dino", "dinov2"),
        ("supervised", "simmim"),
        sizes_and_layers.profiles,
    ),
    Claim(
        12,
        "DINO finds the same patch under small transforms more often than DINOv2, iBOT at least as often as DINO; "
        "DINOv2 is best when the own tile is left out.",
        ("dino", "dinov2"),
        ("ibot", "supervised", "mae"),
        retrieval.order_of_models,
    ),
    Claim(
        13,
        "Under tiny noise MAE finds the same patch in about 40 to 50 % and its misses are background; without 200 it "
        "is near DINO.",
        ("mae", "dino"),
        (),
        retrieval.masked_model,
    ),
    Claim(
        14,
        "Rotation and scale hurt finding the same patch more than the strongest blur or noise.",
        ("dino",),
        ("dinov2", "supervised", "ibot"),
        retrieval.rotation_and_scale,
    ),
    Claim(
        15,
        "Tracking falls with the gap and flattens; DINO and DINOv2 > MAE without 200 > Supervised >= MAE; DINO >= "
        "DINOv2 at small gaps; wrong objects have the right category.",
        ("dino", "mae"),
        ("dinov2", "supervised"),
        tracking.tracking,
        by_tracking,
        analyses=("tracking",),
    ),
    Claim(
        16,
        "Scale-MAE's mean patch without 200 beats the class token, which beats the mean patch, at most sizes; the "
        "class token does not change without 200.",
        ("scale-mae",),
        (),
        whole_inputs.over_sizes,
        by_images,
        analyses=("image-knn",),
    ),
    Claim(17, "Zeroing MAE's top 200 worsens reconstruction mildly.", ("mae",), (), reconstruction.reconstruction),
    Claim(
        18,
        "What a patch of MAE knows of the image: all ~ without the top 200 > 200 random features alone > the top 200 "
        "alone.",
        ("mae",),
        (),
        global_context.global_context,
    ),
    Claim(
        19,
        "Tiles beat whole images for segmentation; for tracking MAE prefers whole images.",
        ("mae", "dino"),
        (),
        whole_inputs.tiles,
    ),
    Claim(
        20,
        "Supervised does not mind the highest frequency band, MAE is worst in all bands, and its 1-NN collapses to one "
        "class under any corruption.",
        ("supervised", "mae"),
        ("dino", "dinov2"),
        robustness.bands_and_collapse,
    ),
)
"""Every claim of the main paper, in its catalogue's numbering; those of its companions are `COMPANION_CLAIMS`,
those of no paper `ALTERNATIVE_CLAIMS`."""


def decide(claim: Claim, evidence: Evidence) -> Decision:
    """Return the decision on a claim by some evidence.

    A model of ``joins`` that does not pass the gate is left out, and named in the reason. Where a model is missing or
    does not pass, or rows are missing, the conditions of the others are the part that is tested. Where nothing is
    missing and an interval covers its threshold there is no such part.
    """
    needed, missing = _needed(claim, evidence)
    joined, left_out = _passing(claim, evidence, evidence.present(*claim.joins))
    admitted = [*needed, *joined]
    conditions = claim.rule(evidence.among(admitted))
    verdict, numbers, reason = ("not testable", (), missing) if missing else verdict_of(conditions)
    part = verdict
    if verdict == "not testable":
        alone = _decided_alone(claim, evidence, admitted)
        is_whole = not missing and not collected(claim.rule(evidence.among(admitted)))[1]
        part = verdict if is_whole else verdict_of(iter(alone))[0]
        numbers = tuple(dict.fromkeys((*numbers, *map(str, alone))))
    titles = tuple(info.title for info in (*evidence.present(*claim.needs), *joined))
    reason = "; ".join([reason, *left_out])
    return Decision(claim.number, claim.sentence, verdict, numbers, reason, titles, claim.paper, part)


def _needed(claim: Claim, evidence: Evidence) -> tuple[list[ModelInfo], str]:
    """Return the models of ``needs`` that are there and pass the gate, and why not all do; empty where all do."""
    present = evidence.present(*claim.needs)
    try:
        every = [evidence.info(role) for role in claim.needs]
        if claim.measure is not None:
            pass_gate(evidence, every, claim.measure)
    except MissingEvidenceError as error:
        return _passing(claim, evidence, present)[0], str(error)
    return present, ""


def _passing(claim: Claim, evidence: Evidence, models_info: Sequence[ModelInfo]) -> tuple[list[ModelInfo], list[str]]:
    """Return the models that pass the gate one by one, and a sentence on each that does not."""
    passing, left_out = [], []
    for info in models_info:
        try:
            if claim.measure is not None:
                pass_gate(evidence, [info], claim.measure)
            passing.append(info)
        except MissingEvidenceError as error:
            left_out.append(f"{info.title} was left out: {error}")
    return passing, left_out


def _decided_alone(claim: Claim, evidence: Evidence, admitted: Sequence[ModelInfo]) -> list[Condition]:
    """Return the conditions that do not need the models or rows that are missing: of all models, and of each alone."""
    found: dict[str, Condition] = {}
    for some in (admitted, *([info] for info in admitted)):
        for condition in collected(claim.rule(evidence.among(some)))[0] if some else ():
            found.setdefault(str(condition), condition)
    return list(found.values())


def decide_all(evidence: Evidence) -> list[Decision]:
    """Return the decision on every claim.

    Those of the companion papers and those of no paper only where one of their analyses was run, here or beside. A
    claim whose analyses were not run here is decided by the first experiment beside that ran them on the same models.
    """
    asked = evidence.analyses.union(*(other.analyses for other in evidence.beside))
    companions = COMPANION_CLAIMS if asked.intersection(ANALYSES) else ()
    alternatives = ALTERNATIVE_CLAIMS if is_asked(evidence) else ()
    return [_decide_here_or_beside(claim, evidence) for claim in (*CLAIMS, *companions, *alternatives)]


def _decide_here_or_beside(claim: Claim, evidence: Evidence) -> Decision:
    """Return the decision, whose reason names the experiment beside that it rests on."""
    if evidence.analyses.issuperset(claim.analyses):
        return decide(claim, evidence)
    roles = (*claim.needs, *claim.joins)
    here = evidence.present(*roles)
    differing = []
    for other in evidence.beside:
        if not other.analyses.issuperset(claim.analyses):
            continue
        there = other.present(*roles)
        if len(here) == len(there) and all(map(ModelInfo.is_same_model, here, there)):
            decision = decide(claim, other.with_beside((evidence, *evidence.beside)))
            return replace(decision, reason=f"{decision.reason}; by the results of {other.experiment}")
        differing.append(other.experiment)
    decision = decide(claim, evidence)
    if not differing:
        return decision
    named = f"{' and '.join(differing)} measured other models or weights under the same roles"
    return replace(decision, reason=f"{decision.reason}; {named}")
