"""Claims about probes of images by layer, about noise in frequency bands, and two that need more: 32 to 36."""

from collections.abc import Iterator
from typing import Any

from evaluate.claims.companions.transfer import probe_accuracy
from evaluate.claims.estimates import Estimate, difference, ratio
from evaluate.claims.evidence import Evidence, Row, distinct
from evaluate.claims.roles import ModelInfo
from evaluate.claims.verdicts import Condition, MissingEvidenceError, above, add_analysis
from evaluate.results.metrics import IMAGE_ACCURACY, PATCH_MIOU

BANDS = "frequency-noise"
FEWEST_LAYERS = 6


def profiles(evidence: Evidence) -> Iterator[Condition]:
    """Claim 32: DINO's and MoCo v3's probes are better in the last layer than at half depth, SimMIM's the reverse."""
    for info in evidence.present("dino", "mocov3"):
        half, last = _half_and_last(evidence, info)
        yield above(difference(f"probe of {info.title}: last layer less half depth", last, half), 0.0)
    for info in evidence.present("simmim"):
        half, last = _half_and_last(evidence, info)
        yield above(difference(f"probe of {info.title}: half depth less last layer", half, last), 0.0)


def linear_order(evidence: Evidence) -> Iterator[Condition]:
    """Claim 33: accuracies of the linear probe of the last layer's mean patch, in the order of the paper's figure 1."""
    masked = [evidence.info("mae"), *evidence.present("simmim")]
    for info in evidence.present("dino", "mocov3"):
        sides = [probe_accuracy(evidence, one) for one in (info, masked[0])]
        yield above(difference(f"probe of {info.title} less {masked[0].title}", *sides), 0.0)
    for worse in masked[1:]:
        sides = [probe_accuracy(evidence, one) for one in (masked[0], worse)]
        yield above(difference(f"probe of {masked[0].title} less {worse.title}", *sides), 0.0)


def frequency_noise(evidence: Evidence) -> Iterator[Condition]:
    """Claim 34: share of the clean mIoU that probes of patches keep under noise in the lowest and the highest band."""
    for contrastive in evidence.present("dino", "mocov3"):
        for masked in evidence.present("mae", "simmim"):
            bands = distinct(_noisy(evidence, contrastive), "level")
            if len(bands) < 2:
                raise MissingEvidenceError(
                    f'there are no scores in two frequency bands: add [[views]] name = "{BANDS}" and [[analyses]] kind '
                    '= "robustness"'
                )
            low = [_kept(evidence, info, bands[0]) for info in (masked, contrastive)]
            yield above(difference(f"kept in the lowest band, {masked.title} less {contrastive.title}", *low), 0.0)
            high = [_kept(evidence, info, bands[-1]) for info in (contrastive, masked)]
            yield above(difference(f"kept in the highest band, {contrastive.title} less {masked.title}", *high), 0.0)


def needs_training(evidence: Evidence) -> Iterator[Condition]:
    """Claim 35: not testable."""
    raise MissingEvidenceError("it compares models trained with joint losses, and no such weights are published")
    yield


def needs_stylised_images(evidence: Evidence) -> Iterator[Condition]:
    """Claim 36: not testable."""
    raise MissingEvidenceError("it is measured on Stylized-ImageNet, which is made with a style-transfer network")
    yield


def _half_and_last(evidence: Evidence, info: ModelInfo) -> tuple[Estimate, Estimate]:
    where = {"classifier": "probe", "token": "mean-patch"}
    layers = distinct(evidence.rows(info, "image-classification", IMAGE_ACCURACY, **where), "x_value")
    if len(layers) < FEWEST_LAYERS:
        raise MissingEvidenceError(
            f"a profile needs {FEWEST_LAYERS} layers and {info.title} has {len(layers)}: "
            + add_analysis("image-classification", layers="all", classifiers=["probe"])
        )
    half, last = layers[round(len(layers) * 7 / 12) - 1], layers[-1]
    return probe_accuracy(evidence, info, half), probe_accuracy(evidence, info, last)


def _noisy(evidence: Evidence, info: ModelInfo, **where: Any) -> list[Row]:
    return list(evidence.rows(info, "robustness", PATCH_MIOU, classifier="probe", view=BANDS, m=0, **where))


def _kept(evidence: Evidence, info: ModelInfo, band: float) -> Estimate:
    add = add_analysis("robustness", classifiers=["probe"])
    clean = evidence.rows(info, "robustness", PATCH_MIOU, classifier="probe", view="clean", m=0)
    noisy = evidence.rows(info, "robustness", PATCH_MIOU, classifier="probe", view=BANDS, m=0, level=band)
    sides = [
        evidence.estimate(rows, f"mIoU of {info.title} {what}", add)
        for rows, what in ((noisy, f"in band {band:g}"), (clean, "on clean images"))
    ]
    return ratio(f"share kept by {info.title}", *sides)
