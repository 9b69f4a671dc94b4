"""Long searches cut by their queries: a section is some queries and their neighbours in the whole bank.

Which rows are nearest to a query, and how far they are, depends on no other query, so that the sections one after
another are the neighbours that one search finds, to the last bit. Only features as they are stored are searched so: the
last bits of treated ones are those of the processor that treats them.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Generic, TypeVar

import numpy as np

from evaluate.neighbours.found import Metric, Neighbours
from evaluate.results.sections import Arrays, LongPass, SectionFiles
from stores.canonical import digest

REVISION = 1
"""Raised when the same names would have other neighbours."""
SECTION_PAIRS = 1 << 32
"""Most pairs of a query and a bank row of a section: a minute of one core with 768 channels (measured: 70 million pairs
a second)."""
SECTION_NEIGHBOURS = 1 << 20
"""Most neighbours of a section, whose file is read whole: 13 MB, and as much again meanwhile."""

T = TypeVar("T")

SearchSome = Callable[[Sequence[int], int, int], dict[int, Neighbours]]
"""Returns the neighbours, by number m of removed features, of the queries of some units: the first one, and the one
after the last."""


@dataclass(frozen=True, eq=False)
class QueryPass(LongPass):
    """One search whose queries are cut in sections; each of the workers that share it reads the whole bank."""

    what: str
    """What is searched, for people."""
    which: tuple[str | float, ...]
    """What tells the search from the others of its task."""
    results: Mapping[int, str]
    """Digests of the results that it is for, by number m of removed features."""
    k: int
    """Neighbours of each query."""
    metric: Metric
    n_bank: int
    """Bank rows, or more where it takes reading them to count them."""
    n_units: int
    """Images or rows whose queries stay together."""
    of_unit: int
    """Most queries of a unit."""
    search: SearchSome
    needs: tuple[LongPass, ...] = ()

    @property
    def title(self) -> str:
        """What is searched, for a line on the terminal."""
        return f"neighbours of {self.what}"

    @cached_property
    def digests(self) -> tuple[str, ...]:
        """What names the files: one for every m."""
        return tuple(self._digest(m) for m in self.results)

    @cached_property
    def cut(self) -> list[tuple[int, int]]:
        """First unit and unit after the last of every section, of about equal length."""
        most, n_units = min(SECTION_PAIRS // self.n_bank, SECTION_NEIGHBOURS // self.k), self.n_units
        n = max(1, -(-n_units // max(1, most // self.of_unit)))
        return [(number * n_units // n, (number + 1) * n_units // n) for number in range(n)]

    @property
    def n_sections(self) -> int:
        """Number of sections."""
        return len(self.cut)

    @property
    def several(self) -> list[LongPass]:
        """The pass, if it has several sections and is for any result."""
        return [self] if self.n_sections > 1 and self.results else []

    def compute(self, number: int) -> dict[str, Arrays]:
        """Return the neighbours of the queries of one section."""
        found = self.search(list(self.results), *self.cut[number])
        return {
            self._digest(m): {
                "indices": one.indices.astype(np.int32),
                "squared_distances": one.squared_distances,
                "undecided": np.zeros(len(one.indices), np.bool_) if one.undecided is None else one.undecided,
            }
            for m, one in found.items()
        }

    def neighbours(self, n_queries: int, files: SectionFiles | None) -> dict[int, Neighbours]:
        """Return the neighbours of all queries for every m; those whose sections no worker has searched are searched.

        Args:
            n_queries: queries of all units.
            files: where workers keep sections; None looks nowhere.
        """
        found: dict[int, Neighbours] = {}
        if files is not None and self.n_sections > 1:
            merged = {m: self._merged(m, n_queries, files) for m in self.results}
            found = {m: one for m, one in merged.items() if one is not None}
        left = [m for m in self.results if m not in found]
        found |= self.search(left, 0, self.n_units) if left else {}
        return {m: found[m] for m in self.results}

    def _merged(self, m: int, n_queries: int, files: SectionFiles) -> Neighbours | None:
        """Return the neighbours for one m; None where a section is gone, or of other queries."""
        if not files.has_all(self._digest(m), self.n_sections):
            return None
        indices, distances = np.empty((n_queries, self.k), np.int64), np.empty((n_queries, self.k))
        undecided, first = np.empty(n_queries, np.bool_), 0
        for number in range(self.n_sections):
            arrays = files.read(self._digest(m), number)
            if arrays is None or arrays.keys() != {"indices", "squared_distances", "undecided"}:
                return None
            last = first + len(arrays["undecided"])
            pairs = (indices, "indices"), (distances, "squared_distances"), (undecided, "undecided")
            if any(whole[first:last].shape != arrays[name].shape for whole, name in pairs):
                return None
            for whole, name in pairs:
                whole[first:last] = arrays[name]
            first = last
        if first != n_queries:
            return None
        share = np.count_nonzero(undecided) / max(1, n_queries)
        return Neighbours(indices, distances, share, "exact", self.metric, undecided)

    def _digest(self, m: int) -> str:
        cut = {"k": self.k, "units": self.n_units, "sections": self.n_sections}
        named = {"result": self.results[m], "which": list(self.which), "m": m}
        return digest({"neighbours of queries": REVISION, **named, **cut})


class Last(Generic[T]):
    """The value of the last key that was asked for: what the searches of a task read one after another."""

    def __init__(self) -> None:
        self._held: dict[Hashable, T] = {}

    def of(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return the value of a key; that of another key is forgotten before it is made."""
        if key not in self._held:
            self._held.clear()
            self._held[key] = make()
        return self._held[key]


def no_neighbours(k: int, metric: Metric) -> Neighbours:
    """Return the neighbours of no queries."""
    return Neighbours(np.empty((0, k), np.int64), np.empty((0, k)), 0.0, "exact", metric)
