"""Retrieval metrics: outcomes of hits, recall and average precision."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float64, Int64

from evaluate.inputs.gallery import Gallery, LeftOut, Queries
from evaluate.results.metrics import AVERAGE_PRECISION, RECALL, SHARE, UPPER_BOUND
from evaluate.scoring.retrieval.examples import NEAREST, Example, shown_queries

OUTCOMES = ("same-patch", "same-category", "same-supercategory", "other-category", "background")
"""What a hit can be, the first that holds."""


def average_precision(
    relevant: Bool[np.ndarray, "query k"], n_relevant: Int64[np.ndarray, " query"]
) -> Float64[np.ndarray, " query"]:
    """Return average precision at k, one a query: the mean of precision at each relevant hit over min(k, relevant)."""
    ranks = np.arange(1, relevant.shape[1] + 1)
    precision = np.cumsum(relevant, axis=1) / ranks
    best = np.minimum(relevant.shape[1], n_relevant)
    summed: np.ndarray = (precision * relevant).sum(axis=1)
    return np.divide(summed, best, out=np.zeros(len(relevant)), where=best > 0)


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
        """Number of gallery patches of its category that each query can retrieve: what is left out does not count."""
        n_classes = len(self.supercategory)
        everywhere = np.bincount(self.gallery.labels, minlength=n_classes)[self.queries.labels]
        groups = self.gallery.groups(self.left_out)
        if groups is None:
            return everywhere
        here = np.zeros((int(groups.max()) + 1, n_classes), dtype=np.int64)
        np.add.at(here, (groups[self.gallery.patches // self.gallery.n_patches], self.gallery.labels), 1)
        return everywhere - here[groups[self.queries.rows], self.queries.labels]

    def outcomes(
        self, some: Int64[np.ndarray, " some"], hits: Int64[np.ndarray, " some"]
    ) -> Int64[np.ndarray, " some"]:
        """Return the number in `OUTCOMES` of one hit (an index into the gallery) of each of some queries."""
        hit_labels, query_labels = self.gallery.labels[hits], self.queries.labels[some]
        own, background = self.queries.own[some], self.gallery.background
        is_object = np.ones(len(hits), dtype=np.bool_) if background is None else hit_labels != background
        return np.select(
            [
                (own >= 0) & (self.gallery.patches[hits] == own),
                hit_labels == query_labels,
                is_object & (self.supercategory[hit_labels] == self.supercategory[query_labels]),
                is_object,
            ],
            [0, 1, 2, 3],
            default=4,
        ).astype(np.int64)

    def by_metric(
        self, indices: Int64[np.ndarray, "query k"], depths: list[int]
    ) -> Iterator[tuple[str, str | None, int, Float64[np.ndarray, " query"]]]:
        """Yield metric, outcome, k and one value a query: the nearest hit's outcome, and what is among the first k."""
        nearest = self.outcomes(np.arange(len(indices)), indices[:, 0])
        relevant = self.gallery.labels[indices] == self.queries.labels[:, None]
        for number, name in enumerate(OUTCOMES):
            yield SHARE, name, 1, (nearest == number).astype(np.float64)
        for k in depths:
            yield RECALL, None, k, np.any(relevant[:, :k], axis=1).astype(np.float64)
        for k in depths:
            yield AVERAGE_PRECISION, None, k, average_precision(relevant[:, :k], self.n_relevant)
        if self.left_out == "nothing":
            yield UPPER_BOUND, None, 1, np.isin(self.queries.own, self.gallery.patches).astype(np.float64)

    def examples(self, view: str, m: int, indices: Int64[np.ndarray, "query k"], n_shown: int) -> Iterator[Example]:
        """Yield the queries that are shown, each with its nearest hits.

        Args:
            view: name and level of the view.
            m: number of removed features.
            indices: the gallery patches retrieved for each query, nearest first.
            n_shown: number of queries to show.
        """
        for query in shown_queries(self.queries.own, n_shown):
            hits = indices[query, :NEAREST]
            own, label = int(self.queries.own[query]), int(self.queries.labels[query])
            outcomes = self.outcomes(np.repeat(query, len(hits)), hits)
            yield Example(view, m, own, label, self.gallery.patches[hits], outcomes)
