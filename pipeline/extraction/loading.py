"""Decoding sources into batches of pixels, ahead of the model and never far ahead."""

import hashlib
import itertools
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, UInt8

from pipeline.datasets.reading.images import read_image
from pipeline.rows import under_view
from pipeline.rows.frames import Interpolation
from pipeline.rows.samples import Samples
from stores.errors import MissingError, UserError
from stores.format.layout import RowRange


@dataclass(frozen=True)
class Batch:
    """Consecutive rows of one range."""

    range: RowRange
    start: int
    pixels: UInt8[np.ndarray, "sample height width 3"]
    facts: dict[str, Float32[np.ndarray, " sample"]]
    """What the view tells of every row, by name."""

    @property
    def ends_range(self) -> bool:
        """Whether the range is complete with this batch."""
        return self.start + len(self.pixels) == self.range.stop


def read_tiles(
    samples: Samples, interpolation: Interpolation, start: int, stop: int
) -> tuple[UInt8[np.ndarray, "sample height width 3"], dict[str, Float32[np.ndarray, " sample"]]]:
    """Return pixels and the view's facts of rows ``start`` to ``stop``, which are tiles of one source.

    A bad image is black and its facts are NaN: none of it is stored. Raises UserError when the image's bytes are not
    those the samples were made from.
    """
    name = samples.tiles[start][0]
    if name in samples.bad_images:
        size = samples.frame.input
        nothing = {fact: np.full(stop - start, np.nan, np.float32) for fact in samples.view.facts}
        return np.zeros((stop - start, size.height, size.width, 3), np.uint8), nothing
    path = samples.sources[name].image
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise MissingError(f"{path} was there when the rows were listed and is gone: restore it") from None
    if hashlib.sha256(data).hexdigest() != samples.image_digests[name]:
        raise UserError(f"{path} changed while it was being read: run the same command again")
    image = read_image(data, str(path))
    tile_list = [tile for _, tile in samples.tiles[start:stop]]
    return under_view.pixels(samples.view, samples.frame, name, tile_list, image, interpolation)


class Loader:
    """Yields the batches of some ranges in order; batches never cross a range border.

    Sources are decoded by ``workers`` threads (Pillow works without the interpreter lock), at most two batches'
    rows ahead of the consumer, which bounds the memory whatever the size of the data set.
    """

    def __init__(self, samples: Samples, interpolation: Interpolation, batch_size: int, workers: int) -> None:
        self.samples = samples
        self.interpolation = interpolation
        self.batch_size = batch_size
        self.workers = workers
        self.waited = 0.0
        """Seconds the consumer waited for pixels."""

    def batches(self, ranges: Iterable[RowRange]) -> Generator[Batch, None, None]:
        """Yield the batches of the ranges."""
        pool = ThreadPoolExecutor(self.workers, thread_name_prefix="patchbank-decode")
        try:
            yield from self._batches(ranges, pool)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _batches(self, ranges: Iterable[RowRange], pool: ThreadPoolExecutor) -> Iterator[Batch]:
        runs = self._runs(ranges)
        queue: deque[tuple[RowRange, int, int, Future[tuple[np.ndarray, dict[str, np.ndarray]]]]] = deque()
        ahead = 0
        ready: list[tuple[np.ndarray, dict[str, np.ndarray]]] = []
        held, start = 0, -1

        def refill() -> None:
            nonlocal ahead
            while not queue or ahead < 2 * self.batch_size:
                run = next(runs, None)
                if run is None:
                    return
                row_range, first, last = run
                future = pool.submit(read_tiles, self.samples, self.interpolation, first, last)
                queue.append((row_range, first, last, future))
                ahead += last - first

        refill()
        while queue:
            row_range, first, last, future = queue.popleft()
            before = time.perf_counter()
            decoded = future.result()
            self.waited += time.perf_counter() - before
            ahead -= last - first
            refill()
            if held == 0:
                start = first
            ready.append(decoded)
            held += last - first
            while held >= self.batch_size or (held and last == row_range.stop):
                pixels, facts = _joined(ready)
                head = {name: values[: self.batch_size] for name, values in facts.items()}
                yield Batch(row_range, start, pixels[: self.batch_size], head)
                rest = pixels[self.batch_size :]
                tail = {name: values[self.batch_size :] for name, values in facts.items()}
                ready, held = ([(rest, tail)], len(rest)) if len(rest) else ([], 0)
                start += self.batch_size

    def _runs(self, ranges: Iterable[RowRange]) -> Iterator[tuple[RowRange, int, int]]:
        """Yield ``(range, start, stop)`` for every run of rows of one source within a range."""
        for row_range in ranges:
            rows = range(row_range.start, row_range.stop)
            for _, run in itertools.groupby(rows, key=lambda row: self.samples.tiles[row][0]):
                listed = list(run)
                yield row_range, listed[0], listed[-1] + 1


def _joined(
    parts: list[tuple[np.ndarray, dict[str, np.ndarray]]],
) -> tuple[UInt8[np.ndarray, "sample height width 3"], dict[str, Float32[np.ndarray, " sample"]]]:
    if len(parts) == 1:
        return parts[0]
    facts = {name: np.concatenate([facts[name] for _, facts in parts]) for name in parts[0][1]}
    return np.concatenate([pixels for pixels, _ in parts]), facts
