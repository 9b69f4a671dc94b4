"""Rebuilding lost chunks of sealed arrays from recomputed rows, and unsealing arrays that cannot be rebuilt."""

from collections.abc import Iterable, Mapping

import numpy as np

from stores.format.chunks import encode_chunk
from stores.format.commits import Commit, CommittedChunks, write_commit
from stores.format.layout import Layout, chunk_name
from stores.format.paths import seal_path
from stores.format.records import replace
from stores.format.summary import list_unsealed
from stores.sets import ZarrSet
from stores.specs import ArraySpec

Chunks = Mapping[str, Iterable[int]]
"""Chunk numbers by array."""


class ChunkRebuilder:
    """Rebuilds damaged chunks of sealed arrays from recomputed rows, where the bytes have the digest in the seal."""

    def __init__(self, target: ZarrSet, lost: Chunks) -> None:
        self.set = target
        self.lost = {name: frozenset(indexes) for name, indexes in lost.items()}
        self.buffers: dict[tuple[str, int], tuple[np.ndarray, int]] = {}
        self.repaired: dict[str, list[int]] = {}
        """Chunks that were replaced, by array."""
        self.differing: dict[str, list[int]] = {}
        """Chunks whose recomputed bytes differ from the sealed ones, by array; these were not replaced."""

    def rows(self) -> dict[tuple[int, int], tuple[str, ...]]:
        """Return which arrays need rows, by ``(first row, row after the last)`` of a chunk."""
        spans: dict[tuple[int, int], set[str]] = {}
        for name, indexes in self.lost.items():
            for index in indexes:
                spans.setdefault(chunk_span(self.set, name, index), set()).add(name)
        return {span: tuple(sorted(names)) for span, names in sorted(spans.items())}

    def take(self, name: str, start: int, rows: np.ndarray) -> None:
        """Add rows ``start`` onwards of an array; rows of chunks that are not damaged are ignored."""
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
        same = encoded.stored.sha256 == self.set.seals[name].table.at(index).sha256
        (self.repaired if same else self.differing).setdefault(name, []).append(index)
        if same:
            replace(self.set.objects, f"{self.set.prefix}/{name}/{chunk}", list(encoded.parts))


def chunk_span(target: ZarrSet, name: str, index: int) -> tuple[int, int]:
    """Return the first row of a chunk and the row after its last."""
    chunk_rows = target.layout.chunk_rows(target.arrays[name])
    return index * chunk_rows, min((index + 1) * chunk_rows, target.layout.n_rows)


def unseal(target: ZarrSet, lost: Chunks) -> None:
    """Remove the seals of arrays: their undamaged ranges get commit records, ranges with lost chunks are missing.

    The next extraction makes those again and seals the arrays with new digests. A kill in between leaves an array
    sealed as it was, or open with every undamaged range committed.
    """
    objects, prefix, layout = target.objects, target.prefix, target.layout
    arrays = {name: target.arrays[name] for name in lost}
    for name, indexes in lost.items():
        array, seal = target.arrays[name], target.seals[name]
        chunk_rows = layout.chunk_rows(array)
        damaged = {layout.range_of_chunk(index, array) for index in indexes}
        for row_range in layout.ranges():
            if row_range.number not in damaged:
                number, start, stop = row_range
                table = seal.table.rows(start // chunk_rows, -(-stop // chunk_rows))
                stored = {name: CommittedChunks.of(table, seal.range_contents[number])}
                write_commit(
                    objects, prefix, Commit(set=target.digest, range=number, start=start, stop=stop, arrays=stored)
                )
    list_unsealed(objects, prefix, arrays)
    for name in lost:
        objects.delete(f"{prefix}/{seal_path(name)}")
    list_unsealed(objects, prefix, arrays)  # another process may have written the summary that it read before
    target.refresh()


def describe_chunks(target: ZarrSet, lost: Chunks) -> list[str]:
    """Return the array and rows of each chunk as text."""
    return [
        f"{name} rows {first} to {stop - 1}"
        for name in sorted(lost)
        for first, stop in (chunk_span(target, name, index) for index in sorted(lost[name]))
    ]
