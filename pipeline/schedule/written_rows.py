"""The rows of a data set as two Arrow files in the store, written once by the first process and read by all workers.

Columns are read where they lie: of a local store the pages of the file, which all workers of a machine share. What is
small or needs a pickle (the reader of the data set, bad samples) is sent to each worker with the digests of the files.
"""

import bisect
import io
import pickle
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeVar, overload

import pandas as pd
import pyarrow as pa

from pipeline.datasets.contract import Source
from pipeline.labels.label_set import label_spec
from pipeline.rows.frames import Tile
from pipeline.rows.samples import Samples
from pipeline.views import CLEAN
from stores.canonical import sha256_hex
from stores.errors import MissingError, PatchbankError, UserError
from stores.format.paths import ARROW, LOGS
from stores.specs import Size
from stores.storage.base import Objects
from stores.storage.local import LocalObjects

T = TypeVar("T")

BATCH_ROWS = 1 << 16
"""Rows of which columns are made at a time."""
_EDGES = ("left", "top", "right", "bottom")
_TILE = tuple(f"tile.{name}" for name in ("row", "column", *_EDGES, *(f"owned_{edge}" for edge in _EDGES)))
_OF_SOURCE = {
    **dict.fromkeys(("name", "image", "label", "group", "split", "video", "label_sha256"), "text"),
    **dict.fromkeys(("image_digest", "label_digest"), "text"),
    "image_class": "i",
    "frame": "i",
    "seconds": "f",
    "width": "i",
    "height": "i",
}
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
    of_rows = {name: samples.table[name].dtype.kind for name in samples.table.columns} | dict.fromkeys(_TILE, "i")
    files: dict[str, tuple[Mapping[str, str], Iterator[dict[str, Any]]]] = {
        f"{LOGS}/rows-{run}{ARROW}": (of_rows, _row_batches(samples)),
        f"{LOGS}/sources-{run}{ARROW}": (_OF_SOURCE, _source_batches(samples)),
    }
    digests = {}
    for key, columns in files.items():
        data = _arrow_bytes(*columns)
        objects.put(key, [data])
        digests[key] = sha256_hex(data)
    rest = replace(
        samples,
        digests=None,
        sources={},
        sizes={},
        tiles=(),
        image_digests={},
        label_digests={},
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
    columns = {name: sources[name] for name in sources.column_names}
    names, widths, heights = columns["name"], columns["width"], columns["height"]

    def size(number: int) -> Size | None:
        width = widths[number].as_py()
        return None if width is None else Size(height=heights[number].as_py(), width=width)

    def text(name: str) -> Callable[[int], str | None]:
        return lambda number: columns[name][number].as_py()

    shown = rows.drop_columns(list(_TILE))
    return replace(
        rest,
        sources=_BySource(names, lambda number: _source({name: columns[name][number].as_py() for name in columns})),
        sizes=_BySource(names, size),
        tiles=_Tiles(rows["source"], [rows[name] for name in _TILE]),
        image_digests=_BySource(names, text("image_digest")),
        label_digests=_BySource(names, text("label_digest")),
        table=shown.to_pandas(types_mapper=pd.ArrowDtype),
        view=CLEAN,  # known by identity, which no pickle keeps
    )


class _BySource(Mapping[str, T], Generic[T]):
    """A value of every source that has one, by its name.

    Args:
        names: Names of the sources, increasing.
        value: Returns the value of the source of a number, None for none.
    """

    def __init__(self, names: Any, value: Callable[[int], T | None]) -> None:
        self._names, self._value = names, value
        self._length: int | None = None

    def __getitem__(self, name: str) -> T:
        number = bisect.bisect_left(range(len(self._names)), name, key=lambda at: self._names[at].as_py())
        if number < len(self._names) and self._names[number].as_py() == name:
            found = self._value(number)
            if found is not None:
                return found
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return (name.as_py() for number, name in enumerate(self._names) if self._value(number) is not None)

    def __len__(self) -> int:
        if self._length is None:
            self._length = sum(1 for _ in self)
        return self._length


class _Tiles(Sequence[tuple[str, Tile]]):
    """Source name and tile of every row."""

    def __init__(self, names: Any, columns: Sequence[Any]) -> None:
        self._names, self._columns = names, columns

    def __len__(self) -> int:
        return len(self._names)

    @overload
    def __getitem__(self, index: int) -> tuple[str, Tile]: ...

    @overload
    def __getitem__(self, index: slice) -> list[tuple[str, Tile]]: ...

    def __getitem__(self, index: int | slice) -> tuple[str, Tile] | list[tuple[str, Tile]]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        number = range(len(self))[index]
        row, column, *edges = (values[number].as_py() for values in self._columns)
        return self._names[number].as_py(), Tile(row, column, tuple(edges[:4]), tuple(edges[4:]))


def _row_batches(samples: Samples) -> Iterator[dict[str, Any]]:
    for start in range(0, len(samples.tiles), BATCH_ROWS):
        cut = [tile for _, tile in samples.tiles[start : start + BATCH_ROWS]]
        values = zip(*((tile.row, tile.column, *tile.box, *tile.owned) for tile in cut), strict=True)
        tiles = dict(zip(_TILE, values, strict=True))
        table = samples.table.iloc[start : start + BATCH_ROWS]
        yield {**{name: table[name].tolist() for name in table.columns}, **tiles}


def _source_batches(samples: Samples) -> Iterator[dict[str, Any]]:
    listed = sorted(samples.sources.values(), key=lambda source: source.name)
    for start in range(0, len(listed), BATCH_ROWS):
        some = listed[start : start + BATCH_ROWS]
        sizes = [samples.sizes.get(source.name) for source in some]
        yield {
            "name": [source.name for source in some],
            "image": [str(source.image) for source in some],
            "label": [None if source.label is None else str(source.label) for source in some],
            "group": [source.group for source in some],
            "split": [source.split for source in some],
            "image_class": [source.image_class for source in some],
            "video": [source.video for source in some],
            "frame": [source.frame for source in some],
            "seconds": [source.seconds for source in some],
            "label_sha256": [source.label_sha256 for source in some],
            "image_digest": [samples.image_digests.get(source.name) for source in some],
            "label_digest": [samples.label_digests.get(source.name) for source in some],
            "width": [None if size is None else size.width for size in sizes],
            "height": [None if size is None else size.height for size in sizes],
        }


def _source(line: dict[str, Any]) -> Source:
    return Source(
        name=line["name"],
        image=Path(line["image"]),
        label=None if line["label"] is None else Path(line["label"]),
        group=line["group"],
        split=line["split"],
        image_class=line["image_class"],
        video=line["video"],
        frame=line["frame"],
        seconds=line["seconds"],
        label_sha256=line["label_sha256"],
    )


def _arrow_bytes(kinds: Mapping[str, str], batches: Iterable[dict[str, Any]]) -> bytes:
    """Return columns as an Arrow file.

    Args:
        kinds: Kind of each column as numpy's letter: ``i`` and ``f`` numbers, ``b`` truth values, all others text.
        batches: Values of the columns, some lines at a time.
    """
    types = {"i": pa.int64(), "f": pa.float64(), "b": pa.bool_()}
    schema = pa.schema([(name, types.get(kind, pa.large_string())) for name, kind in kinds.items()])
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
