"""Finds the rows of a set that other sets of the store hold under an equal recipe, and reads them checked.

Two sets have an equal recipe when their records differ in the list of source images and rows alone. A row is the same
when its sample, tile box and the sha256 of its source image are. Chunks that are read are compared with their seals or
commit records.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int64

from stores.errors import DamageError, PatchbankError
from stores.format.chunk_table import StoredObject
from stores.format.chunks import decode_chunk
from stores.format.layout import chunk_name
from stores.format.paths import SPEC
from stores.sets import ZarrSet
from stores.specs import ArraySpec, FeatureSpec
from stores.store import Store

_IDENTITY = ["sample", "source", "left", "top", "right", "bottom", "source_sha256", "valid"]
"""Columns of a sample table that are equal for equal rows of sets with an equal recipe."""


@dataclass(frozen=True, eq=False)
class OtherSet:
    """A set with an equal recipe, and which of its rows are rows of the set to be made."""

    stored: ZarrSet
    rows: Int64[np.ndarray, " row"]
    """For each row of the set to be made the equal row of this one, -1 where there is none."""

    def available(self, arrays: Sequence[ArraySpec]) -> Bool[np.ndarray, " row"]:
        """Return which rows of the set to be made this one holds, committed, in all of ``arrays``."""
        stored = self.stored
        if any(stored.arrays.get(array.name) != array for array in arrays):
            return np.zeros(len(self.rows), dtype=bool)
        ranges = frozenset.intersection(*(stored.committed(array.name) for array in arrays))
        committed = np.isin(np.arange(stored.layout.n_ranges), sorted(ranges))
        return (self.rows >= 0) & committed[self.rows // stored.layout.range_rows]


def sets_with_equal_rows(store: Store, spec: FeatureSpec, samples: pd.DataFrame) -> Iterator[OtherSet]:
    """Yield the other sets of a store with an equal recipe that hold some of the rows of ``samples``.

    A set that cannot be read is left out.
    """
    wanted = _recipe(spec.canonical())
    numbers: dict[tuple[Any, ...], int] | None = None
    for name in store.objects.children("features"):
        if name == spec.digest:
            continue
        try:
            if _recipe(json.loads(store.objects.read(f"features/{name}/{SPEC}"))) != wanted:
                continue
            other = store.open(f"features/{name}")
            keys = list(other.samples[_IDENTITY].itertuples(index=False, name=None))
        except (PatchbankError, ValueError, KeyError, TypeError, RecursionError):
            continue
        if numbers is None:
            numbers = {key: row for row, key in enumerate(samples[_IDENTITY].itertuples(index=False, name=None))}
        rows = np.full(len(samples), -1, dtype=np.int64)
        for row, key in enumerate(keys):
            if key in numbers:
                rows[numbers[key]] = row
        if (rows >= 0).any():
            yield OtherSet(other, rows)


def _recipe(record: dict[str, Any]) -> dict[str, Any]:
    """Return the record of a feature set without its list of source images and rows."""
    dataset = {key: value for key, value in record["dataset"].items() if key not in ("n_sources", "sources")}
    return {**{key: value for key, value in record.items() if key != "samples"}, "dataset": dataset}


class CheckedRows:
    """Reads rows of one array; every chunk is compared with its seal or commit records. Keeps the last chunk."""

    def __init__(self, stored: ZarrSet, array: ArraySpec) -> None:
        self.stored = stored
        self.array = array
        self.last: tuple[int, np.ndarray] | None = None

    def __getitem__(self, rows: Int64[np.ndarray, " row"]) -> np.ndarray:
        """Return the chosen rows; raises DamageError where stored bytes are not those that were committed."""
        out = np.empty((len(rows), *self.array.row_shape), np.dtype(self.array.dtype))
        chunk_rows = self.stored.layout.chunk_rows(self.array)
        for index in dict.fromkeys((rows // chunk_rows).tolist()):
            here = rows // chunk_rows == index
            out[here] = self._chunk(index)[rows[here] - index * chunk_rows]
        return out

    def _chunk(self, index: int) -> np.ndarray:
        if self.last is None or self.last[0] != index:
            stored, chunk = self.stored, chunk_name(index, self.array)
            key = f"{stored.prefix}/{self.array.name}/{chunk}"
            data = stored.objects.read(key)
            recorded = self._recorded(chunk)
            if not recorded or not all(entry.is_of(data) for entry in recorded):
                raise DamageError(f"{stored.objects.url}/{key} is not what was committed: run `patchbank verify`")
            self.last = index, decode_chunk(data, self.array, stored.layout, f"{stored.objects.url}/{key}")
        return self.last[1]

    def _recorded(self, chunk: str) -> list[StoredObject]:
        seal = self.stored.seals.get(self.array.name)
        if seal is not None:
            tables = [seal.table]
        else:
            committed = [commit.arrays.get(self.array.name) for commit in self.stored.commits.values()]
            tables = [one.table for one in committed if one is not None]
        return [table[chunk] for table in tables if chunk in table]
