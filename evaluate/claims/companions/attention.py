"""Claims about attention, frequencies and diversity of tokens: 28 to 31 ("What Do Self-Supervised ViTs Learn?")."""

from collections.abc import Iterator

from evaluate.claims.estimates import Estimate, difference, weighted
from evaluate.claims.evidence import Evidence, distinct
from evaluate.claims.roles import ModelInfo
from evaluate.claims.verdicts import Condition, MissingEvidenceError, above, add_analysis
from evaluate.results import metrics


def distance(evidence: Evidence) -> Iterator[Condition]:
    """Claim 28: mean attention distance on the unit square, over the last third of the blocks."""
    for contrastive, masked in _pairs(evidence):
        sides = _late(evidence, (contrastive, masked), "attention", metrics.ATTENTION_DISTANCE_UNIT)
        yield above(difference(f"attention distance of {contrastive.title} less {masked.title}", *sides), 0.0)


def collapse(evidence: Evidence) -> Iterator[Condition]:
    """Claim 29: mutual information of query and key, over the last third of the blocks."""
    for contrastive, masked in _pairs(evidence):
        sides = _late(evidence, (masked, contrastive), "attention", metrics.ATTENTION_NMI)
        yield above(difference(f"NMI of {masked.title} less {contrastive.title}", *sides), 0.0)


def frequencies(evidence: Evidence) -> Iterator[Condition]:
    """Claim 30: log amplitude of the highest frequency less that of frequency 0, after the last block."""
    add = add_analysis("frequency")
    for contrastive, masked in _pairs(evidence):
        sides = []
        for info in (masked, contrastive):
            rows = evidence.rows(info, "frequency", metrics.DELTA_LOG_AMPLITUDE_HIGHEST)
            last = max(distinct(rows, "x_value"), default=None)
            rows = [row for row in rows if row["x_value"] == last]
            sides.append(evidence.estimate(rows, f"highest frequency of {info.title}", add))
        yield above(difference(f"highest frequency of {masked.title} less {contrastive.title}", *sides), 0.0)


def diversity(evidence: Evidence) -> Iterator[Condition]:
    """Claim 31: mean cosine of heads, and of patches, over the last third of the blocks."""
    words = {metrics.HEAD_COSINE: "heads", metrics.SPACE_COSINE: "patches"}
    for contrastive, masked in _pairs(evidence):
        for metric, what in words.items():
            sides = _late(evidence, (contrastive, masked), "token-geometry", metric)
            yield above(difference(f"cosine of {what} of {contrastive.title} less {masked.title}", *sides), 0.0)


def _pairs(evidence: Evidence) -> Iterator[tuple[ModelInfo, ModelInfo]]:
    """Yield every contrastive model with every masked one."""
    for contrastive in evidence.present("dino", "mocov3"):
        for masked in evidence.present("mae", "simmim"):
            yield contrastive, masked


def _late(evidence: Evidence, infos: tuple[ModelInfo, ...], analysis: str, metric: str) -> list[Estimate]:
    """Return the mean of a metric over the last third of each model's blocks."""
    add = add_analysis(analysis)
    found = []
    for info in infos:
        rows = evidence.rows(info, analysis, metric, outcome=None)
        depths = distinct(rows, "x_value")
        if len(depths) < 3:
            raise MissingEvidenceError(
                f"the last third of the blocks needs three and {info.title} has {len(depths)} with {metric}: {add}"
            )
        late = depths[-max(1, len(depths) // 3) :]
        estimates = [
            evidence.estimate([row for row in rows if row["x_value"] == depth], f"{metric} of {info.title}", add)
            for depth in late
        ]
        found.append(weighted(f"late {metric} of {info.title}", [(1.0 / len(late), one) for one in estimates]))
    return found
