"""Decodes source images into batches of pixels, in threads that run a bounded number of rows ahead of the model.

Threads, not processes: Pillow releases the interpreter lock while it decodes and resizes. On two cores two threads read
605 ADE20K JPEGs (683x512) and 1,700 of NWPU-RESISC45 (256x256) a second, two processes that write into shared memory
630 and 1,690; one of either 333 and 910.
"""

import itertools
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, UInt8

from pipeline.frame_recipe import Interpolation
from pipeline.rows.pixels import read_tiles
from pipeline.rows.samples import Samples
from stores.format.layout import Layout, RowRange
from stores.storage.cores import available_cores


@dataclass(frozen=True)
class Batch:
    """Rows of one range in increasing order, with the pixels that the model gets."""

    range: RowRange
    rows: tuple[int, ...]
    pixels: UInt8[np.ndarray, "sample height width 3"]
    """The rows' pixels; the last row is repeated up to the number of rows that every batch has."""
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


@dataclass
class _Filling:
    """A batch that threads write into."""

    batch: Batch
    parts: list[Future[None]] = field(default_factory=list)
    n_submitted: int = 0
    """Rows that were given to threads."""

    def filled(self) -> Batch:
        """Return the batch once all its rows are there, padded with the last."""
        for part in self.parts:
            part.result()
        n_rows = len(self.batch)
        self.batch.pixels[n_rows:] = self.batch.pixels[n_rows - 1]
        return self.batch


class _Part(NamedTuple):
    """Consecutive rows of one source that go into one batch."""

    into: _Filling
    start: int
    stop: int


def default_workers() -> int:
    """Return how many threads decode: all cores but two, which feed the model and write; at least 2, 1 on one core."""
    cores = available_cores()
    return 1 if cores == 1 else max(2, cores - 2)


def every_row(row_range: RowRange) -> Sequence[int]:
    """Return all rows of a range."""
    return range(row_range.start, row_range.stop)


def full_shape(layout: Layout, batch_size: int) -> int:
    """Return how many rows every batch of a set has: it crosses no range border, and need not exceed the set."""
    return min(batch_size, layout.range_rows, layout.n_rows)


def batch_shape(row_range: RowRange, row: int, batch_size: int) -> int:
    """Return how many rows the batch of ``row`` had when a whole range was computed before batches were always full."""
    first = row_range.start + (row - row_range.start) // batch_size * batch_size
    return min(batch_size, row_range.stop - first)


def _new_array(shape: tuple[int, ...]) -> UInt8[np.ndarray, "..."]:
    return np.empty(shape, np.uint8)


class Loader:
    """Yields rows of some ranges in batches, in order; batches never cross a range border.

    Every batch is padded to one number of rows, by repeating its last: the last bits of a feature can depend on the
    number of rows of a forward pass, and so they depend neither on where a range ends nor on which rows are wanted.
    Batches that may differ (``full=False``, sets of earlier versions) have as many rows as the batch of the whole range
    that their rows belong to, of which the last of a range may be smaller.

    Sources are decoded by threads (Pillow releases the interpreter lock), which write into the batch: at most two
    batches of rows ahead of the consumer, which bounds the memory whatever the size of the data set.

    Args:
        samples: The rows under their view.
        interpolation: How sources and tiles are resized.
        batch_size: Rows of a batch.
        workers: Threads that decode images.
        new_slot: Returns memory for the pixels of a batch, given its shape.
        full: Whether all batches have ``batch_size`` rows.
        read: Reads rows of one source as `read_tiles` does; by default it decodes them.
    """

    def __init__(
        self,
        samples: Samples,
        interpolation: Interpolation,
        batch_size: int,
        workers: int,
        new_slot: Callable[[tuple[int, ...]], np.ndarray] = _new_array,
        full: bool = True,
        read: Callable[[int, int], tuple[np.ndarray, dict[str, np.ndarray]]] | None = None,
    ) -> None:
        self.samples = samples
        self.batch_size = batch_size
        self.workers = workers
        self.new_slot = new_slot
        self.full = full
        self.read = read or (lambda start, stop: read_tiles(samples, interpolation, start, stop))
        self.waited = 0.0
        """Seconds the consumer waited for pixels."""

    def batches(
        self, ranges: Iterable[RowRange], chosen: Callable[[RowRange], Sequence[int]] = every_row
    ) -> Generator[Batch, None, None]:
        """Yield the batches of the ``chosen`` rows of ranges; closing the generator ends its threads."""
        pool = ThreadPoolExecutor(self.workers, thread_name_prefix="patchbank-decode")
        try:
            queue: deque[_Filling] = deque()
            sources = self._sources(self._empty(ranges, chosen, queue))
            self._fill(queue, sources, pool)
            while queue:
                before = time.perf_counter()
                batch = queue[0].filled()
                self.waited += time.perf_counter() - before
                queue.popleft()
                self._fill(queue, sources, pool)  # before the consumer computes, so that threads decode meanwhile
                yield batch
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _empty(
        self,
        ranges: Iterable[RowRange],
        chosen: Callable[[RowRange], Sequence[int]],
        queue: deque[_Filling],
    ) -> Iterator[_Filling]:
        """Yield the batches before they are filled, and queue them."""
        size = self.samples.frame.input
        for row_range in ranges:
            for shape, group in itertools.groupby(chosen(row_range), key=partial(self._shape, row_range)):
                listed = list(group)
                for start in range(0, len(listed), shape):
                    rows = tuple(listed[start : start + shape])
                    stats = {name: np.empty(len(rows), np.float32) for name in self.samples.view.sample_stats}
                    slot = self.new_slot((shape, size.height, size.width, 3))
                    queue.append(_Filling(Batch(row_range, rows, slot, stats)))
                    yield queue[-1]

    def _shape(self, row_range: RowRange, row: int) -> int:
        return self.batch_size if self.full else batch_shape(row_range, row, self.batch_size)

    def _sources(self, empty: Iterator[_Filling]) -> Iterator[list[_Part]]:
        """Yield the rows of one source that follow one another in a range, in parts that go into one batch each."""
        parts: list[_Part] = []
        for filling in empty:
            for row in filling.batch.rows:
                if parts and not self._follows(parts[-1], row, filling.batch.range):
                    yield parts
                    parts = []
                if parts and parts[-1].into is filling:
                    parts[-1] = parts[-1]._replace(stop=row + 1)
                else:
                    parts.append(_Part(filling, row, row + 1))
        if parts:
            yield parts

    def _follows(self, part: _Part, row: int, row_range: RowRange) -> bool:
        """Return whether a row comes next after a part, from the same source and in the same range."""
        tiles = self.samples.tiles
        same_source = row == part.stop and tiles[row][0] == tiles[part.start][0]
        return same_source and row_range == part.into.batch.range

    def _fill(self, queue: deque[_Filling], sources: Iterator[list[_Part]], pool: ThreadPoolExecutor) -> None:
        """Give sources to threads until they have two batches of rows, and all of the first batch."""
        ahead = sum(filling.n_submitted for filling in queue)
        while not queue or queue[0].n_submitted < len(queue[0].batch) or ahead < 2 * self.batch_size:
            parts = next(sources, None)
            if parts is None:
                return
            future = pool.submit(self._decode, parts)
            for part in parts:
                part.into.parts.append(future)
                part.into.n_submitted += part.stop - part.start
            ahead += parts[-1].stop - parts[0].start

    def _decode(self, parts: list[_Part]) -> None:
        """Decode one source and write its rows into their batches."""
        first = parts[0].start
        pixels, stats = self.read(first, parts[-1].stop)
        for into, start, stop in parts:
            batch = into.batch
            place = batch.rows.index(start)
            target = slice(place, place + stop - start)
            batch.pixels[target] = pixels[start - first : stop - first]
            for name, values in stats.items():
                batch.sample_stats[name][target] = values[start - first : stop - first]
