"""What became of the queries of a retrieval: outcomes of hits, recall and average precision."""

import numpy as np
from jaxtyping import Bool, Float64, Int64

from evaluate.inputs.gallery import Gallery, LeftOut, Queries

OUTCOMES = ("same-patch", "same-category", "same-supercategory", "other-category", "background")
"""What a hit can be, the first that holds."""


def outcomes(
    query_labels: Int64[np.ndarray, " query"],
    own: Int64[np.ndarray, " query"],
    hit_labels: Int64[np.ndarray, " query"],
    hit_places: Int64[np.ndarray, " query"],
    supercategory: Int64[np.ndarray, " classes"],
    background: int | None,
) -> Int64[np.ndarray, " query"]:
    """Return the number in `OUTCOMES` of every hit; ``own`` is the place of the corresponding patch, -1 for none."""
    is_background = np.zeros(len(hit_labels), dtype=np.bool_) if background is None else hit_labels == background
    return np.select(
        [
            (own >= 0) & (hit_places == own),
            hit_labels == query_labels,
            ~is_background & (supercategory[hit_labels] == supercategory[query_labels]),
            ~is_background,
        ],
        [0, 1, 2, 3],
        default=4,
    ).astype(np.int64)


def average_precision(
    relevant: Bool[np.ndarray, "query k"], n_relevant: Int64[np.ndarray, " query"]
) -> Float64[np.ndarray, " query"]:
    """Return average precision at k, one a query: the mean of precision at each relevant hit over min(k, relevant)."""
    places = np.arange(1, relevant.shape[1] + 1)
    precision = np.cumsum(relevant, axis=1) / places
    best = np.minimum(relevant.shape[1], n_relevant)
    summed: np.ndarray = (precision * relevant).sum(axis=1)
    return np.divide(summed, best, out=np.zeros(len(relevant)), where=best > 0)


def n_relevant(found: Gallery, asking: Queries, left_out: LeftOut, n_classes: int) -> Int64[np.ndarray, " query"]:
    """Return how many patches of its category each query could find: what is left out cannot be found."""
    everywhere = np.bincount(found.labels, minlength=n_classes)[asking.labels]
    groups = found.groups(left_out)
    if groups is None:
        return everywhere
    here = np.zeros((int(groups.max()) + 1, n_classes), dtype=np.int64)
    np.add.at(here, (groups[found.places // found.n_patches], found.labels), 1)
    return everywhere - here[groups[asking.rows], asking.labels]


def values_by_metric(
    became: Int64[np.ndarray, " query"],
    relevant: Bool[np.ndarray, "query k"],
    n_relevant: Int64[np.ndarray, " query"],
    depths: list[int],
) -> list[tuple[str, str | None, int, np.ndarray]]:
    """Return metric, outcome, k and one value a query: the nearest hit's outcome, and what is among the first k."""
    found: list[tuple[str, str | None, int, np.ndarray]] = [
        ("share", name, 1, became == number) for number, name in enumerate(OUTCOMES)
    ]
    found += [("recall", None, k, np.any(relevant[:, :k], axis=1)) for k in depths]
    found += [("average_precision", None, k, average_precision(relevant[:, :k], n_relevant)) for k in depths]
    return found
