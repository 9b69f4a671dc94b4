"""Reading and writing the tables of a set as Parquet."""

import errno
import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pandas as pd

from stores.errors import DamageError, PatchbankError, UserError

MOST_CELLS = 1_000_000_000
"""Largest number of cells of a table that is read."""

MOST_TEXT_BYTES = 4 << 30
"""Largest size of all texts of a table that is read, in bytes."""

NO_MEMORY = "there is not enough memory to read {name}: free some, then run the same command again"
"""Message of a shortage, which is no damage."""


def table_bytes(table: pd.DataFrame) -> bytes:
    """Return a table as Parquet, without pandas metadata; equal tables give equal bytes."""
    import pyarrow
    import pyarrow.parquet

    columns = {name: pyarrow.array(table[name].tolist()) for name in table.columns}
    sink = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(columns), sink, compression="zstd")
    return sink.getvalue()


def read_table(data: bytes, name: str = "a table", n_rows: int | None = None) -> pd.DataFrame:
    """Return a table written by `table_bytes`; raises as `read_arrow` does."""
    with _decoding(name):
        frame: pd.DataFrame = read_arrow(data, name, n_rows).to_pandas()
    return frame


def read_arrow(data: bytes, name: str, n_rows: int | None = None) -> Any:
    """Return Parquet as an Arrow table.

    Raises DamageError, whose message begins with ``name``, when the bytes are not Parquet, when the table has not
    ``n_rows`` rows (if given), or is larger than `MOST_CELLS` and `MOST_TEXT_BYTES`; nothing is decoded then.
    """
    import pyarrow
    import pyarrow.parquet

    with _decoding(name):
        facts = pyarrow.parquet.read_metadata(io.BytesIO(data))
        if n_rows is not None and facts.num_rows != n_rows:
            raise DamageError(f"{name} has {facts.num_rows} rows instead of {n_rows}: run `patchbank verify`")
        chunks = [
            facts.row_group(group).column(column)
            for group in range(facts.num_row_groups)
            for column in range(facts.num_columns)
        ]
        n_cells = max(facts.num_rows * facts.num_columns, sum(chunk.num_values for chunk in chunks))
        if n_cells > MOST_CELLS:
            raise DamageError(
                f"{name} declares {n_cells} cells in {facts.num_rows} rows, more than are read: run `patchbank verify`"
            )
        # A text that a dictionary holds once may stand in every row, so these columns are decoded after their size
        # is known, unless every row may hold the whole file.
        texts = {chunk.path_in_schema for chunk in chunks if chunk.physical_type == "BYTE_ARRAY"}
        small = sum(chunk.num_values * chunk.total_uncompressed_size for chunk in chunks) <= MOST_TEXT_BYTES
        nested = {path for path in texts if "." in path and path not in facts.schema.names}
        if nested and not small:
            raise DamageError(f"{name} holds lists of texts, which are not read: run `patchbank verify`")
        table = pyarrow.parquet.read_table(io.BytesIO(data), read_dictionary=[] if small else sorted(texts))
        if sum(map(_text_bytes, table.columns)) > MOST_TEXT_BYTES:
            raise DamageError(f"{name} holds more than {MOST_TEXT_BYTES} bytes of text: run `patchbank verify`")
        decoded = [
            column.cast(column.type.value_type) if pyarrow.types.is_dictionary(column.type) else column
            for column in table.columns
        ]
        return pyarrow.table(dict(zip(table.column_names, decoded, strict=True)))


@contextmanager
def _decoding(name: str) -> Iterator[None]:
    """Turn errors of decoding Parquet into ours."""
    import pyarrow

    try:
        yield
    except PatchbankError:
        raise
    except MemoryError as error:  # pyarrow's own is one too
        raise UserError(NO_MEMORY.format(name=name)) from error
    except OSError as error:
        if error.errno == errno.ENOMEM:
            raise UserError(NO_MEMORY.format(name=name)) from error
        raise DamageError(f"{name} is not readable as Parquet ({error}): run `patchbank verify`") from error
    except (pyarrow.ArrowException, ValueError, TypeError, KeyError, OverflowError) as error:
        raise DamageError(f"{name} is not readable as Parquet ({error}): run `patchbank verify`") from error


def _text_bytes(column: Any) -> int:
    """Return the size of the texts of a column read as a dictionary in all its rows, in bytes; 0 for other columns."""
    import pyarrow
    import pyarrow.compute as compute

    if not pyarrow.types.is_dictionary(column.type):
        return 0
    sizes = (compute.binary_length(part.dictionary).take(part.indices) for part in column.chunks)
    return sum(int(compute.sum(compute.cast(size, pyarrow.int64())).as_py() or 0) for size in sizes)


def unreadable(key: str, error: DamageError) -> UserError:
    """Return the error of a table with the bytes that were written: the process lacks memory or threads."""
    return UserError(
        f"{key} is whole and could not be read ({error.__cause__ or error}): free some memory, then run the same "
        "command again"
    )
