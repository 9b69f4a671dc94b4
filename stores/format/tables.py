"""Reading and writing the tables of a set as Parquet."""

import io

import pandas as pd

from stores.errors import DamageError, UserError

MOST_CELLS = 1_000_000_000
"""Largest number of cells of a table that is read."""


def table_bytes(table: pd.DataFrame) -> bytes:
    """Return a table as Parquet, without pandas metadata; equal tables give equal bytes."""
    import pyarrow
    import pyarrow.parquet

    columns = {name: pyarrow.array(table[name].tolist()) for name in table.columns}
    sink = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(columns), sink, compression="zstd")
    return sink.getvalue()


def read_table(data: bytes, name: str = "a table", n_rows: int | None = None) -> pd.DataFrame:
    """Return a table written by `table_bytes`.

    Raises DamageError, whose message begins with ``name``, when the bytes are not Parquet, when the table has not
    ``n_rows`` rows (if given), or has more cells than `MOST_CELLS`; nothing is decoded then.
    """
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(io.BytesIO(data))
        facts = file.metadata
        if n_rows is not None and facts.num_rows != n_rows:
            raise DamageError(f"{name} has {facts.num_rows} rows instead of {n_rows}: run `patchbank verify`")
        if facts.num_rows * facts.num_columns > MOST_CELLS:
            raise DamageError(
                f"{name} declares {facts.num_rows} rows of {facts.num_columns} columns, more than are read: run "
                "`patchbank verify`"
            )
        table: pd.DataFrame = file.read().to_pandas()
    except MemoryError as error:  # pyarrow's own is one too
        raise UserError(
            f"there is not enough memory to read {name}: free some, then run the same command again"
        ) from error
    except (pyarrow.ArrowException, OSError, ValueError, TypeError, KeyError, OverflowError) as error:
        raise DamageError(f"{name} is not readable as Parquet ({error}): run `patchbank verify`") from error
    return table
