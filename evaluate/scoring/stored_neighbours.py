"""Neighbours of validation patches among training patches, kept as results of their own and read instead of searched.

One search answers every smaller k, every vote and every analysis that asks: the key holds what decides which patches
are nearest (contents of the arrays, images, metric, number m of removed features) and not how they vote. The largest k
that was searched is kept; a larger one is searched once more and takes its place. Exact neighbours do not depend on the
machine, the memory or the device, so the key has none of them.

Where the bank has several sections, workers search them side by side (`SearchPass`) and the search merges them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Int64

from evaluate.inputs.model_sets import ModelSets
from evaluate.inputs.patches import token_variance, tokens
from evaluate.inputs.rows import RowSelection
from evaluate.kernels.moments import variance_ranking
from evaluate.neighbours.found import MergedNeighbours, Metric, Neighbours, sections
from evaluate.neighbours.knn import nearest_without_top
from evaluate.results.sections import Arrays, LongPass, SectionFiles
from evaluate.results.table import Result, ResultKey, ResultStore
from stores.errors import MissingError, UserError

REVISION = 1
"""Raised when the same key would have other neighbours."""
MOST_BYTES = 32 << 20
"""Indices and distances of one search, all m together, that are kept at most; larger ones are searched again. With what
reading them holds meanwhile it is less than `evaluate.neighbours.knn.SEARCH_BYTES`, which every estimate counts."""

_PAIR_BYTES = 4 + 8  # an int32 index and a float64 distance


@dataclass(frozen=True)
class Search:
    """One search: the validation patches of one array among its labelled training patches."""

    model: ModelSets
    array: str
    """Address of the token array."""
    train: RowSelection
    validation: RowSelection
    metric: Metric
    n_bank: int
    """Labelled training patches."""
    n_queries: int
    """Validation patches."""

    def key(self, m: int) -> ResultKey:
        """Return what names the neighbours without the m features of highest variance."""
        parameters = {
            "train": list(self.train.sources),
            "validation": list(self.validation.sources),
            "metric": self.metric,
            "search": "exact",
            "m": m,
        }
        return ResultKey("neighbours", REVISION, parameters, self.model.inputs(self.array, labelled=True))

    def of(
        self,
        removed: Sequence[int],
        k: int,
        results: ResultStore | None,
        search: Callable[[list[int]], dict[int, Neighbours]],
    ) -> dict[int, Neighbours]:
        """Return the k nearest training patches for every m; those that are not stored are searched and stored.

        Args:
            removed: numbers m of features to leave out.
            k: neighbours needed.
            results: where neighbours are stored; None searches always.
            search: searches some m together, for k neighbours.
        """
        found = {} if results is None else self.stored(removed, k, results)
        missing = [m for m in removed if m not in found]
        if missing:
            searched = {} if results is None else self._merged(missing, k, SectionFiles(results.root))
            left = [m for m in missing if m not in searched]
            searched |= search(left) if left else {}
            found |= searched
            if results is not None and self.is_kept(len(missing), k):
                for m, neighbours in searched.items():
                    results.write(self.key(m), Result([], _arrays(neighbours)))
        return {m: found[m] for m in removed}

    def is_kept(self, n_levels: int, k: int) -> bool:
        """Return whether the neighbours of several m are few enough to be stored."""
        return n_levels * self.n_queries * k * _PAIR_BYTES <= MOST_BYTES

    def section_digest(self, m: int, k: int) -> str:
        """Return what names the files of the sections of one m."""
        key = self.key(m)
        cut = [list(one) for one in sections(self.n_bank)]
        return ResultKey("neighbours of sections", REVISION, {**key.parameters, "k": k, "cut": cut}, key.inputs).digest

    def _merged(self, removed: Sequence[int], k: int, files: SectionFiles) -> dict[int, Neighbours]:
        """Return the neighbours for those m of which workers have searched all sections."""
        cut, found = sections(self.n_bank), {}
        for m in removed:
            digest = self.section_digest(m, k)
            if len(cut) < 2 or not files.has_all(digest, len(cut)):
                continue
            merged = MergedNeighbours(self.n_queries, k)
            for number, (start, stop) in enumerate(cut):
                section = self._section(files.read(digest, number), min(k, stop - start))
                if section is None:
                    break
                merged.add(start, section)
            else:
                found[m] = merged.neighbours(self.metric)
        return found

    def _section(self, arrays: Mapping[str, np.ndarray] | None, k: int) -> Neighbours | None:
        if arrays is None or arrays.keys() != {"indices", "squared_distances", "undecided"}:
            return None
        indices, distances, undecided = arrays["indices"], arrays["squared_distances"], arrays["undecided"]
        is_whole = indices.shape == distances.shape == (self.n_queries, k) and undecided.shape == (self.n_queries,)
        if not is_whole:
            return None
        return Neighbours(indices.astype(np.int64), distances, 0.0, "exact", self.metric, undecided.astype(np.bool_))

    def stored(self, removed: Sequence[int], k: int, results: ResultStore) -> dict[int, Neighbours]:
        """Return the k nearest training patches of those m of which as many are stored."""
        found = {m: self._read(m, k, results) for m in removed}
        return {m: neighbours for m, neighbours in found.items() if neighbours is not None}

    def _read(self, m: int, k: int, results: ResultStore) -> Neighbours | None:
        """Return stored neighbours; None for none, for fewer than k, and for what no search of these patches gives."""
        key = self.key(m)
        if not results.has(key):
            return None
        try:
            arrays = results.read(key).arrays
        except (UserError, MissingError):  # torn: searched again, and replaced
            return None
        if arrays.keys() != {"indices", "squared_distances", "redone"}:
            return None
        indices, distances, redone = arrays["indices"], arrays["squared_distances"], arrays["redone"]
        is_whole = (
            indices.dtype == np.int32
            and distances.dtype == np.float64
            and redone.dtype == np.float64
            and redone.shape == (1,)
            and indices.ndim == 2
            and indices.shape == distances.shape
            and len(indices) == self.n_queries
            and indices.shape[1] >= k
            and bool((indices >= 0).all() and (indices < self.n_bank).all())
        )
        if not is_whole:
            return None
        nearest = indices[:, :k].astype(np.int64), distances[:, :k].copy()
        return Neighbours(*nearest, float(redone[0]), "exact", self.metric)


def _arrays(neighbours: Neighbours) -> dict[str, np.ndarray]:
    return {
        "indices": neighbours.indices.astype(np.int32),
        "squared_distances": neighbours.squared_distances,
        "redone": np.array([neighbours.redone]),
    }


def only(neighbours: Neighbours, queries: np.ndarray) -> Neighbours:
    """Return the neighbours of some of the queries."""
    return Neighbours(
        neighbours.indices[queries],
        neighbours.squared_distances[queries],
        neighbours.redone,
        neighbours.method,
        neighbours.metric,
    )


@dataclass(frozen=True, eq=False)
class SearchPass(LongPass):
    """One search whose bank is cut in sections; the rows of a section are read by the worker that searches it.

    Args:
        search: the search.
        labelled: which training patches have a label: the bank.
        removed: numbers m of features to leave out, searched together.
        k: neighbours of each query.
        memory_bytes: memory that the search of a section may use beside its inputs.
    """

    search: Search
    labelled: Bool[np.ndarray, " patch"]
    removed: tuple[int, ...]
    k: int
    memory_bytes: int

    @property
    def title(self) -> str:
        """What is searched, for a line on the terminal."""
        return f"neighbours of {self.search.array}"

    @cached_property
    def digests(self) -> tuple[str, ...]:
        """What names the files: one for every m."""
        return tuple(self.search.section_digest(m, self.k) for m in self.removed)

    @property
    def n_sections(self) -> int:
        """Sections of the bank."""
        return len(sections(self.search.n_bank))

    def is_part_of(self, other: LongPass) -> bool:
        """Return whether the task that merges another pass stores all of these neighbours."""
        return (
            isinstance(other, SearchPass)
            and other.search.is_kept(len(other.removed), other.k)
            and set(self.removed) <= set(other.removed)
            and self.k <= other.k
            and self._name == other._name
        )

    def compute(self, number: int) -> dict[str, Arrays]:
        """Return the neighbours in one section, with rows counted from its first."""
        start, stop = sections(self.search.n_bank)[number]
        found = nearest_without_top(
            self._bank(start, stop), self._queries, self._ranking, self.removed, min(self.k, stop - start),
            metric=self.search.metric, memory_bytes=self.memory_bytes,
        )  # fmt: skip
        return {
            self.search.section_digest(m, self.k): {
                "indices": one.indices.astype(np.int32),
                "squared_distances": one.squared_distances,
                "undecided": np.zeros(len(one.indices), np.bool_) if one.undecided is None else one.undecided,
            }
            for m, one in found.items()
        }

    def _bank(self, start: int, stop: int) -> Float[np.ndarray, "bank channel"]:
        """Return some rows of the bank, of which no others are read than those of the same chunks."""
        model, array, train = self.search.model, self.search.array, self.search.train
        n_patches = len(self.labelled) // len(train.rows)
        patches = np.flatnonzero(self.labelled)[start:stop]
        first, last = int(patches[0]) // n_patches, int(patches[-1]) // n_patches + 1
        kept = np.zeros((last - first) * n_patches, np.bool_)
        kept[patches - first * n_patches] = True
        return tokens(model, array, RowSelection(train.sources, train.rows[first:last]), kept)

    @cached_property
    def _name(self) -> str:
        return self.search.key(0).digest

    @cached_property
    def _queries(self) -> Float[np.ndarray, "query channel"]:
        return tokens(self.search.model, self.search.array, self.search.validation)

    @cached_property
    def _ranking(self) -> Int64[np.ndarray, " channel"]:
        return variance_ranking(token_variance(self.search.model, self.search.array, self.search.train))
