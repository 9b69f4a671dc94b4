"""Tables of a set as Parquet bytes."""

import io

import pandas as pd

from stores.errors import DamageError

MOST_CELLS = 1_000_000_000
"""Cells of the largest table that is read."""


def table_bytes(table: pd.DataFrame) -> bytes:
    """Return a table as Parquet, without anything of pandas in it; equal tables give equal bytes."""
    import pyarrow
    import pyarrow.parquet

    columns = {name: pyarrow.array(table[name].tolist()) for name in table.columns}
    sink = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(columns), sink, compression="zstd")
    return sink.getvalue()


def read_table(data: bytes, name: str = "a table", n_rows: int | None = None) -> pd.DataFrame:
    """Return a table written by `table_bytes`.

    Raises DamageError, which begins with ``name``, when the bytes are no Parquet, when there are not ``n_rows`` rows
    (if given), or more cells than `MOST_CELLS`, before any is decoded.
    """
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(io.BytesIO(data))
        said = file.metadata
        if n_rows is not None and said.num_rows != n_rows:
            raise DamageError(f"{name} has {said.num_rows} rows where {n_rows} belong: run `patchbank verify`")
        if said.num_rows * said.num_columns > MOST_CELLS:
            raise DamageError(f"{name} says it has {said.num_rows} rows of {said.num_columns} columns: it is not read")
        table: pd.DataFrame = file.read().to_pandas()
    except (pyarrow.ArrowException, OSError, ValueError, TypeError, KeyError, OverflowError) as error:
        raise DamageError(f"{name} is not readable as Parquet ({error}): run `patchbank verify`") from error
    return table
