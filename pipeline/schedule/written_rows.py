"""The rows of a data set as two Arrow files in the store, written once by the first process and read by all workers.

Columns are read where they lie: of a local store the pages of the file, which all workers of a machine share. What is
small or needs a pickle (the reader of the data set, bad samples) is sent to each worker with the digests of the files.
"""

import io
import pickle
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from pipeline.labels.label_set import label_spec
from pipeline.rows.columns import SOURCE_COLUMNS, TEXT, RowTiles, SourceColumns
from pipeline.rows.samples import Samples
from pipeline.views import CLEAN
from stores.canonical import sha256_hex
from stores.errors import MissingError, PatchbankError, UserError
from stores.format.paths import ARROW, LOGS
from stores.storage.base import Objects
from stores.storage.local import LocalObjects

BATCH_ROWS = 1 << 16
"""Rows of which columns are made at a time."""
SOURCE, KIND = "tile.source", "tile.kind"
"""Columns beside those of the sample table: `RowTiles.source` and `RowTiles.kind`."""
_NONE = np.empty(0, np.int64)
_AGAIN = "the rows of the data set that workers read in {url} are {what}: run the same command again"


@dataclass(frozen=True)
class WrittenRows:
    """Where the rows are, and what of them is sent."""

    digests: dict[str, str]
    """sha256 by key of the file with a line a row (its tile, and the sample table), and of that with one a source."""
    rest: bytes
    """Everything else, pickled."""

    @property
    def digest(self) -> str:
        """What names the rows."""
        return sha256_hex(" ".join((*self.digests.values(), sha256_hex(self.rest))).encode())


def write_rows(samples: Samples, objects: Objects, run: str) -> WrittenRows:
    """Write the rows of a data set to the store; raises UserError where it cannot be written.

    Args:
        samples: The rows in the clean view.
        objects: Storage of the store.
        run: Names the command; part of the names of the files.
    """
    types = {"i": pa.int64(), "f": pa.float64(), "b": pa.bool_()}
    of_rows = [(name, types.get(samples.table[name].dtype.kind, TEXT)) for name in samples.table.columns]
    of_rows += [(SOURCE, pa.int64()), (KIND, pa.int64())]
    files: dict[str, tuple[Any, Iterator[dict[str, Any]]]] = {
        f"{LOGS}/rows-{run}{ARROW}": (pa.schema(of_rows), _row_batches(samples)),
        f"{LOGS}/sources-{run}{ARROW}": (SOURCE_COLUMNS, _source_batches(samples)),
    }
    digests = {}
    for key, columns in files.items():
        data = _arrow_bytes(*columns)
        objects.put(key, [data])
        digests[key] = sha256_hex(data)
    rest = replace(
        samples,
        digests=None,
        columns=SourceColumns(samples.columns.root, SOURCE_COLUMNS.empty_table()),
        tiles=RowTiles(None, _NONE, _NONE, samples.tiles.kinds),
        table=samples.table.iloc[:0],
        label_record=label_spec(samples),
    )
    return WrittenRows(digests, pickle.dumps(rest))


def remove_rows(written: WrittenRows, objects: Objects) -> None:
    """Remove the files, if they are still there and the storage answers."""
    for key in written.digests:
        with suppress(PatchbankError):
            objects.delete(key)


def read_rows(written: WrittenRows, objects: Objects) -> Samples:
    """Return the rows, whose columns stay in the files; raises UserError for files that are gone or not as written."""
    rows, sources = (_read(objects, key, digest) for key, digest in written.digests.items())
    rest: Samples = pickle.loads(written.rest)  # noqa: S301 (of our parent)
    source, kind = (rows[name].to_numpy() for name in (SOURCE, KIND))
    return replace(
        rest,
        columns=SourceColumns(rest.columns.root, sources),
        tiles=RowTiles(sources["name"], source, kind, rest.tiles.kinds),
        table=rows.drop_columns([SOURCE, KIND]).to_pandas(types_mapper=pd.ArrowDtype),
        view=CLEAN,  # known by identity, which no pickle keeps
    )


def _row_batches(samples: Samples) -> Iterator[dict[str, Any]]:
    for start in range(0, len(samples.tiles), BATCH_ROWS):
        rows = slice(start, start + BATCH_ROWS)
        table = samples.table.iloc[rows]
        numbers = {SOURCE: samples.tiles.source[rows], KIND: samples.tiles.kind[rows]}
        yield {**{name: table[name].tolist() for name in table.columns}, **numbers}


def _source_batches(samples: Samples) -> Iterator[dict[str, Any]]:
    for batch in samples.columns.table.to_batches(BATCH_ROWS):
        yield {name: batch[name] for name in SOURCE_COLUMNS.names}


def _arrow_bytes(schema: Any, batches: Iterable[dict[str, Any]]) -> bytes:
    """Return columns as an Arrow file.

    Args:
        schema: Names and types of the columns.
        batches: Values of the columns, some lines at a time.
    """
    sink = io.BytesIO()
    with pa.ipc.new_file(sink, schema) as writer:
        for batch in batches:
            writer.write_batch(pa.record_batch([pa.array(batch[one.name], one.type) for one in schema], schema=schema))
    return sink.getvalue()


def _read(objects: Objects, key: str, digest: str) -> Any:
    """Return a file as an Arrow table, after its bytes were compared with their digest."""
    try:
        if isinstance(objects, LocalObjects):
            buffer = pa.memory_map(str(objects.path(key))).read_buffer()
        else:
            buffer = pa.py_buffer(objects.read(key))
    except (MissingError, FileNotFoundError):
        raise UserError(_AGAIN.format(url=objects.url, what="gone")) from None
    if sha256_hex(memoryview(buffer)) != digest:
        raise UserError(_AGAIN.format(url=objects.url, what="not as they were written"))
    return pa.ipc.open_file(buffer).read_all()
