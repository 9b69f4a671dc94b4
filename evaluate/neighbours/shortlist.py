"""The running list of rows that may still be among the k nearest of each query, and what is found in the end."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64

from evaluate.neighbours.operands import FLOOR


def capacity_for(k: int) -> int:
    """Return how many candidates a query may hold before it is redone at higher precision."""
    return 4 * k + 60


class Shortlist:
    """Candidates of a block of queries at one level, kept complete by the error bound.

    With the score of `evaluate.neighbours.blocks`, a row is a candidate while its upper score reaches the
    threshold: the k-th largest lower score seen so far, minus the query's slack.
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
        self._lower: np.ndarray = np.full(shape, -np.inf, dtype)
        self._rows = np.zeros(shape, np.int32)
        self._raise_threshold(np.arange(slack.size), known)

    def _raise_threshold(self, queries: Int64[np.ndarray, " some"], kth: Float[np.ndarray, " some"]) -> None:
        limit = (kth.astype(np.float64) - self.slack[queries]).astype(self.threshold.dtype)
        limit = np.nextafter(limit, limit.dtype.type(-np.inf))
        self.threshold[queries] = np.maximum(self.threshold[queries], limit)

    def offer(
        self,
        scores: Float[np.ndarray, "bank query"],
        maxima: Float[np.ndarray, "group query"],
        first_row: int,
        margin: Float[np.ndarray, " bank"],
    ) -> None:
        """Take in a block of scores.

        ``maxima`` are the scores' maxima over equal runs of rows, ``margin`` is upper minus lower score of each
        row apart from the query's slack, ``first_row`` is added to the block's row numbers.
        """
        size = scores.shape[0] // maxima.shape[0]
        unset = np.flatnonzero((self.threshold <= FLOOR) & ~self.overflowed)
        if unset.size and maxima.shape[0] >= self.k:
            # k groups hold k different rows, so the k-th largest lower bound of group maxima is valid.
            lower = maxima[:, unset] - margin.reshape(-1, size).max(axis=1)[:, None]
            self._raise_threshold(unset, np.partition(lower, -self.k, axis=0)[-self.k])
        query, group = np.nonzero(np.ascontiguousarray((maxima >= self.threshold).T))
        if not query.size:
            return
        places = (group * (size * scores.shape[1]) + query)[:, None] + np.arange(size) * scores.shape[1]
        found = scores.reshape(-1)[places]
        pair, offset = np.nonzero(found >= self.threshold[query][:, None])
        row = group[pair] * size + offset
        value = found[pair, offset]
        self._append(query[pair], row + first_row, value, value - margin[row])

    def _append(
        self,
        query: Int64[np.ndarray, " new"],
        row: Int64[np.ndarray, " new"],
        score: Float[np.ndarray, " new"],
        lower: Float[np.ndarray, " new"],
    ) -> None:
        added = np.bincount(query, minlength=self.count.size)
        starts = np.cumsum(added) - added
        full = self.count + added > self._scores.shape[1]
        for one in np.flatnonzero(full):
            new = slice(starts[one], starts[one] + added[one])
            self._merge(int(one), row[new], score[new], lower[new])
        if full.any():
            fits = ~full[query]
            query, row, score, lower = query[fits], row[fits], score[fits], lower[fits]
            added[full] = 0
            starts = np.cumsum(added) - added
        place = self.count[query] + np.arange(query.size) - starts[query]
        self._scores[query, place] = score
        self._lower[query, place] = lower
        self._rows[query, place] = row
        self.count += added
        changed = np.flatnonzero((added > 0) & (self.count >= self.k))
        if changed.size:
            width = int(self.count[changed].max())
            kth = np.partition(self._lower[changed, :width], width - self.k, axis=1)[:, width - self.k]
            self._raise_threshold(changed, kth)
            self._compact(changed[self.count[changed] > self._scores.shape[1] // 2])

    def _merge(
        self,
        query: int,
        row: Int64[np.ndarray, " new"],
        score: Float[np.ndarray, " new"],
        lower: Float[np.ndarray, " new"],
    ) -> None:
        """Add rows that do not fit beside what the query holds, and keep what the new threshold leaves."""
        held = int(self.count[query])
        scores = np.concatenate([self._scores[query, :held], score])
        lowers = np.concatenate([self._lower[query, :held], lower])
        rows = np.concatenate([self._rows[query, :held], row])
        if rows.size >= self.k:
            self._raise_threshold(np.array([query]), np.partition(lowers, -self.k)[-self.k :][:1])
        keep = scores >= self.threshold[query]
        self._lower[query] = -np.inf
        if np.count_nonzero(keep) > self._scores.shape[1]:
            self.overflowed[query] = True
            self.threshold[query] = np.inf
            self.count[query] = 0
            return
        self.count[query] = np.count_nonzero(keep)
        self._scores[query, : self.count[query]] = scores[keep]
        self._lower[query, : self.count[query]] = lowers[keep]
        self._rows[query, : self.count[query]] = rows[keep]

    def _compact(self, queries: Int64[np.ndarray, " some"]) -> None:
        if not queries.size:
            return
        keep = self._kept(queries)
        order = np.argsort(~keep, axis=1, kind="stable")
        self.count[queries] = keep.sum(axis=1)
        for held in (self._scores, self._lower, self._rows):
            held[queries] = np.take_along_axis(held[queries], order, axis=1)
        beyond = np.arange(self._scores.shape[1]) >= self.count[queries][:, None]
        self._lower[queries] = np.where(beyond, -np.inf, self._lower[queries])

    def _kept(self, queries: Int64[np.ndarray, " some"]) -> Bool[np.ndarray, "some place"]:
        held = np.arange(self._scores.shape[1]) < self.count[queries][:, None]
        held &= self._scores[queries] >= self.threshold[queries][:, None]
        return held

    def candidates(self) -> tuple[Int64[np.ndarray, " pair"], Int64[np.ndarray, " pair"]]:
        """Return (query, row) of all candidates, ordered by query; overflowed queries have none."""
        query, place = np.nonzero(self._kept(np.arange(self.count.size)))
        return query, self._rows[query, place].astype(np.int64)


@dataclass(frozen=True)
class Level:
    """What the search found without the first columns of one level."""

    indices: Int64[np.ndarray, "query k"]
    """Bank rows by (squared distance, index)."""
    squared_distances: Float64[np.ndarray, "query k"]
    unresolved: Bool[np.ndarray, " query"]
    """Queries with too many candidates; their entries mean nothing."""


def merge(
    level: Level,
    start: int,
    size: int,
    query: Int64[np.ndarray, " pair"],
    row: Int64[np.ndarray, " pair"],
    distance: Float64[np.ndarray, " pair"],
) -> None:
    """Keep, for ``size`` queries from ``start`` on, the k nearest by (distance, row) of those held and these pairs."""
    block = slice(start, start + size)
    k = level.indices.shape[1]
    held, place = np.nonzero(level.indices[block] >= 0)
    query = np.concatenate([held, query])
    row = np.concatenate([level.indices[block][held, place], row])
    distance = np.concatenate([level.squared_distances[block][held, place], distance])
    order = np.lexsort((row, distance, query))
    query, row, distance = query[order], row[order], distance[order]
    counts = np.bincount(query, minlength=size)
    rank = np.arange(query.size) - np.repeat(np.cumsum(counts) - counts, counts)
    kept = rank < k
    level.indices[start + query[kept], rank[kept]] = row[kept]
    level.squared_distances[start + query[kept], rank[kept]] = distance[kept]
