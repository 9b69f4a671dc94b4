"""Decodes source images into batches of pixels, in threads that run a bounded number of rows ahead of the model."""

import itertools
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
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
    """Consecutive rows of one range."""

    range: RowRange
    start: int
    pixels: UInt8[np.ndarray, "sample height width 3"]
    sample_stats: dict[str, Float32[np.ndarray, " sample"]]
    """Statistics that the view computes of every row, by name."""

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def ends_range(self) -> bool:
        """Whether the range is complete with this batch."""
        return self.start + len(self) == self.range.stop

    def split(self, n_rows: int) -> tuple["Batch", "Batch"]:
        """Return the first ``n_rows`` rows and the rest, which may be empty."""
        first = {name: values[:n_rows] for name, values in self.sample_stats.items()}
        rest = {name: values[n_rows:] for name, values in self.sample_stats.items()}
        return (
            Batch(self.range, self.start, self.pixels[:n_rows], first),
            Batch(self.range, self.start + n_rows, self.pixels[n_rows:], rest),
        )


class _Run(NamedTuple):
    """Consecutive rows of one source within a range."""

    range: RowRange
    start: int
    stop: int


class Loader:
    """Yields the rows of some ranges in batches, in order; batches never cross a range border.

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

    def batches(self, ranges: Iterable[RowRange]) -> Generator[Batch, None, None]:
        """Yield the batches of the ranges; closing the generator ends its threads."""
        pool = ThreadPoolExecutor(self.workers, thread_name_prefix="patchbank-decode")
        try:
            yield from _rebatched(self._decoded(ranges, pool), self.batch_size)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _decoded(self, ranges: Iterable[RowRange], pool: ThreadPoolExecutor) -> Iterator[Batch]:
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
            yield Batch(run.range, run.start, pixels, stats)

    def _fill(self, queue: deque[tuple[_Run, Future[Tiles]]], runs: Iterator[_Run], pool: ThreadPoolExecutor) -> None:
        """Submit runs until two batches of rows are queued, and at least one run."""
        n_rows = sum(run.stop - run.start for run, _ in queue)
        while not queue or n_rows < 2 * self.batch_size:
            run = next(runs, None)
            if run is None:
                return
            queue.append((run, pool.submit(read_tiles, self.samples, self.interpolation, run.start, run.stop)))
            n_rows += run.stop - run.start

    def _runs(self, ranges: Iterable[RowRange]) -> Iterator[_Run]:
        for row_range in ranges:
            rows = range(row_range.start, row_range.stop)
            for _, run in itertools.groupby(rows, key=lambda row: self.samples.tiles[row][0]):
                listed = list(run)
                yield _Run(row_range, listed[0], listed[-1] + 1)


def _rebatched(decoded: Iterable[Batch], batch_size: int) -> Iterator[Batch]:
    """Yield the same rows in batches of ``batch_size``; the last one of a range may be smaller."""
    held: list[Batch] = []
    for part in decoded:
        held.append(part)
        while sum(map(len, held)) >= batch_size or (held and part.ends_range):
            batch, rest = _joined(held).split(batch_size)
            held = [rest] if len(rest) else []
            yield batch


def _joined(parts: list[Batch]) -> Batch:
    first = parts[0]
    if len(parts) == 1:
        return first
    stats = {name: np.concatenate([part.sample_stats[name] for part in parts]) for name in first.sample_stats}
    return Batch(first.range, first.start, np.concatenate([part.pixels for part in parts]), stats)
