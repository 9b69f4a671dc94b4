"""Neighbours of validation patches among training patches, kept as results of their own and read instead of searched.

One search answers every smaller k, every vote and every analysis that asks: the key holds what decides which patches
are nearest (contents of the arrays, images, metric, number m of removed features) and not how they vote. The largest k
that was searched is kept; a larger one is searched once more and takes its place. Exact neighbours do not depend on the
machine, the memory or the device, so the key has none of them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from evaluate.inputs.model_sets import ModelSets
from evaluate.inputs.rows import RowSelection
from evaluate.neighbours.knn import Metric, Neighbours
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
            searched = search(missing)
            found |= searched
            if results is not None and len(missing) * self.n_queries * k * _PAIR_BYTES <= MOST_BYTES:
                for m, neighbours in searched.items():
                    results.write(self.key(m), Result([], _arrays(neighbours)))
        return {m: found[m] for m in removed}

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
