"""Retrieval metrics: outcomes of hits, recall and average precision."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float64, Int64

from evaluate.inputs.gallery import Gallery, LeftOut, Queries
from evaluate.scoring.retrieval_examples import NEAREST, Examples

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


@dataclass(frozen=True, eq=False)
class QueryScores:
    """The scores of every query under one view, against one gallery."""

    gallery: Gallery
    queries: Queries
    supercategory: Int64[np.ndarray, " classes"]
    """Number of each class's supercategory."""
    left_out: LeftOut

    @cached_property
    def n_relevant(self) -> Int64[np.ndarray, " query"]:
        """How many gallery patches of its category each query can find."""
        return n_relevant(self.gallery, self.queries, self.left_out, len(self.supercategory))

    def outcomes(
        self, some: Int64[np.ndarray, " some"], hits: Int64[np.ndarray, " some"]
    ) -> Int64[np.ndarray, " some"]:
        """Return the number in `OUTCOMES` of one hit (an index into the gallery) of each of some queries."""
        labels, places = self.gallery.labels[hits], self.gallery.places[hits]
        own = self.queries.own[some]
        return outcomes(self.queries.labels[some], own, labels, places, self.supercategory, self.gallery.background)

    def by_metric(
        self, indices: Int64[np.ndarray, "query k"], depths: list[int]
    ) -> Iterator[tuple[str, str | None, int, Float64[np.ndarray, " query"]]]:
        """Yield metric, outcome, k and one value a query: the nearest hit's outcome, and what is among the first k."""
        nearest = self.outcomes(np.arange(len(indices)), indices[:, 0])
        relevant = self.gallery.labels[indices] == self.queries.labels[:, None]
        for number, name in enumerate(OUTCOMES):
            yield "share", name, 1, (nearest == number).astype(np.float64)
        for k in depths:
            yield "recall", None, k, np.any(relevant[:, :k], axis=1).astype(np.float64)
        for k in depths:
            yield "average_precision", None, k, average_precision(relevant[:, :k], self.n_relevant)
        if self.left_out == "nothing":
            found = np.isin(self.queries.own, self.gallery.places)
            yield "upper_bound", None, 1, found.astype(np.float64)

    def add_examples(self, examples: Examples, view: str, m: int, indices: Int64[np.ndarray, "query k"]) -> None:
        """Add the queries that are shown, each with its nearest hits.

        Args:
            examples: collects the lines of the picture.
            view: name and level of the view.
            m: number of removed features.
            indices: the gallery patches that each query found, nearest first.
        """
        for query in examples.shown(self.queries.own):
            hits = indices[query, :NEAREST]
            own, label = int(self.queries.own[query]), int(self.queries.labels[query])
            outcome = self.outcomes(np.repeat(query, len(hits)), hits)
            examples.add(view, m, (own, label), self.gallery.places[hits], outcome)
