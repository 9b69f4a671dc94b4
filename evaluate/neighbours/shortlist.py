"""Candidates for the k nearest rows of each query during a search, and the neighbours found."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64

from evaluate.neighbours.operands import FLOOR

SPARSE = 1000
"""Where less than one score in so many was a candidate in the block before, runs of rows are compared first."""


def capacity_for(k: int) -> int:
    """Return how many candidates a query may hold before it is redone at higher precision."""
    return 4 * k + 60


class Shortlist:
    """Candidates of a block of queries at one level; the error bound makes sure that no neighbour is missing.

    With the scores of `evaluate.neighbours.blocks`, a row is a candidate while its upper score reaches the threshold:
    the k-th largest lower score so far, minus the query's slack.

    Args:
        k: neighbours of each query.
        slack: error of each query's scores, subtracted from the threshold.
        known: score of each query's k-th neighbour so far, minus infinity without one.
        dtype: type of the scores.
    """

    def __init__(
        self, k: int, slack: Float64[np.ndarray, " query"], known: Float64[np.ndarray, " query"], dtype: type
    ) -> None:
        self.k = k
        self.slack = slack
        self.threshold: np.ndarray = np.full(slack.size, FLOOR, dtype)
        self.overflowed = np.zeros(slack.size, bool)
        self.count = np.zeros(slack.size, np.int64)
        shape = (slack.size, capacity_for(k))
        self._scores: np.ndarray = np.full(shape, -np.inf, dtype)
        self._best: np.ndarray = np.full((slack.size, k), -np.inf, dtype)
        """The k largest lower scores of each query, the smallest of them first."""
        self._rows = np.zeros(shape, np.int32)
        self._n_found = k * slack.size  # candidates of the block before; of none, k of every query
        self._raise_threshold(np.arange(slack.size), known)

    def _raise_threshold(self, queries: Int64[np.ndarray, " some"], kth: Float[np.ndarray, " some"]) -> None:
        limit = (kth.astype(np.float64) - self.slack[queries]).astype(self.threshold.dtype)
        limit = np.nextafter(limit, limit.dtype.type(-np.inf))
        self.threshold[queries] = np.maximum(self.threshold[queries], limit)

    def offer(
        self,
        scores: Float[np.ndarray, "bank query"],
        first_row: int,
        margin: Float[np.ndarray, " bank"],
        group: int,
    ) -> None:
        """Add the candidates of a block of scores.

        Args:
            scores: upper scores of bank rows by queries.
            first_row: number of the block's first row.
            margin: upper minus lower score of each row, without the query's slack.
            group: rows of a run, of which there are whole ones.
        """
        unset = np.flatnonzero((self.threshold <= FLOOR) & ~self.overflowed)
        is_dense = group == 1 or self._n_found * SPARSE > scores.size
        largest = scores if group == 1 else None
        if largest is None and (unset.size or not is_dense):
            largest = scores.reshape(-1, group, scores.shape[1]).max(axis=1)
        if largest is not None and unset.size and len(largest) >= self.k:
            # k runs hold k different rows, so the k-th largest lower bound of their largest scores is valid.
            lower = largest[:, unset] - margin.reshape(-1, group).max(axis=1)[:, None]
            self._raise_threshold(unset, np.partition(lower, -self.k, axis=0)[-self.k])
        if largest is None or is_dense:
            query, row, score = _above(scores, self.threshold)
        else:
            query, row, score = _above_by_runs(scores, largest, self.threshold)
        self._n_found = query.size
        if query.size:
            self.add(query, row + first_row, score, score - margin[row])

    def reached(self, kth: Float[np.ndarray, " query"]) -> None:
        """Note that k rows of every query have this lower score or a larger one."""
        self._raise_threshold(np.arange(self.count.size), kth)

    def overflow(self, queries: Int64[np.ndarray, " some"]) -> None:
        """Give up queries that have too many candidates."""
        self.overflowed[queries] = True
        self.threshold[queries] = np.inf
        self.count[queries] = 0

    def add(
        self,
        query: Int64[np.ndarray, " new"],
        row: Int64[np.ndarray, " new"],
        score: Float[np.ndarray, " new"],
        lower: Float[np.ndarray, " new"],
    ) -> None:
        """Add candidates, ordered by query.

        Args:
            query: query of each.
            row: bank row of each.
            score: upper scores.
            lower: lower scores, without the query's slack.
        """
        added = np.bincount(query, minlength=self.count.size)
        starts = np.cumsum(added) - added
        full = self.count + added > self._scores.shape[1]
        for number in np.flatnonzero(full):
            new = slice(starts[number], starts[number] + added[number])
            self._merge(int(number), row[new], score[new], lower[new])
        changed = np.flatnonzero((added > 0) & ~full)
        if full.any():
            fits = ~full[query]
            query, row, score, lower = query[fits], row[fits], score[fits], lower[fits]
            added[full] = 0
            starts = np.cumsum(added) - added
        slot = self.count[query] + np.arange(query.size) - starts[query]
        self._scores[query, slot] = score
        self._rows[query, slot] = row
        if changed.size:
            padded = np.full((changed.size, int(added[changed].max())), -np.inf, lower.dtype)
            padded[np.repeat(np.arange(changed.size), added[changed]), slot - self.count[query]] = lower
            self._improve(changed, padded)
        self.count += added
        self._compact(changed[self.count[changed] > self._scores.shape[1] * 3 // 4])

    def _improve(self, queries: Int64[np.ndarray, " some"], lower: Float[np.ndarray, "some new"]) -> None:
        """Add lower scores to the k best of some queries, and raise their thresholds to the k-th."""
        both = np.concatenate([self._best[queries], lower], axis=1)
        both.partition(lower.shape[1], axis=1)
        self._best[queries] = both[:, lower.shape[1] :]
        self._raise_threshold(queries, both[:, lower.shape[1]])

    def _merge(
        self,
        query: int,
        row: Int64[np.ndarray, " new"],
        score: Float[np.ndarray, " new"],
        lower: Float[np.ndarray, " new"],
    ) -> None:
        """Add rows to a full list, and keep those that reach the new threshold."""
        count = int(self.count[query])
        scores = np.concatenate([self._scores[query, :count], score])
        rows = np.concatenate([self._rows[query, :count], row])
        self._improve(np.array([query]), lower[None])
        keep = scores >= self.threshold[query]
        if np.count_nonzero(keep) > self._scores.shape[1]:
            self.overflow(np.array([query]))
            return
        self.count[query] = np.count_nonzero(keep)
        self._scores[query, : self.count[query]] = scores[keep]
        self._rows[query, : self.count[query]] = rows[keep]

    def _compact(self, queries: Int64[np.ndarray, " some"]) -> None:
        if not queries.size:
            return
        keep = self._is_candidate(queries)
        order = np.argsort(~keep, axis=1, kind="stable")
        self.count[queries] = keep.sum(axis=1)
        for array in (self._scores, self._rows):
            array[queries] = np.take_along_axis(array[queries], order, axis=1)

    def _is_candidate(self, queries: Int64[np.ndarray, " some"]) -> Bool[np.ndarray, "some slot"]:
        used = np.arange(self._scores.shape[1]) < self.count[queries][:, None]
        used &= self._scores[queries] >= self.threshold[queries][:, None]
        return used

    def candidates(self) -> tuple[Int64[np.ndarray, " pair"], Int64[np.ndarray, " pair"]]:
        """Return (query, row) of all candidates, ordered by query; overflowed queries have none."""
        query, slot = np.nonzero(self._is_candidate(np.arange(self.count.size)))
        return query, self._rows[query, slot].astype(np.int64)


def _above(
    scores: Float[np.ndarray, "bank query"], threshold: Float[np.ndarray, " query"]
) -> tuple[Int64[np.ndarray, " hit"], Int64[np.ndarray, " hit"], Float[np.ndarray, " hit"]]:
    """Return query, row and score of all scores that reach their query's threshold, by (query, row)."""
    hit = np.flatnonzero(scores >= threshold)
    row, query = np.divmod(hit, len(threshold))
    short = query.astype(np.uint16) if len(threshold) <= 1 << 16 else query  # numpy sorts the former by its digits
    by_query = np.argsort(short, kind="stable")
    return query[by_query], row[by_query], scores.reshape(-1)[hit[by_query]]


def _above_by_runs(
    scores: Float[np.ndarray, "bank query"],
    largest: Float[np.ndarray, "run query"],
    threshold: Float[np.ndarray, " query"],
) -> tuple[Int64[np.ndarray, " hit"], Int64[np.ndarray, " hit"], Float[np.ndarray, " hit"]]:
    """Return what `_above` does, having compared the largest scores of runs of rows first: faster where few reach it.

    Args:
        scores: scores of bank rows by queries.
        largest: largest scores of runs of rows of equal length.
        threshold: threshold of each query.
    """
    n_runs, n_queries = largest.shape
    size = len(scores) // n_runs
    query, run = np.divmod(np.flatnonzero(np.ascontiguousarray((largest >= threshold).T)), n_runs)
    flat = (run * (size * n_queries) + query)[:, None] + np.arange(size) * n_queries
    gathered = np.take(scores.reshape(-1), flat)
    hit = np.flatnonzero(gathered >= threshold[query][:, None])  # faster than in two dimensions
    pair = hit // size
    return query[pair], run[pair] * size + hit % size, gathered.reshape(-1)[hit]


@dataclass(frozen=True)
class Level:
    """Neighbours of all queries without the leading columns of one level."""

    indices: Int64[np.ndarray, "query k"]
    """Bank rows by (squared distance, index); -1 where none was found yet."""
    squared_distances: Float64[np.ndarray, "query k"]
    unresolved: Bool[np.ndarray, " query"]
    """Queries with too many candidates, whose other entries are not valid."""


def empty_levels(n_queries: int, k: int, n_levels: int) -> list[Level]:
    """Return levels without any neighbour."""
    return [
        Level(np.full((n_queries, k), -1, np.int64), np.full((n_queries, k), np.inf), np.zeros(n_queries, bool))
        for _ in range(n_levels)
    ]


def merge(
    level: Level,
    start: int,
    size: int,
    query: Int64[np.ndarray, " pair"],
    row: Int64[np.ndarray, " pair"],
    distance: Float64[np.ndarray, " pair"],
) -> None:
    """Merge pairs into the neighbours of a block of queries: the k nearest by (distance, row) stay.

    Args:
        level: neighbours so far, changed in place.
        start: first query of the block.
        size: queries of the block.
        query: query of each pair, counted within the block.
        row: bank row of each pair.
        distance: squared distance of each pair.
    """
    block = slice(start, start + size)
    k = level.indices.shape[1]
    known, slot = np.nonzero(level.indices[block] >= 0)
    if not known.size and (np.diff(query * 2.0**32 + row) > 0).all():
        _fill(level, start, size, query, row, distance)
        return
    query = np.concatenate([known, query])
    row = np.concatenate([level.indices[block][known, slot], row])
    distance = np.concatenate([level.squared_distances[block][known, slot], distance])
    order = np.lexsort((row, distance, query))
    query, row, distance = query[order], row[order], distance[order]
    counts = np.bincount(query, minlength=size)
    rank = np.arange(query.size) - np.repeat(np.cumsum(counts) - counts, counts)
    near = rank < k
    level.indices[start + query[near], rank[near]] = row[near]
    level.squared_distances[start + query[near], rank[near]] = distance[near]


def _fill(
    level: Level,
    start: int,
    size: int,
    query: Int64[np.ndarray, " pair"],
    row: Int64[np.ndarray, " pair"],
    distance: Float64[np.ndarray, " pair"],
) -> None:
    """Write the first neighbours of a block of queries: `merge` of pairs that are ordered by (query, row)."""
    counts = np.bincount(query, minlength=size)
    starts = np.cumsum(counts) - counts
    padded = np.full((size, counts.max(initial=0)), np.inf)
    padded[query, np.arange(query.size) - np.repeat(starts, counts)] = distance
    order = np.argsort(padded, axis=1, kind="stable")[:, : level.indices.shape[1]]
    some, place = np.nonzero(np.arange(order.shape[1]) < counts[:, None])
    pair = starts[some] + order[some, place]
    level.indices[start + some, place] = row[pair]
    level.squared_distances[start + some, place] = distance[pair]
