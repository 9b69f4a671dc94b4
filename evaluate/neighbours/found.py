"""Neighbours that a search found, and those of sections of a bank merged into those of the whole bank.

A bank is cut at rows that its length alone decides. Each section has its own nearest rows; the nearest of all are among
them, by (squared distance, index) as ever, whichever process searched which section.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float64, Int64

from evaluate.neighbours.shortlist import empty_levels, merge

Metric = Literal["euclidean", "cosine"]
Method = Literal["exact", "faiss"]

SECTION_ROWS = 1 << 16
"""Most bank rows of a section: a minute or two of one core for 100,000 queries of 768 channels."""
_MERGED_AT_ONCE = 1024
"""Queries whose neighbours are sorted together."""


@dataclass(frozen=True)
class Neighbours:
    """The k nearest bank rows of every query, nearest first."""

    indices: Int64[np.ndarray, "query k"]
    """Row numbers in the bank."""
    squared_distances: Float64[np.ndarray, "query k"]
    """Squared Euclidean distances; for the cosine metric those of the normalised rows, 2 - 2 cos."""
    redone: float
    """Share of queries, 0..1, that float32 products could not decide and that were searched again in float64."""
    method: Method
    metric: Metric
    undecided: Bool[np.ndarray, " query"] | None = None
    """Which queries these were; None where neighbours were not searched here, or not by products."""


def sections(n_bank: int) -> list[tuple[int, int]]:
    """Return first row and row after the last of the sections of a bank, of about equal length."""
    n = max(1, -(-n_bank // SECTION_ROWS))
    return [(number * n_bank // n, (number + 1) * n_bank // n) for number in range(n)]


class MergedNeighbours:
    """The nearest rows of sections so far.

    Args:
        n_queries: rows whose neighbours are searched.
        k: neighbours of each query.
    """

    def __init__(self, n_queries: int, k: int) -> None:
        [self.level] = empty_levels(n_queries, k, 1)

    def add(self, first_row: int, found: Neighbours) -> None:
        """Add the neighbours in the section that begins at a row of the bank."""
        level = self.level
        for start in range(0, len(found.indices), _MERGED_AT_ONCE):
            indices = found.indices[start : start + _MERGED_AT_ONCE]
            distances = found.squared_distances[start : start + _MERGED_AT_ONCE]
            queries = np.repeat(np.arange(len(indices)), indices.shape[1])
            merge(level, start, len(indices), queries, indices.reshape(-1) + first_row, distances.reshape(-1))
        if found.undecided is not None:
            level.unresolved[:] |= found.undecided

    def neighbours(self, metric: Metric) -> Neighbours:
        """Return the neighbours in all sections that were added; a query counts as redone if it was in any."""
        level = self.level
        share = np.count_nonzero(level.unresolved) / max(1, level.unresolved.size)
        return Neighbours(level.indices, level.squared_distances, share, "exact", metric, level.unresolved)
