"""Claims about whole images: nearest neighbours over sizes (16), and tiles against whole images (19)."""

from collections.abc import Callable, Iterator
from functools import partial

from evaluate.claims.estimates import Estimate, difference, share
from evaluate.claims.evidence import Evidence, distinct
from evaluate.claims.roles import ROLES, ModelInfo
from evaluate.claims.verdicts import Condition, MissingEvidenceError, above, add_analysis
from evaluate.results.metrics import IMAGE_ACCURACY, INSTANCE_ACCURACY

MARGIN = 0.02
"""Accuracy that counts as no difference."""


def over_sizes(evidence: Evidence) -> Iterator[Condition]:
    """Claim 16: at most ground distances Scale-MAE's mean patch without its top 200 beats the class token, which beats
    the mean patch; without the 200 the class token stays within 0.02.
    """
    scale_mae = evidence.info("scale-mae")
    m = scale_mae.scaled(200)
    sizes = distinct(evidence.rows(scale_mae, "image-knn", IMAGE_ACCURACY), "x_value")
    if not sizes:
        raise MissingEvidenceError(f"there is no image accuracy: {add_analysis('image-knn', remove=[0, 200])}")
    better: dict[str, list[bool | None]] = {
        "mean patch without the top features beats the class token": [],
        "the class token beats the mean patch": [],
        "the class token stays the same without the top features": [],
    }
    names = list(better)
    for size in sizes:
        token, without = (_images(evidence, scale_mae, "class-token", removed, size) for removed in (0, m))
        mean, mean_without = (_images(evidence, scale_mae, "mean-patch", removed, size) for removed in (0, m))
        better[names[0]].append(above(difference("", mean_without, token), 0.0).outcome)
        better[names[1]].append(above(difference("", token, mean), 0.0).outcome)
        change = difference("", without, token)
        within = change.low > -MARGIN and change.high < MARGIN
        outside = change.low >= MARGIN or change.high <= -MARGIN
        better[names[2]].append(True if within else False if outside else None)
    for name, outcomes in better.items():
        yield above(share(f"share of {len(sizes)} sizes at which {name}", outcomes), 0.5)


def tiles(evidence: Evidence) -> Iterator[Condition]:
    """Claim 19: MAE and DINO classify patches of tiles better than patches of whole images, by probe and by 1-NN; for
    tracking MAE is better on whole images.

    The two ways are two experiments on the same data: one is the experiment itself or both stand in
    ``[claims] beside``. Tracking is compared at the middle gap.
    """
    for role in (info.role for info in evidence.present("mae", "dino")):
        for classifier in ("probe", "knn"):
            tiled, whole = _both(evidence, role, partial(Evidence.patches, classifier=classifier))
            yield above(difference(f"{tiled.name}, tiles less whole images", tiled, whole), 0.0)
    for info in evidence.present("mae"):
        tiled, whole = _both(evidence, info.role, _tracked)
        yield above(difference(f"{tiled.name}, whole images less tiles", whole, tiled), 0.0)


def _images(evidence: Evidence, info: ModelInfo, token: str, m: int, size: float) -> Estimate:
    rows = evidence.rows(info, "image-knn", IMAGE_ACCURACY, token=token, m=m, x_value=size)
    name = f"accuracy of {info.title} by {token} at {size:g} of the native size" + (f", {m} removed" if m else "")
    return evidence.estimate(rows, name, add_analysis("image-knn", remove=[0, m or 200]))


def _tracked(evidence: Evidence, info: ModelInfo) -> Estimate:
    rows = evidence.rows(info, "tracking", INSTANCE_ACCURACY, m=0)
    gaps = distinct(rows, "x_value")
    rows = [row for row in rows if row["x_value"] == gaps[len(gaps) // 2]]
    return evidence.estimate(rows, f"tracking accuracy of {info.title}", add_analysis("tracking"))


def _both(evidence: Evidence, role: str, score: Callable[[Evidence, ModelInfo], Estimate]) -> tuple[Estimate, Estimate]:
    """Return a score on tiles and on whole images of one data set."""
    ways: dict[tuple[str, bool], Estimate] = {}
    lacking: dict[tuple[str, bool], MissingEvidenceError] = {}
    own = evidence.present(role)
    for one in (evidence, *evidence.beside):
        for info in one.present(role):
            if info.frame.edge == "centre":  # neither tiles nor whole images
                continue
            if not all(map(info.is_same_model, own)):
                continue
            way = info.data_set, info.frame.tile is not None
            try:
                ways.setdefault(way, score(one, info))
            except MissingEvidenceError as error:  # this experiment may have other analyses
                lacking[way] = error
    for data_set in dict.fromkeys(name for name, _ in ways):
        if (data_set, True) in ways and (data_set, False) in ways:
            return ways[data_set, True], ways[data_set, False]
    # Both ways are there of a data set, and one of them says less than is needed.
    for (data_set, tiled), reason in lacking.items():
        if (data_set, not tiled) in ways.keys() | lacking.keys():
            raise reason
    raise MissingEvidenceError(
        f"{ROLES[role]} was not scored both on tiles and on whole images of one data set: evaluate an experiment with "
        '`tile` in [frame] and one without, and name the other in [claims] beside = ["..."]'
    )
