"""Results: rows of the long table and arrays, stored under the digest of what they were computed from.

The result of one task is named by the digest of the analysis, its revision, its parameters and the content digests of
the arrays it read, so that nothing is computed twice and no outdated result is reused.

::

    RESULTS/answers/<digest>/answer.json     the result key, self-checksummed, written last
                             rows.parquet    rows of the long table
                             arrays.npz      arrays for figures, if any; of a neighbour search, which has no rows,
                                             the neighbours (`evaluate.scoring.stored_neighbours`)
    RESULTS/answers/sections/                sections of long passes while workers compute them
                                             (`evaluate.results.sections`)
    RESULTS/<experiment>/results.parquet     the experiment's long table
                         results.csv         the same
"""

import io
import re
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from evaluate.results.files import read_arrays, read_parquet, remove_partials, without_formula, write_file
from stores.canonical import canonical_json, checksummed, digest, read_checksummed
from stores.errors import MissingError, UserError
from stores.storage.regular_files import read_file

SCHEMA_VERSION = 1

COLUMNS: dict[str, str] = {
    "experiment": "string",
    "analysis": "string",
    "data_set": "string",
    "model": "string",
    "view": "string",
    "level": "Float64",
    "array": "string",
    "layer": "Int64",
    "normed": "boolean",
    "token": "string",
    "classifier": "string",
    "distance": "string",
    "train": "string",
    "n_train": "Int64",
    "m": "Int64",
    "k": "Int64",
    "x_name": "string",
    "x_value": "Float64",
    "outcome": "string",
    "class": "string",
    "metric": "string",
    "value": "Float64",
    "low": "Float64",
    "high": "Float64",
    "unit": "string",
    "n_units": "Int64",
    "reference": "string",
    "seed": "Int64",
    "params": "string",
    "inputs": "string",
    "result": "string",
    "row": "Int64",
    "treatment": "string",
}
"""Columns of the long table and their pandas types; evaluate/README.md says what each means."""
_ADDED = "treatment"
"""Column that tables of earlier versions do not have."""


@dataclass(frozen=True)
class Result:
    """What one task computed."""

    rows: list[dict[str, Any]]
    """Rows of the long table; absent columns are empty."""
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    """Arrays for figures, by name."""


@dataclass(frozen=True)
class ResultKey:
    """What names a result: analysis, parameters and everything that was read."""

    analysis: str
    revision: int
    parameters: dict[str, Any]
    inputs: dict[str, str]
    """Content digests of everything that was read, by a name that says what it is."""

    @cached_property
    def digest(self) -> str:
        """Name of the result."""
        named = {"analysis": self.analysis, "revision": self.revision}
        return digest({"schema": SCHEMA_VERSION, **named, "parameters": self.parameters, "inputs": self.inputs})


class ResultStore:
    """A folder of results and of experiments' tables."""

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)

    def folder(self, key: ResultKey) -> Path:
        """Return the folder of a result."""
        return self.root / "answers" / key.digest

    def has(self, key: ResultKey) -> bool:
        """Return whether the result is stored; a torn record counts as absent."""
        try:
            record = read_checksummed(read_file(self.folder(key) / "answer.json"))
        except (FileNotFoundError, NotADirectoryError):
            return False
        return record is not None and record.get("digest") == key.digest

    def read(self, key: ResultKey) -> Result:
        """Return a stored result."""
        return self.read_digest(key.digest)

    def read_digest(self, digest: str) -> Result:
        """Return a stored result by its digest; raises UserError when it is none, MissingError when it is gone."""
        if re.fullmatch("[0-9a-f]{64}", digest) is None:
            raise UserError(f"{digest[:80]!r} is no name of a result in {self.root}: run `patchbank evaluate` again")
        folder = self.root / "answers" / digest
        rows = read_long_table(folder / "rows.parquet")
        arrays = read_arrays(folder / "arrays.npz") if (folder / "arrays.npz").exists() else {}
        return Result(rows.to_dict("records"), arrays)  # type: ignore[arg-type]

    def revision(self, digest: str) -> int | None:
        """Return the revision of the analysis that made a stored result; None where its record is gone or torn."""
        try:
            record = read_checksummed(read_file(self.root / "answers" / digest / "answer.json"))
        except (OSError, MissingError):
            return None
        return None if record is None else int(record["revision"])

    def write(self, key: ResultKey, result: Result) -> None:
        """Store a result; ``answer.json`` is written last, so its existence means the rest is whole."""
        folder = self.folder(key)
        params, inputs = (canonical_json(part).decode() for part in (key.parameters, key.inputs))
        shared = {"params": params, "inputs": inputs, "result": key.digest}
        rows = [{**row, **shared, "row": index} for index, row in enumerate(result.rows)]
        write_file(folder / "rows.parquet", _parquet(long_table(rows)))
        if result.arrays:
            write_file(folder / "arrays.npz", _npz(result.arrays))
        write_file(folder / "answer.json", checksummed({"digest": key.digest, **asdict(key)}))

    def cited(self) -> frozenset[str]:
        """Return the digests of all sets and arrays that some result was computed from.

        Raises UserError when a result is torn: what it cites is not known.
        """
        digests: set[str] = set()
        for path in sorted((self.root / "answers").glob("*/answer.json")):
            record = read_checksummed(read_file(path))
            if record is None or not isinstance(record.get("inputs"), dict):
                raise UserError(f"{path} is torn and what it was computed from is not known: run `patchbank evaluate`")
            digests.update(str(value) for value in record["inputs"].values())
        return frozenset(digests)

    def write_experiment(self, experiment: str, table: pd.DataFrame) -> Path:
        """Write an experiment's long table as Parquet and CSV; return the folder.

        Text that a spreadsheet would run has an apostrophe before it in the CSV. What writers that were killed more
        than an hour ago left in the results folder is removed.
        """
        folder = self.root / experiment
        remove_partials(self.root)
        write_file(folder / "results.parquet", _parquet(table))
        text = [name for name, kind in COLUMNS.items() if kind == "string"]
        plain = table.assign(**{name: table[name].map(without_formula, na_action="ignore") for name in text})
        write_file(folder / "results.csv", plain.to_csv(index=False, float_format="%.9g").encode())
        return folder


def long_table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Return rows as the long table: all columns, in order, with their types.

    Raises ValueError for a column the schema does not know.
    """
    unknown = {name for row in rows for name in row} - COLUMNS.keys()
    if unknown:
        raise ValueError(f"no such result columns: {sorted(unknown)}")
    table = pd.DataFrame({name: [row.get(name) for row in rows] for name in COLUMNS}, dtype=object)
    return table.astype(COLUMNS)


def read_long_table(path: Path) -> pd.DataFrame:
    """Return a stored long table; raises UserError when it is none, MissingError when it is gone."""
    table = read_parquet(path)
    try:
        # Tables of earlier versions have no treated features.
        table = table if _ADDED in table else table.assign(**{_ADDED: None})
        return table[list(COLUMNS)].astype(COLUMNS)
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        raise UserError(f"{path} is no table of results ({error}): remove it and run `patchbank evaluate`") from error


def _parquet(table: pd.DataFrame) -> bytes:
    sink = io.BytesIO()
    table.to_parquet(sink, index=False)
    return sink.getvalue()


def _npz(arrays: dict[str, np.ndarray]) -> bytes:
    sink = io.BytesIO()
    np.savez_compressed(sink, allow_pickle=False, **arrays)
    return sink.getvalue()
