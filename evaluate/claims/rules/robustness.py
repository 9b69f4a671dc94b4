"""The claim about noise in frequency bands and about collapse: 20."""

from collections.abc import Iterator

from evaluate.claims.estimates import Estimate, difference, ratio
from evaluate.claims.evidence import Evidence, distinct
from evaluate.claims.roles import ModelInfo
from evaluate.claims.verdicts import Condition, MissingEvidenceError, above, add_analysis
from evaluate.results.metrics import LARGEST_PREDICTED_SHARE, PATCH_MIOU, PATCH_MIOU_DIFFERENCE

BANDS = "frequency-noise"
CLASSIFIER = "probe"
"""Bands are compared by the probe: MAE's 1-NN has nothing to lose."""
SAME = 0.02
"""mIoU that counts as no loss."""
COLLAPSED = 0.9
"""Share of one predicted class that counts as a collapse."""


def bands_and_collapse(evidence: Evidence) -> Iterator[Condition]:
    """Claim 20: Supervised loses less than 0.02 in the highest band; in every band MAE keeps the smallest share of its
    clean mIoU; the least of every corruption puts over 90 % of MAE's 1-NN predictions on one class.
    """
    bands = next((found for info in evidence.present("mae", "supervised") if (found := _bands(evidence, info))), [])
    if not bands:
        raise MissingEvidenceError(
            f'there is no score in frequency bands: add [[views]] name = "{BANDS}" and [[analyses]] kind = "robustness"'
        )
    for supervised in evidence.present("supervised"):
        where = {"classifier": CLASSIFIER, "view": BANDS, "level": max(bands), "m": 0}
        rows = evidence.rows(supervised, "robustness", PATCH_MIOU_DIFFERENCE, **where)
        yield above(evidence.estimate(rows, f"change of {supervised.title} in the highest band", _ADD), -SAME)
    for mae in evidence.present("mae"):
        for band in bands:
            worst = _kept(evidence, mae, band)
            for info in evidence.present("supervised", "dino", "dinov2"):
                name = f"share kept in band {band:g}, {info.title} less {mae.title}"
                yield above(difference(name, _kept(evidence, info, band), worst), 0.0)
        yield from _collapses(evidence, mae)


def _collapses(evidence: Evidence, mae: ModelInfo) -> Iterator[Condition]:
    """Yield the conditions of claim 20 on MAE's predictions under the least of every corruption."""
    shares = evidence.rows(mae, "robustness", LARGEST_PREDICTED_SHARE, classifier="knn", m=0)
    if not distinct(shares, "level"):
        raise MissingEvidenceError(f"there are no 1-NN predictions of {mae.title} on changed images: {_ADD}")
    for view in distinct([row for row in shares if row["level"] is not None], "view"):
        least = distinct([row for row in shares if row["view"] == view], "level")[0]
        rows = [row for row in shares if (row["view"], row["level"]) == (view, least)]
        name = f"largest predicted share of {mae.title}, {view} {least:g}"
        yield above(evidence.estimate(rows, name, _ADD), COLLAPSED)


_ADD = add_analysis("robustness", classifiers=["knn", "probe"])


def _bands(evidence: Evidence, info: ModelInfo) -> list[float]:
    rows = evidence.rows(info, "robustness", PATCH_MIOU, classifier=CLASSIFIER, view=BANDS, m=0)
    return distinct(rows, "level")


def _kept(evidence: Evidence, info: ModelInfo, band: float) -> Estimate:
    where = {"classifier": CLASSIFIER, "m": 0}
    noisy = evidence.rows(info, "robustness", PATCH_MIOU, view=BANDS, level=band, **where)
    clean = evidence.rows(info, "robustness", PATCH_MIOU, view="clean", **where)
    names = [f"mIoU of {info.title} in band {band:g}", f"clean mIoU of {info.title}"]
    sides = [evidence.estimate(rows, name, _ADD) for rows, name in zip((noisy, clean), names, strict=True)]
    return ratio(f"share kept by {info.title}", sides[0], sides[1])
