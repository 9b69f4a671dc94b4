"""Reads a manifest from CSV or Parquet, one row per image; errors name the line."""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.datasets.reading.files import first_duplicate, is_file, read_bytes, require_file
from stores.errors import MissingError, UserError

COLUMNS = ("image", "mask", "class", "group", "split", "video", "frame")
"""The columns that are read; image is required."""

MOST_ROWS = 2_000_000
"""Largest number of images in a manifest; they take about 1 GB."""
MOST_BYTES = 512 << 20
"""Size of the largest manifest in bytes, and of the cells in a Parquet file."""
MOST_CHARACTERS = 4096
"""Length of the longest cell, that of the longest path."""

_ROWS_AT_ONCE = 1 << 15
_DELIMITERS = (",", ";", "\t")


@dataclass(frozen=True)
class Row:
    """One row: its cells by column, empty if missing, and where it stands."""

    cells: dict[str, str]
    file: str
    number: int
    """Line of a CSV file, row of a Parquet file, from 1."""
    unit: str

    @property
    def where(self) -> str:
        """The row's name in errors."""
        return f"{self.file}, {self.unit} {self.number},"


@dataclass(frozen=True)
class Table:
    """All rows of a manifest."""

    rows: tuple[Row, ...]
    columns: tuple[str, ...]
    """All columns of the file, including those that are not read."""


def read_table(path: Path) -> Table:
    """Return the rows of a manifest.

    Raises MissingError when the file does not exist, UserError when it is neither CSV in UTF-8 nor Parquet, lacks the
    column image, names a column twice, has too many or too long rows, or a line has more or fewer cells than the first.
    """
    if not is_file(path):
        raise MissingError(f"{path} is missing, the manifest; write it, or correct `file` in [dataset]")
    is_parquet = path.suffix.lower() in (".parquet", ".pq")
    numbered = _parquet(path) if is_parquet else _csv(path)
    _, header = next(numbered, (0, []))
    columns = tuple(cell.strip() for cell in header)
    twice = first_duplicate(columns)
    if twice is not None:
        raise UserError(f"{path} has two columns {twice!r}; give every column its own name")
    if "image" not in columns:
        named = ", ".join(columns) or "none"
        raise UserError(f"{path} has no column `image` (its columns: {named}); name the columns in the first line")
    rows: list[Row] = []
    name = str(path)
    for number, cells in numbered:
        row = Row({}, name, number, "row" if is_parquet else "line")
        if len(cells) != len(columns):
            raise UserError(f"{row.where} has {len(cells)} cells and the first line {len(columns)}; correct the line")
        if len(rows) == MOST_ROWS:
            raise UserError(f"{path} lists more than {MOST_ROWS:,} images; cut it into several manifests")
        row.cells.update((column, cell.strip()) for column, cell in zip(columns, cells, strict=True))
        longest = max(row.cells, key=lambda column: len(row.cells[column]))
        if len(row.cells[longest]) > MOST_CHARACTERS:
            raise UserError(f"{row.where} has more than {MOST_CHARACTERS} characters in `{longest}`; shorten it")
        rows.append(row)
    return Table(tuple(rows), columns)


def _csv(path: Path) -> Iterator[tuple[int, Sequence[str]]]:
    raw = read_bytes(path, most=MOST_BYTES)
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
                yield reader.line_num, cells
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num}, is no CSV ({error}); correct the line") from error


def _parquet(path: Path) -> Iterator[tuple[int, Sequence[str]]]:
    """Yield the rows; columns that are not in COLUMNS are not read, and their cells are empty.

    Text stays encoded by a dictionary, and what a file of few bytes may claim is checked before it is read.
    """
    import pyarrow
    from pyarrow import parquet

    require_file(path, MOST_BYTES)
    try:
        schema = parquet.read_schema(path)
        names = [name for name in schema.names if not name.startswith("__index_level_")]
        wanted = [name for name in names if name.strip() in COLUMNS]
        text = [name for name in wanted if _is_text(path, schema, name)]
        with parquet.ParquetFile(path, read_dictionary=text) as file:
            _check_claims(path, file.metadata, wanted)
            yield 0, names
            number = 0
            for batch in file.iter_batches(_ROWS_AT_ONCE, columns=wanted):
                columns = {name: _cells(batch.column(name)) for name in wanted}
                empty = [""] * batch.num_rows
                for cells in zip(*(columns.get(name, empty) for name in names), strict=True):
                    number += 1
                    yield number, cells
    except (pyarrow.ArrowException, OSError, ValueError, MemoryError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path} cannot be read as Parquet ({error}); write it again") from error


def _is_text(path: Path, schema: Any, name: str) -> bool:
    """Return whether a column holds text; raises UserError for lists, tables and bytes."""
    from pyarrow import types

    kind = schema.field(name).type
    if types.is_nested(kind) or types.is_binary(kind) or types.is_large_binary(kind):
        raise UserError(f"{path} holds {kind} in the column `{name}`, where every row has one value; write text")
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_dictionary(kind))


def _check_claims(path: Path, metadata: Any, wanted: Sequence[str]) -> None:
    """Raise UserError for more rows or bytes than a manifest may have, by what the file itself says."""
    if metadata.num_rows > MOST_ROWS:
        raise UserError(f"{path} lists {metadata.num_rows:,} images, more than {MOST_ROWS:,}; cut it into several")
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    chunks = [group.column(number) for group in groups for number in range(group.num_columns)]
    held = sum(chunk.total_uncompressed_size for chunk in chunks if chunk.path_in_schema in wanted)
    if held > MOST_BYTES:
        held_mib, most_mib = held >> 20, MOST_BYTES >> 20
        raise UserError(f"{path} holds {held_mib} MiB of cells, more than {most_mib} MiB; cut it into several")


def _cells(column: Any) -> list[str]:
    """Return the cells of a column; equal text is one object, however often it occurs."""
    if hasattr(column, "dictionary"):
        texts = [_text(value) for value in column.dictionary.to_pylist()]
        return ["" if index is None else texts[index] for index in column.indices.to_pylist()]
    return [_text(value) for value in column.to_pylist()]


def _text(cell: object) -> str:
    """Return a Parquet cell as in CSV: empty for null, whole numbers without a fraction."""
    if cell is None or cell != cell:
        return ""
    return str(int(cell)) if isinstance(cell, float) and cell.is_integer() else str(cell)
