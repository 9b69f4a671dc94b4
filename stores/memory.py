"""Sets in memory: the reference that sets in Zarr and HDF5 are compared with in tests.

Whole arrays are held, without chunks and stored bytes, so that no code is shared with the Zarr format.
"""

import hashlib
from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from stores.arrays import StoredArray
from stores.errors import MissingError, UserError, names_like
from stores.format.content import content_of
from stores.format.layout import Layout, RowRange
from stores.indexing import Selection
from stores.notebook import ShownSet
from stores.specs import ArraySpec, FeatureSpec, LabelSpec


class MemoryArray(StoredArray):
    """A whole array in memory; rows that are not committed hold the fill value."""

    def __init__(self, spec: ArraySpec, layout: Layout) -> None:
        self.spec = spec
        self.layout = layout
        self.values = np.full((layout.n_rows, *spec.row_shape), spec.fill, spec.dtype)
        self.done: set[int] = set()

    def _read(self, selection: Selection) -> np.ndarray:
        return selection.of_rows(self.values[selection.rows])

    def _identity(self) -> str:
        return hashlib.sha256(self.values.data).hexdigest()


class MemorySet(ShownSet):
    """A feature set or label set in memory."""

    def __init__(
        self,
        spec: FeatureSpec | LabelSpec,
        layout: Layout,
        tables: Mapping[str, pd.DataFrame],
    ) -> None:
        self.spec = spec
        self.digest = spec.digest
        self.layout = layout
        self.tables = dict(tables)
        self.held: dict[str, MemoryArray] = {}
        self.content: dict[str, str] = {}

    @property
    def arrays(self) -> dict[str, ArraySpec]:
        """Array records by address."""
        return {name: array.spec for name, array in self.held.items()}

    @property
    def samples(self) -> pd.DataFrame:
        """The sample table: one line for each row of the arrays, in the same order."""
        return self.tables["samples"]

    def table(self, name: str) -> pd.DataFrame:
        """Return one of the set's tables."""
        return self.tables[name]

    def add_arrays(self, arrays: Iterable[ArraySpec]) -> None:
        """Declare arrays; raises UserError when one exists with another shape or dtype."""
        for array in arrays:
            known = self.held.get(array.name)
            if known is None:
                self.held[array.name] = MemoryArray(array, self.layout)
            elif known.spec != array:
                raise UserError(f"array {array.name} exists with another shape or dtype: choose another store")

    def write_range(self, row_range: RowRange, rows: Mapping[str, np.ndarray]) -> bool:
        """Commit one range of some arrays; return False, changing nothing, when it was committed before."""
        if any(row_range.number in self.held[name].done for name in rows):
            return False
        for name, values in rows.items():
            self.held[name].values[row_range.start : row_range.stop] = values
            self.held[name].done.add(row_range.number)
        return True

    def committed(self, array: str) -> frozenset[int]:
        """Return the numbers of the committed ranges of an array."""
        return frozenset(self.held[array].done)

    def sealed(self, array: str) -> bool:
        """Return whether an array is complete and read-only."""
        return array in self.content

    def seal(self, arrays: Iterable[str]) -> dict[str, list[int]]:
        """Seal complete arrays; return the ranges that are missing, by array."""
        missing = {}
        for name in arrays:
            absent = sorted(set(range(self.layout.n_ranges)) - self.committed(name))
            if absent:
                missing[name] = absent
            else:
                self.content[name] = content_of(self.held[name], self.layout)
        return missing

    def __repr__(self) -> str:
        return f"<{self.spec.kind} {self.digest[:12]} in memory: {self.layout.n_rows} rows, {len(self.held)} arrays>"

    def __getitem__(self, name: str) -> MemoryArray:
        full = name if "/" in name else f"tokens/{name}"
        if full not in self.held:
            raise MissingError(f"set {self.digest[:12]} has no array {name}: it has {names_like(full, self.held)}")
        return self.held[full]
