"""Reading an exported HDF5 file like a set in a store."""

from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pandas as pd

from stores.arrays import StoredArray
from stores.errors import MissingError, names_like
from stores.format.layout import Layout
from stores.format.tables import read_table
from stores.hdf5.checks import CheckedFile, explained
from stores.indexing import Selection
from stores.notebook import ShownSet
from stores.specs import ArraySpec, FeatureSpec, LabelSpec

_PIECE_BYTES = 64 << 20


class HDF5Array(StoredArray):
    """An array of an exported set, read chunk by chunk; HDF5's own checksum is tested on the way."""

    def __init__(self, owner: "HDF5Set", spec: ArraySpec, layout: Layout) -> None:
        self.owner = owner
        self.spec = spec
        self.layout = layout

    def __repr__(self) -> str:
        return f"<array {self.spec.name} {self.shape} {self.spec.dtype} in {self.owner.path}>"

    def _read(self, selection: Selection) -> np.ndarray:
        out = np.empty((len(selection.rows), *selection.row_shape), self.dtype)
        if len(selection.rows):
            with explained(self.owner.path, f"array {self.spec.name}"):
                self._read_into(out, selection)
        return out

    def _read_into(self, out: np.ndarray, selection: Selection) -> None:
        dataset, numbers = self.owner.file.dataset(self.spec.name), selection.rows
        if selection.whole_rows and np.array_equal(numbers, np.arange(numbers[0], numbers[0] + len(numbers))):
            dataset.read_direct(out, np.s_[int(numbers[0]) : int(numbers[0]) + len(numbers)])
            return
        # Every chunk is read once, from the first to the last chosen row in it.
        order = np.argsort(numbers, kind="stable")
        ordered = numbers[order]
        chunk_rows = dataset.chunks[0] if dataset.chunks else max(1, _PIECE_BYTES // self.spec.row_bytes)
        borders = np.flatnonzero(np.diff(ordered // chunk_rows)) + 1
        for part, target in zip(np.split(ordered, borders), np.split(order, borders), strict=True):
            rows = dataset[int(part[0]) : int(part[-1]) + 1][part - part[0]]
            out[target] = selection.of_rows(rows)

    def _identity(self) -> str:
        return f"{self.owner.path.absolute()} {self.owner.content[self.spec.name]}"


class HDF5Set(ShownSet):
    """A set in a file that `patchbank export` wrote, for reading; all its arrays are complete.

    Raises MissingError when there is no file, UserError when it is not an export or of a newer format, and
    DamageError when it is not what an export writes.
    """

    def __init__(self, path: Path | str) -> None:
        self.file = CheckedFile(path)
        self.path = self.file.path
        self.digest = self.file.manifest.set
        self.layout: Layout = self.file.layout

    def __reduce__(self) -> tuple[type["HDF5Set"], tuple[Path]]:
        return HDF5Set, (self.path,)

    def close(self) -> None:
        """Close the file."""
        self.file.close()

    def __enter__(self) -> "HDF5Set":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def spec(self) -> FeatureSpec | LabelSpec:
        """The record that names the set."""
        return self.file.spec

    @property
    def compute(self) -> dict[str, Any]:
        """The compute record: device kind, batch, compute dtype, versions."""
        return self.file.compute

    @property
    def provenance(self) -> dict[str, Any]:
        """Facts for people: command, licence, library versions, date."""
        return self.file.provenance

    @property
    def arrays(self) -> dict[str, ArraySpec]:
        """Array records by address."""
        return {name: entry.spec for name, entry in self.file.manifest.arrays.items()}

    @property
    def content(self) -> dict[str, str]:
        """Content digest of every array, by address."""
        return {name: entry.content for name, entry in sorted(self.file.manifest.arrays.items())}

    @property
    def reading_only(self) -> bool:
        """Whether some array has another dtype than in the store it comes from."""
        return any(entry.original is not None for entry in self.file.manifest.arrays.values())

    def committed(self, array: str) -> frozenset[int]:
        """Return the numbers of the committed ranges of an array: all of them."""
        return frozenset(range(self.layout.n_ranges)) if array in self.file.manifest.arrays else frozenset()

    def sealed(self, array: str) -> bool:
        """Return whether the file holds an array; all of its arrays are complete."""
        return array in self.file.manifest.arrays

    def address(self, name: str) -> str:
        """Return the full address of an array; raises MissingError, which names arrays of the file."""
        full = name if "/" in name else f"tokens/{name}"
        if full not in self.file.manifest.arrays:
            raise MissingError(f"{self.path} has no array {name}: it has {names_like(full, self.arrays)}")
        return full

    def __getitem__(self, name: str) -> HDF5Array:
        full = self.address(name)
        return HDF5Array(self, self.file.manifest.arrays[full].spec, self.layout)

    def __contains__(self, name: str) -> bool:
        return (name if "/" in name else f"tokens/{name}") in self.file.manifest.arrays

    def __repr__(self) -> str:
        held = f"{self.layout.n_rows} rows, {len(self.arrays)} arrays"
        return f"<{self.spec.kind} {self.digest[:12]} in {self.path}: {held}>"

    def table(self, name: str) -> pd.DataFrame:
        """Return one of the set's tables, ``samples`` or ``classes``."""
        if f"{name}.parquet" not in self.file.table_files:
            raise MissingError(f"{self.path} has no table {name}: it has {', '.join(sorted(self.file.table_files))}")
        with explained(self.path, f"table {name}"):
            return read_table(self.file.record(f"{name}.parquet"), f"{self.file.path}, table {name},")

    @property
    def samples(self) -> pd.DataFrame:
        """The sample table: one line for each row of the arrays, in the same order."""
        return self.table("samples")
