"""Reads a manifest from CSV or Parquet, one row per image; errors name the line."""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from pipeline.datasets.reading.files import first_duplicate, is_file
from stores.errors import MissingError, UserError

COLUMNS = ("image", "mask", "class", "group", "split", "video", "frame")
"""The columns that are read; image is required."""

_DELIMITERS = (",", ";", "\t")


@dataclass(frozen=True)
class Row:
    """One row: its cells by column, empty if missing, and its name in errors."""

    cells: dict[str, str]
    where: str


@dataclass(frozen=True)
class Table:
    """All rows of a manifest."""

    rows: tuple[Row, ...]
    columns: tuple[str, ...]
    """All columns of the file, including those that are not read."""


def read_table(path: Path) -> Table:
    """Return the rows of a manifest.

    Raises MissingError when the file does not exist, UserError when it is neither CSV in UTF-8 nor Parquet, lacks the
    column image, names a column twice, or a line has more or fewer cells than the first.
    """
    if not is_file(path):
        raise MissingError(f"{path} is missing, the manifest; write it, or correct `file` in [dataset]")
    numbered = _parquet(path) if path.suffix.lower() in (".parquet", ".pq") else _csv(path)
    _, header = next(numbered, ("", []))
    columns = tuple(cell.strip() for cell in header)
    twice = first_duplicate(columns)
    if twice is not None:
        raise UserError(f"{path} has two columns {twice!r}; give every column its own name")
    if "image" not in columns:
        named = ", ".join(columns) or "none"
        raise UserError(f"{path} has no column `image` (its columns: {named}); name the columns in the first line")
    rows = []
    for where, cells in numbered:
        if len(cells) != len(columns):
            raise UserError(f"{where} has {len(cells)} cells and the first line {len(columns)}; correct the line")
        rows.append(Row({name: cell.strip() for name, cell in zip(columns, cells, strict=True)}, where))
    return Table(tuple(rows), columns)


def _csv(path: Path) -> Iterator[tuple[str, Sequence[str]]]:
    raw = path.read_bytes()
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise UserError(f"{path} is in UTF-16; save it as CSV in UTF-8")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}, line {line}, is not in UTF-8; save the file as CSV in UTF-8") from error
    first = text.partition("\n")[0]
    delimiter = max(_DELIMITERS, key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield f"{path}, line {reader.line_num},", cells
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num}, is no CSV ({error}); correct the line") from error


def _parquet(path: Path) -> Iterator[tuple[str, Sequence[str]]]:
    import pyarrow

    try:
        table = pd.read_parquet(path)
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as Parquet ({error}); write it again") from error
    yield str(path), [str(name) for name in table.columns]
    for number, cells in enumerate(table.itertuples(index=False, name=None), start=1):
        yield f"{path}, row {number},", [_text(cell) for cell in cells]


def _text(cell: object) -> str:
    """Return a Parquet cell as in CSV: empty for null, whole numbers without a fraction."""
    if cell is None or cell is pd.NA or cell is pd.NaT or cell != cell:
        return ""
    return str(int(cell)) if isinstance(cell, float) and cell.is_integer() else str(cell)
