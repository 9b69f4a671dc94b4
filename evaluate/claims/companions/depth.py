"""Claims about probes of images by layer, about noise in frequency bands, and two that need more: 32 to 36."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
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
    """Claim 34: share of the clean score that probes keep under noise in the lowest and the highest band.

    Of whole images where all models have their accuracy, as in the paper; else the mIoU of patches.
    """
    contrastives, masked_ones = evidence.present("dino", "mocov3"), evidence.present("mae", "simmim")
    every = [*contrastives, *masked_ones]
    of_images = all(len(distinct(_noisy(evidence, one, _IMAGES), "level")) >= 2 for one in every)
    score = _IMAGES if of_images else _PATCHES
    for contrastive in contrastives:
        for masked in masked_ones:
            bands = distinct(_noisy(evidence, contrastive, score), "level")
            if len(bands) < 2:
                raise MissingEvidenceError(
                    f'there are no scores in two frequency bands: add [[views]] name = "{BANDS}" and [[analyses]] kind '
                    '= "robustness"'
                )
            pair = f"{masked.title} less {contrastive.title}", f"{contrastive.title} less {masked.title}"
            low = [_kept(evidence, info, bands[0], score) for info in (masked, contrastive)]
            yield above(difference(f"{score.name} kept in the lowest band, {pair[0]}", *low), 0.0)
            high = [_kept(evidence, info, bands[-1], score) for info in (contrastive, masked)]
            yield above(
                difference(f"{score.name} kept in the highest band, {pair[1]}", *high),
                0.0,
            )


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


@dataclass(frozen=True)
class _Score:
    """A score under noise."""

    metric: str
    name: str
    where: Mapping[str, Any]
    """Values of columns."""


_IMAGES = _Score(IMAGE_ACCURACY, "accuracy on images", {"classifier": "probe", "token": "mean-patch"})
_PATCHES = _Score(PATCH_MIOU, "mIoU", {"classifier": "probe", "m": 0})


def _noisy(evidence: Evidence, info: ModelInfo, score: _Score, **where: Any) -> list[Row]:
    return list(evidence.rows(info, "robustness", score.metric, view=BANDS, **score.where, **where))


def _kept(evidence: Evidence, info: ModelInfo, band: float, score: _Score) -> Estimate:
    add = add_analysis("robustness", classifiers=["probe"])
    clean = evidence.rows(info, "robustness", score.metric, view="clean", **score.where)
    sides = [
        evidence.estimate(rows, f"{score.name} of {info.title} {what}", add)
        for rows, what in ((_noisy(evidence, info, score, level=band), f"in band {band:g}"), (clean, "without noise"))
    ]
    return ratio(f"share of {score.name} kept by {info.title}", *sides)
