"""Lost chunks: putting rows that were computed again where they belong, or giving up the seal."""

from collections.abc import Iterable, Mapping

import numpy as np

from stores.format.chunks import encode_chunk
from stores.format.commits import Commit, write_commit
from stores.format.layout import Layout, chunk_name
from stores.format.paths import seal_path
from stores.format.summary import array_entries, update_summary
from stores.sets import ZarrSet
from stores.specs import ArraySpec

Chunks = Mapping[str, Iterable[int]]
"""Chunk numbers by array."""


class ChunkRebuilder:
    """Takes rows of sealed arrays that were made again, and replaces damaged chunks that come out as sealed."""

    def __init__(self, target: ZarrSet, lost: Chunks) -> None:
        self.set = target
        self.lost = {name: frozenset(indexes) for name, indexes in lost.items()}
        self.buffers: dict[tuple[str, int], tuple[np.ndarray, int]] = {}
        self.repaired: dict[str, list[int]] = {}
        """Chunks that were replaced, by array."""
        self.differing: dict[str, list[int]] = {}
        """Chunks whose rows come out otherwise than they were sealed, by array; nothing was replaced there."""

    def rows(self) -> dict[tuple[int, int], tuple[str, ...]]:
        """Return which arrays need which rows, by ``(first row, row after the last)`` of a chunk."""
        found: dict[tuple[int, int], set[str]] = {}
        for name, indexes in self.lost.items():
            for index in indexes:
                found.setdefault(chunk_span(self.set, name, index), set()).add(name)
        return {span: tuple(sorted(names)) for span, names in sorted(found.items())}

    def take(self, name: str, start: int, rows: np.ndarray) -> None:
        """Take rows ``start`` onwards of an array; rows of chunks that are not damaged are passed over."""
        layout, array = self.set.layout, self.set.arrays[name]
        chunk_rows = layout.chunk_rows(array)
        for index in range(start // chunk_rows, (start + len(rows) - 1) // chunk_rows + 1):
            if index not in self.lost.get(name, frozenset()):
                continue
            first = index * chunk_rows
            stop = min(first + chunk_rows, layout.n_rows)
            low, high = max(first, start), min(stop, start + len(rows))
            values, filled = self.buffers.pop((name, index), (None, 0))
            if values is None:
                values = np.full((chunk_rows, *array.row_shape), array.fill, array.dtype)
            values[low - first : high - first] = rows[low - start : high - start]
            filled += high - low
            if filled == stop - first:
                self._replace(name, index, values, layout, array)
            else:
                self.buffers[name, index] = (values, filled)

    def _replace(self, name: str, index: int, values: np.ndarray, layout: Layout, array: ArraySpec) -> None:
        chunk = chunk_name(index, array)
        encoded = encode_chunk(values, layout.compression)
        same = encoded.sha256 == self.set.seals[name].objects[chunk].sha256
        (self.repaired if same else self.differing).setdefault(name, []).append(index)
        if same:
            self.set.objects.put(f"{self.set.prefix}/{name}/{chunk}", encoded.parts)


def chunk_span(target: ZarrSet, name: str, index: int) -> tuple[int, int]:
    """Return the first row of a chunk and the row after its last."""
    chunk_rows = target.layout.chunk_rows(target.arrays[name])
    return index * chunk_rows, min((index + 1) * chunk_rows, target.layout.n_rows)


def unseal(target: ZarrSet, lost: Chunks) -> None:
    """Open sealed arrays again: sound ranges keep commit records, ranges with lost chunks count as missing.

    The next extraction makes those again and seals the arrays with new digests. A kill in between leaves the array
    sealed as it was, or open with every sound range committed.
    """
    objects, prefix, layout = target.objects, target.prefix, target.layout
    entries = array_entries(target.arrays, {name: s for name, s in target.seals.items() if name not in lost})
    for name, indexes in lost.items():
        array, seal = target.arrays[name], target.seals[name]
        chunk_rows = layout.chunk_rows(array)
        gone = {layout.range_of_chunk(index, array) for index in indexes}
        for row_range in layout.ranges():
            if row_range.number not in gone:
                chunks = range(row_range.start // chunk_rows, -(-row_range.stop // chunk_rows))
                names = [chunk_name(index, array) for index in chunks]
                stored = {name: {chunk: seal.objects[chunk] for chunk in names}}
                number, start, stop = row_range
                write_commit(
                    objects, prefix, Commit(set=target.digest, range=number, start=start, stop=stop, objects=stored)
                )
    update_summary(objects, prefix, {"arrays": entries})
    for name in lost:
        objects.delete(f"{prefix}/{seal_path(name)}")
    target.refresh()


def in_words(target: ZarrSet, lost: Chunks) -> list[str]:
    """Return one line an array and chunk, for people."""
    return [
        f"{name} rows {first} to {stop - 1}"
        for name in sorted(lost)
        for first, stop in (chunk_span(target, name, index) for index in sorted(lost[name]))
    ]
