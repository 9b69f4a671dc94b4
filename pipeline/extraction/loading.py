"""Decodes source images into batches of pixels, in threads that run a bounded number of rows ahead of the model."""

import itertools
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, UInt8

from pipeline.frame_recipe import Interpolation
from pipeline.rows.pixels import read_tiles
from pipeline.rows.samples import Samples
from stores.format.layout import RowRange

Tiles = tuple[np.ndarray, dict[str, np.ndarray]]
"""Pixels of some rows, and the view's statistics of each."""


@dataclass(frozen=True)
class Batch:
    """Rows of one range in increasing order, with the pixels that the model gets."""

    range: RowRange
    rows: tuple[int, ...]
    pixels: UInt8[np.ndarray, "sample height width 3"]
    """The rows' pixels; the last row is repeated up to the number of rows that a batch of the whole range has here."""
    sample_stats: dict[str, Float32[np.ndarray, " row"]]
    """Statistics that the view computes of every row, by name."""

    @property
    def start(self) -> int:
        """The first row."""
        return self.rows[0]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def padded_rows(self) -> list[int]:
        """The row of each of the pixels."""
        return [*self.rows, *[self.rows[-1]] * (len(self.pixels) - len(self.rows))]


class _Run(NamedTuple):
    """Consecutive rows of one source within a range."""

    range: RowRange
    start: int
    stop: int
    pixels: np.ndarray = np.empty(0, np.uint8)
    sample_stats: Mapping[str, np.ndarray] = MappingProxyType({})

    def split(self, n_rows: int) -> tuple["_Run", "_Run"]:
        """Return the first ``n_rows`` rows and the rest, which may be empty."""
        middle = min(self.start + n_rows, self.stop)
        first = {name: values[:n_rows] for name, values in self.sample_stats.items()}
        rest = {name: values[n_rows:] for name, values in self.sample_stats.items()}
        return (
            _Run(self.range, self.start, middle, self.pixels[:n_rows], first),
            _Run(self.range, middle, self.stop, self.pixels[n_rows:], rest),
        )


def every_row(row_range: RowRange) -> Sequence[int]:
    """Return all rows of a range."""
    return range(row_range.start, row_range.stop)


def batch_shape(row_range: RowRange, row: int, batch_size: int) -> int:
    """Return how many rows the batch of ``row`` has when the whole range is computed; only its last may be smaller."""
    first = row_range.start + (row - row_range.start) // batch_size * batch_size
    return min(batch_size, row_range.stop - first)


class Loader:
    """Yields rows of some ranges in batches, in order; batches never cross a range border.

    Where only some rows of a range are wanted, every batch is padded to as many rows as the batch of the whole range
    that its rows belong to: the last bits of a feature can depend on the number of rows of a forward pass.

    Sources are decoded by threads (Pillow releases the interpreter lock), at most two batches of rows ahead of the
    consumer, which bounds the memory whatever the size of the data set.
    """

    def __init__(self, samples: Samples, interpolation: Interpolation, batch_size: int, workers: int) -> None:
        self.samples = samples
        self.interpolation = interpolation
        self.batch_size = batch_size
        self.workers = workers
        self.waited = 0.0
        """Seconds the consumer waited for pixels."""

    def batches(
        self, ranges: Iterable[RowRange], chosen: Callable[[RowRange], Sequence[int]] = every_row
    ) -> Generator[Batch, None, None]:
        """Yield the batches of the ``chosen`` rows of ranges; closing the generator ends its threads."""
        pool = ThreadPoolExecutor(self.workers, thread_name_prefix="patchbank-decode")
        try:
            listed = [(row_range, chosen(row_range)) for row_range in ranges]
            yield from self._batched(listed, self._decoded(listed, pool))
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _decoded(self, ranges: Iterable[tuple[RowRange, Sequence[int]]], pool: ThreadPoolExecutor) -> Iterator[_Run]:
        """Yield the rows of the ranges source by source."""
        runs = self._runs(ranges)
        queue: deque[tuple[_Run, Future[Tiles]]] = deque()
        self._fill(queue, runs, pool)
        while queue:
            run, future = queue.popleft()
            before = time.perf_counter()
            pixels, stats = future.result()
            self.waited += time.perf_counter() - before
            self._fill(queue, runs, pool)  # before the consumer computes, so that threads decode meanwhile
            yield run._replace(pixels=pixels, sample_stats=stats)

    def _fill(self, queue: deque[tuple[_Run, Future[Tiles]]], runs: Iterator[_Run], pool: ThreadPoolExecutor) -> None:
        """Submit runs until two batches of rows are queued, and at least one run."""
        n_rows = sum(run.stop - run.start for run, _ in queue)
        while not queue or n_rows < 2 * self.batch_size:
            run = next(runs, None)
            if run is None:
                return
            queue.append((run, pool.submit(read_tiles, self.samples, self.interpolation, run.start, run.stop)))
            n_rows += run.stop - run.start

    def _runs(self, ranges: Iterable[tuple[RowRange, Sequence[int]]]) -> Iterator[_Run]:
        for row_range, rows in ranges:
            # Consecutive rows have one difference to their position in the list.
            numbered = enumerate(rows)
            for _, run in itertools.groupby(
                numbered, key=lambda pair: (self.samples.tiles[pair[1]][0], pair[1] - pair[0])
            ):
                listed = [row for _, row in run]
                yield _Run(row_range, listed[0], listed[-1] + 1)

    def _batched(self, ranges: Iterable[tuple[RowRange, Sequence[int]]], decoded: Iterator[_Run]) -> Iterator[Batch]:
        """Yield the decoded rows in batches."""
        held: list[_Run] = []
        for row_range, rows in ranges:
            for shape, group in itertools.groupby(
                rows, key=partial(batch_shape, row_range, batch_size=self.batch_size)
            ):
                listed = list(group)
                for start in range(0, len(listed), shape):
                    wanted = tuple(listed[start : start + shape])
                    while sum(run.stop - run.start for run in held) < len(wanted):
                        held.append(next(decoded))
                    yield _joined(held, row_range, wanted, shape)


def _joined(held: list[_Run], row_range: RowRange, rows: tuple[int, ...], shape: int) -> Batch:
    """Take ``rows`` from the front of the decoded runs and return them as a batch of ``shape`` rows."""
    parts: list[_Run] = []
    left = len(rows)
    while left:
        first, rest = held.pop(0).split(left)
        parts.append(first)
        left -= first.stop - first.start
        if rest.stop > rest.start:
            held.insert(0, rest)
    pixels = [part.pixels for part in parts] + [parts[-1].pixels[-1:]] * (shape - len(rows))
    stats = {name: np.concatenate([part.sample_stats[name] for part in parts]) for name in parts[0].sample_stats}
    return Batch(row_range, rows, pixels[0] if len(pixels) == 1 else np.concatenate(pixels), stats)
