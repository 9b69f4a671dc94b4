"""Sources and rows of a set as columns, read one at a time: objects for each of a million images take gigabytes."""

import bisect
from collections.abc import Callable, Container, ItemsView, Iterator, Mapping, Sequence, ValuesView
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, TypeVar, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Int64

from pipeline.datasets.contract import Source
from pipeline.rows.frames import Tile
from stores.canonical import digest_of_list
from stores.specs import Size

T = TypeVar("T")

_AT_A_TIME = 4096
TEXT, _NUMBER = pa.large_string(), pa.int64()
SOURCE_COLUMNS = pa.schema(
    [
        ("name", TEXT),
        ("label", TEXT),
        ("group", TEXT),
        ("split", TEXT),
        ("image_class", _NUMBER),
        ("video", TEXT),
        ("frame", _NUMBER),
        ("seconds", pa.float64()),
        ("label_sha256", TEXT),
        ("image_digest", TEXT),
        ("label_digest", TEXT),
        ("width", _NUMBER),
        ("height", _NUMBER),
    ]
)
"""Columns of `SourceColumns`: those of `Source`, the sha256 of image and label, and the size of the image in pixels."""


@dataclass(frozen=True)
class SourceColumns:
    """The sources of a set in the order of their names."""

    root: Path
    """The data set's root folder."""
    table: Any
    """An Arrow table with `SOURCE_COLUMNS`, null for what a source has not."""
    _facts: dict[tuple[str, ...], str] = field(default_factory=dict, compare=False, repr=False)
    """`facts_digest` by the sources that are marked: of a million sources it takes seconds."""

    @classmethod
    def of(cls, sources: Sequence[Source], label_sha256: Mapping[Path, str]) -> "SourceColumns":
        """Return sources as columns, without what `with_images` adds.

        Args:
            sources: The sources, with increasing names.
            label_sha256: sha256 of every label file.
        """
        labels = [source.label for source in sources]
        digests = [None if label is None else label_sha256.get(label) for label in labels]
        nothing = [None] * len(sources)
        columns: dict[str, Sequence[object]] = {
            "name": [source.name for source in sources],
            "label": [None if label is None else str(label) for label in labels],
            "group": [source.group for source in sources],
            "split": [source.split for source in sources],
            "image_class": [source.image_class for source in sources],
            "video": [source.video for source in sources],
            "frame": [source.frame for source in sources],
            "seconds": [source.seconds for source in sources],
            "label_sha256": [
                source.label_sha256 if digest is None else digest
                for source, digest in zip(sources, digests, strict=True)
            ],
            "label_digest": digests,
        }
        arrays = [pa.array(columns.pop(one.name, nothing), one.type) for one in SOURCE_COLUMNS]
        return cls(sources[0].root, pa.Table.from_arrays(arrays, schema=SOURCE_COLUMNS))

    def with_images(
        self, sha256: Any, heights: Int64[np.ndarray, " source"], widths: Int64[np.ndarray, " source"]
    ) -> "SourceColumns":
        """Return the sources with what is known of their images.

        Args:
            sha256: sha256 of each image, an Arrow array of texts.
            heights: Heights of the images in pixels, 0 where they are unknown.
            widths: Widths likewise.
        """
        columns = {
            "image_digest": sha256,
            "height": pa.array(heights, mask=heights == 0),
            "width": pa.array(widths, mask=widths == 0),
        }
        arrays = [columns.get(one.name, self.table[one.name]) for one in SOURCE_COLUMNS]
        return SourceColumns(self.root, pa.Table.from_arrays(arrays, schema=SOURCE_COLUMNS))

    @property
    def names(self) -> Any:
        """Names of the sources, an Arrow array."""
        return self.table["name"].combine_chunks()

    def paths(self, numbers: Sequence[int] | Int64[np.ndarray, " number"]) -> list[str]:
        """Return the paths of the images of some sources."""
        names = pc.take(self.table["name"], pa.array(numbers, pa.int64())).to_pylist()
        return [f"{self.root}/{name}" for name in names]

    def __len__(self) -> int:
        return len(self.table)

    @cached_property
    def sources(self) -> Mapping[str, Source]:
        """The sources by name."""
        return _BySource(self.table["name"], self._sources)

    @cached_property
    def sizes(self) -> Mapping[str, Size]:
        """Sizes in pixels of the images of known size, by source name."""
        return _BySource(self.table["name"], self._sizes)

    @cached_property
    def image_digests(self) -> Mapping[str, str]:
        """sha256 of every image, by source name."""
        return _BySource(self.table["name"], self._values("image_digest"))

    @cached_property
    def label_digests(self) -> Mapping[str, str]:
        """sha256 of the label file of every source that has one, by source name."""
        return _BySource(self.table["name"], self._values("label_digest"))

    def facts_digest(self, invalid: Container[str]) -> str:
        """Return the digest of what is known about whole sources: group, split, class and place in a video.

        Args:
            invalid: Names of sources whose labels are bad, which are marked.
        """
        marked = tuple(name for name in self.sources if name in invalid) if invalid else ()
        if marked not in self._facts:
            self._facts[marked] = digest_of_list(self._lines_of_facts(set(marked)))
        return self._facts[marked]

    def _lines_of_facts(self, marked: Container[str]) -> Iterator[list[object]]:
        names = ("name", "group", "split", "image_class", "video", "frame", "seconds")
        for batch in self.table.select(names).to_batches(_AT_A_TIME):
            columns = [batch[name].to_pylist() for name in names]
            columns[-1] = map(str, columns[-1])
            for name, *facts in zip(*columns, strict=True):
                yield [name, *facts, *(["invalid"] if name in marked else [])]

    def _sources(self, start: int, stop: int) -> list[Source | None]:
        lines = self.table.slice(start, stop - start).select(SOURCE_COLUMNS.names[:9]).to_pylist()
        return [
            Source(
                name=line["name"],
                root=self.root,
                label=None if line["label"] is None else Path(line["label"]),
                group=line["group"],
                split=line["split"],
                image_class=line["image_class"],
                video=line["video"],
                frame=line["frame"],
                seconds=line["seconds"],
                label_sha256=line["label_sha256"],
            )
            for line in lines
        ]

    def _sizes(self, start: int, stop: int) -> list[Size | None]:
        heights, widths = (self.table[name].slice(start, stop - start).to_pylist() for name in ("height", "width"))
        return [
            None if height is None else Size(height=height, width=width)
            for height, width in zip(heights, widths, strict=True)
        ]

    def _values(self, column: str) -> Callable[[int, int], list[str | None]]:
        values = self.table[column]
        return lambda start, stop: list(values.slice(start, stop - start).to_pylist())


class _BySource(Mapping[str, T], Generic[T]):
    """A value of every source that has one, by its name.

    Args:
        names: Names of the sources, increasing.
        values: Returns the values of the sources from one number to another.
    """

    def __init__(self, names: Any, values: Callable[[int, int], Sequence[T | None]]) -> None:
        self._names, self._values = names, values
        self._length: int | None = None

    def __getitem__(self, name: str) -> T:
        number = bisect.bisect_left(range(len(self._names)), name, key=lambda at: self._names[at].as_py())
        if number < len(self._names) and self._names[number].as_py() == name:
            (found,) = self._values(number, number + 1)
            if found is not None:
                return found
        raise KeyError(name)

    def pairs(self) -> Iterator[tuple[str, T]]:
        """Yield names and values in order."""
        for start in range(0, len(self._names), _AT_A_TIME):
            stop = min(start + _AT_A_TIME, len(self._names))
            names = self._names.slice(start, stop - start).to_pylist()
            for name, value in zip(names, self._values(start, stop), strict=True):
                if value is not None:
                    yield name, value

    def __iter__(self) -> Iterator[str]:
        return (name for name, _ in self.pairs())

    def __len__(self) -> int:
        if self._length is None:
            self._length = sum(1 for _ in self)
        return self._length

    def items(self) -> ItemsView[str, T]:
        """Return names and values, read in order and not one by one."""
        return _Items(self)

    def values(self) -> ValuesView[T]:
        """Return the values, read in order and not one by one."""
        return _InOrder(self)


class _Items(ItemsView[str, T]):
    _mapping: _BySource[T]

    def __iter__(self) -> Iterator[tuple[str, T]]:
        return self._mapping.pairs()


class _InOrder(ValuesView[T]):
    _mapping: _BySource[T]

    def __iter__(self) -> Iterator[T]:
        return (value for _, value in self._mapping.pairs())


class RowTiles(Sequence[tuple[str, Tile]]):
    """Source name and tile of every row.

    Args:
        names: Names of the sources, an Arrow column.
        source: Number of each row's source.
        kind: Number of each row's tile among ``kinds``.
        kinds: The tiles; images of one size share theirs.
    """

    def __init__(
        self, names: Any, source: Int64[np.ndarray, " row"], kind: Int64[np.ndarray, " row"], kinds: Sequence[Tile]
    ) -> None:
        self.names, self.source, self.kind, self.kinds = names, source, kind, kinds

    def __len__(self) -> int:
        return len(self.source)

    @overload
    def __getitem__(self, index: int) -> tuple[str, Tile]: ...

    @overload
    def __getitem__(self, index: slice) -> list[tuple[str, Tile]]: ...

    def __getitem__(self, index: int | slice) -> tuple[str, Tile] | list[tuple[str, Tile]]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        number = range(len(self))[index]
        return self.names[int(self.source[number])].as_py(), self.kinds[int(self.kind[number])]

    def __iter__(self) -> Iterator[tuple[str, Tile]]:
        for start in range(0, len(self), _AT_A_TIME):
            names = pc.take(self.names, pa.array(self.source[start : start + _AT_A_TIME])).to_pylist()
            kinds = self.kind[start : start + _AT_A_TIME].tolist()
            yield from zip(names, map(self.kinds.__getitem__, kinds), strict=True)

    def of_kinds(self, values: Sequence[int]) -> Int64[np.ndarray, " row"]:
        """Return a number of each row's tile.

        Args:
            values: The number of every one of ``kinds``.
        """
        return np.array(values, np.int64)[self.kind]
