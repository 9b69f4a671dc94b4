"""Takes rows over from other sets of the store that hold them under an equal recipe, so that no model runs on them.

On the devices that were measured a row's values do not depend on the other rows of its batch; their last bits can
depend on the number of rows, and on everything else in the compute record. Rows that meet the model are therefore
computed in batches padded to the size that a set without taken-over rows would use, and rows whose other set has
another compute record, or had them in a batch of another size, are marked in the provenance (docs/decisions.md).
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Int64

from pipeline.captures.contract import rows_together
from pipeline.extraction.job import Job
from pipeline.extraction.loading import batch_shape, full_shape
from pipeline.extraction.model_pass.forward import BatchArrays
from stores import ZarrSet
from stores.errors import PatchbankError
from stores.format.layout import Layout, RowRange
from stores.specs import ArraySpec
from stores.writing.known_rows import CheckedRows, OtherSet

TAKEN_OVER = "taken_over"
"""Key in the provenance of a set that holds rows of other sets."""

Missing = dict[RowRange, tuple[ArraySpec, ...]]
"""Ranges, each with the arrays that it lacks."""

ComputeRows = Callable[[Iterable[RowRange], Callable[[RowRange], Sequence[int]]], BatchArrays]
"""Computes chosen rows of some ranges in batches."""

_ROWS_AT_ONCE = 64
"""Largest number of rows that are read from another set at once."""


class Rows(NamedTuple):
    """Consecutive rows of one range."""

    range: RowRange
    start: int
    stop: int
    values: dict[str, np.ndarray]
    """By address of the array."""
    taken_from: str = ""
    """Digest of the other set; empty for rows that the model computed."""


@dataclass(frozen=True, eq=False)
class KnownRows:
    """Which rows of some arrays are taken from which other set."""

    arrays: tuple[ArraySpec, ...]
    sets: tuple[OtherSet, ...]
    chosen: Int64[np.ndarray, " row"]
    """For each row the index of its other set, -1 for rows that the model computes."""

    def unknown(self, row_range: RowRange) -> Sequence[int]:
        """Return the rows of a range that the model computes."""
        unknown = row_range.start + np.flatnonzero(self.chosen[row_range.start : row_range.stop] < 0)
        return [int(row) for row in unknown]

    def counts(self, ranges: Iterable[RowRange]) -> dict[str, int]:
        """Return how many rows of some ranges are taken from each set, by its digest."""
        counts: dict[str, int] = {}
        for row_range in ranges:
            here = self.chosen[row_range.start : row_range.stop]
            for index in np.unique(here[here >= 0]):
                digest = self.sets[index].stored.digest
                counts[digest] = counts.get(digest, 0) + int((here == index).sum())
        return counts

    def merged(
        self,
        ranges: Iterable[RowRange],
        batches: BatchArrays,
        compute: ComputeRows,
    ) -> Iterator[Rows]:
        """Yield all rows of some ranges in order, those of ``batches`` and those of other sets.

        Args:
            ranges: The ranges, in the order of the batches.
            batches: The rows that the model computes.
            compute: Computes rows that cannot be read, because their set was damaged or removed since.
        """
        for row_range in ranges:
            position, left = row_range.start, len(self.unknown(row_range))
            while left:
                batch, values = next(batches)
                left -= len(batch)
                for rows in _runs(row_range, batch.rows, values):
                    yield from self._taken(row_range, position, rows.start, compute)
                    yield rows
                    position = rows.stop
            yield from self._taken(row_range, position, row_range.stop, compute)

    def _taken(self, row_range: RowRange, start: int, stop: int, compute: ComputeRows) -> Iterator[Rows]:
        """Yield rows ``start`` to ``stop``, all of which other sets hold."""
        while start < stop:
            index, end = int(self.chosen[start]), start + 1
            while (
                end < min(stop, start + max(_ROWS_AT_ONCE, *map(rows_together, self.arrays)))
                and self.chosen[end] == index
            ):
                end += 1
            try:
                numbers = self.sets[index].rows[start:end]
                values = {name: reader[numbers] for name, reader in self._readers[index].items()}
                yield Rows(row_range, start, end, values, self.sets[index].stored.digest)
            except PatchbankError:
                for batch, values in compute([row_range], lambda _, rows=range(start, end): rows):  # type: ignore[misc]
                    yield from _runs(row_range, batch.rows, values)
            start = end

    @cached_property
    def _readers(self) -> list[dict[str, CheckedRows]]:
        return [{array.name: CheckedRows(other.stored, array) for array in self.arrays} for other in self.sets]


@dataclass(frozen=True)
class ArraysPass:
    """Arrays that are made together in one pass over some ranges."""

    known: KnownRows
    ranges: list[RowRange]
    rows: Iterator[Rows]
    """All rows of the ranges in order, computed or taken over."""

    @property
    def n_unknown(self) -> int:
        """Number of rows that the model computes."""
        return sum(len(self.known.unknown(row_range)) for row_range in self.ranges)

    def notes(self, compute: Mapping[str, Any]) -> Iterator[str]:
        """Yield one line for every set whose rows were computed with other settings than ``compute``."""
        counts = self.known.counts(self.ranges)
        for other in self.known.sets:
            differs = differences(other.stored, compute)
            if differs and other.stored.digest in counts:
                theirs = ", ".join(f"{key} {value} (here {compute.get(key)})" for key, value in differs.items())
                yield (
                    f"{counts[other.stored.digest]:,} rows are taken over from {other.stored.digest[:12]}, which was "
                    f"computed with {theirs}: the last bits may differ, and the provenance says so"
                )


def _runs(row_range: RowRange, rows: Sequence[int], values: Mapping[str, np.ndarray]) -> Iterator[Rows]:
    """Yield the runs of consecutive rows among the rows of a batch."""
    borders = [0, *(np.flatnonzero(np.diff(rows) > 1) + 1).tolist(), len(rows)]
    for first, last in itertools.pairwise(borders):
        block = {name: array[first:last] for name, array in values.items()}
        yield Rows(row_range, rows[first], rows[last - 1] + 1, block)


def passes(missing: Missing) -> Iterator[tuple[list[RowRange], tuple[ArraySpec, ...]]]:
    """Group ranges that lack the same arrays; normally there is one group."""
    groups: dict[tuple[str, ...], tuple[list[RowRange], tuple[ArraySpec, ...]]] = {}
    for row_range, arrays in missing.items():
        key = tuple(array.name for array in arrays)
        groups.setdefault(key, ([], arrays))[0].append(row_range)
    yield from groups.values()


def known_rows(job: Job, arrays: Sequence[ArraySpec], compute: Mapping[str, Any], allow_mixed: bool) -> KnownRows:
    """Return which rows of a job are taken from which other set; sets with an equal compute record are preferred.

    A set of another kind of device is used only where that is allowed. A set that exists already takes rows of sets
    with its own compute record, and of those that its provenance names.

    Args:
        job: The feature set to be made or completed.
        arrays: The arrays that are made together; a row is taken over with all of them.
        compute: Compute record of the set.
        allow_mixed: Whether rows of another kind of device may be taken over.
    """
    named = set(marks(job.existing)) if job.existing is not None else None
    usable: list[tuple[bool, OtherSet]] = []
    for other in job.others:
        differs = differences(other.stored, compute)
        if "device" in differs and not allow_mixed:
            continue
        if not differs or named is None or other.stored.digest in named:
            usable.append((bool(differs), other))
    usable.sort(key=lambda pair: (pair[0], -int((pair[1].rows >= 0).sum()), pair[1].stored.digest))
    chosen = np.full(job.layout.n_rows, -1, dtype=np.int64)
    together = max(map(rows_together, arrays), default=1)
    for index, (_, other) in enumerate(usable):
        chosen[(chosen < 0) & _whole_groups(other, other.available(arrays), together)] = index
    return KnownRows(tuple(arrays), tuple(other for _, other in usable), chosen)


def _whole_groups(other: OtherSet, available: Bool[np.ndarray, " row"], together: int) -> Bool[np.ndarray, " row"]:
    """Return which available rows another set computed together with the same rows as the set to be made would.

    Args:
        other: The other set.
        available: Rows that it holds.
        together: Rows that are computed together, counted from row 0 in both sets.
    """
    if together == 1:
        return available
    places = np.arange(len(available))
    begins = places // together * together
    in_order = available & (other.rows == other.rows[begins] + places - begins) & (other.rows[begins] % together == 0)
    return np.logical_and.reduceat(in_order, np.arange(0, len(available), together))[places // together]


def marks(stored: ZarrSet) -> dict[str, dict[str, Any]]:
    """Return what a set's provenance says about rows that were taken over, by the digest of their set."""
    entries = stored.provenance.get(TAKEN_OVER)
    return entries if isinstance(entries, dict) else {}


def differences(stored: ZarrSet, compute: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a set's compute record that differ from ``compute``, those of rows it took over included.

    What one of the records lacks, because an earlier version wrote it, is not known.
    """
    own = {key: value for key, value in stored.compute.items() if value != compute.get(key, value)}
    for entry in marks(stored).values():
        taken = entry.get("computed_with") or {}
        own = {key: value for key, value in taken.items() if value != compute.get(key, value)} | own
    return own


def provenance(job: Job, compute: Mapping[str, Any], allow_mixed: bool) -> dict[str, Any]:
    """Return the entry of a new set's provenance on rows of other sets; empty where it takes none over.

    Every other set has its number of rows; ``computed_with`` and ``ranges`` where its compute record differs; and
    ``in_batches_of_another_size``, the number of rows that were computed in a smaller or larger batch than here.
    """
    known = known_rows(job, job.arrays, compute, allow_mixed)
    entries: dict[str, dict[str, Any]] = {}
    for index, other in enumerate(known.sets):
        rows = np.flatnonzero(known.chosen == index)
        if not len(rows):
            continue
        entry = entries[other.stored.digest] = {"rows": len(rows)}
        if differs := differences(other.stored, compute):
            entry |= {"computed_with": differs, "ranges": np.unique(rows // job.layout.range_rows).tolist()}
        theirs = _shapes(other.stored.layout, other.rows[rows], other.stored.compute)
        resized = int((theirs != _shapes(job.layout, rows, compute)).sum())
        entry |= {"in_batches_of_another_size": resized} if resized else {}
    return {TAKEN_OVER: entries} if entries else {}


def _shapes(layout: Layout, rows: Int64[np.ndarray, " row"], compute: Mapping[str, Any]) -> Int64[np.ndarray, " row"]:
    """Return the number of rows of the batch that each row belongs to, in a set with a compute record."""
    batch_size = int(compute.get("batch_size", 1))
    if compute.get("full_batches"):
        return np.full(len(rows), full_shape(layout, batch_size), dtype=np.int64)
    ranges = ((layout.range(row // layout.range_rows), row) for row in rows.tolist())
    return np.array([batch_shape(row_range, row, batch_size) for row_range, row in ranges], dtype=np.int64)
