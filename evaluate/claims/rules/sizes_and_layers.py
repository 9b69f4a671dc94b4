"""Claims about training sizes and layers: 10 and 11."""

from collections.abc import Iterator

from evaluate.claims.estimates import Estimate, difference, share, weighted
from evaluate.claims.evidence import CLASSIFIERS, Evidence, distinct, n_train
from evaluate.claims.roles import ModelInfo
from evaluate.claims.verdicts import Condition, MissingEvidenceError, above, add_analysis
from evaluate.results.metrics import PATCH_MIOU

SATURATED = 0.75
"""Share of the rise from the first layer to the best that lies before the layer where a profile saturates."""


def more_images(evidence: Evidence) -> Iterator[Condition]:
    """Claim 10: from the smallest to the largest training set the probe gains more than 1-NN, for most models."""
    grows: list[bool | None] = []
    models_info = evidence.present("mae", "simmim", "dino", "dinov2", "supervised")
    for info in models_info:
        gains = {classifier: _gain(evidence, info, classifier) for classifier in CLASSIFIERS}
        grows.append(above(difference("", gains["probe"], gains["knn"]), 0.0).outcome)
    titles = " and ".join(info.title for info in models_info)
    of_them = f"share of {len(models_info)} models" if len(models_info) > 1 else titles or "no model"
    yield above(share(f"{of_them} whose probe gains more than 1-NN", grows), 0.5)


def profiles(evidence: Evidence) -> Iterator[Condition]:
    """Claim 11: by layer 8 of 12 DINO and Supervised have made 3/4 of their rise; DINOv2 makes most of its in the
    last three layers; SimMIM is better in the middle third than in the last layer.

    Other depths are taken in proportion. Supervised and SimMIM are tested where there are such models. Which layer is
    best is selected by value and then compared by intervals.
    """
    for info in evidence.present("dino", "supervised"):
        scores = _profile(evidence, info)
        eighth, best = scores[round(len(scores) * 8 / 12) - 1], max(scores, key=lambda one: one.value)
        name = f"1-NN of {info.title}: layer 8 beyond 3/4 of the rise"
        yield above(weighted(name, [(1.0, eighth), (-SATURATED, best), (SATURATED - 1, scores[0])]), 0.0)
    for info in evidence.present("dinov2"):
        scores = _profile(evidence, info)
        before = scores[len(scores) - 1 - max(1, round(len(scores) * 3 / 12))]
        name = f"1-NN of {info.title}: rise of the last three layers less half of all"
        yield above(weighted(name, [(0.5, scores[-1]), (-1.0, before), (0.5, scores[0])]), 0.0)
    for info in evidence.present("simmim"):
        scores = _profile(evidence, info)
        middle = max(scores[len(scores) // 3 : 2 * len(scores) // 3], key=lambda one: one.value)
        yield above(difference(f"1-NN of {info.title}: middle layers less the last", middle, scores[-1]), 0.0)


def _gain(evidence: Evidence, info: ModelInfo, classifier: str) -> Estimate:
    rows = evidence.rows(info, "patch-classification", PATCH_MIOU, classifier=classifier, m=0)
    sizes = {n_train(row) for row in rows}
    if len(sizes) < 2:
        raise MissingEvidenceError(
            f"{info.title} has one training size: " + add_analysis("patch-classification", train_per_group=[2, 4, 8])
        )
    least, most = (evidence.patches(info, classifier, n_train=end(sizes)) for end in (min, max))
    return difference(f"{CLASSIFIERS[classifier]} gain of {info.title}", most, least, any_training=True)


def _profile(evidence: Evidence, info: ModelInfo) -> list[Estimate]:
    rows = evidence.rows(info, "patch-classification", PATCH_MIOU, classifier="knn", m=0, x_name="layer")
    layers = distinct(rows, "x_value")
    if len(layers) < 6:
        raise MissingEvidenceError(
            f"a profile needs six layers or more and {info.title} has {len(layers)}: "
            + add_analysis("patch-classification", layers="all")
        )
    sizes = [{n_train(row) for row in rows if row["x_value"] == layer} for layer in layers]
    size = max(set.intersection(*sizes), default=0)
    return [evidence.patches(info, "knn", n_train=size, x_value=layer) for layer in layers]
