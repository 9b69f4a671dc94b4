"""Chunks of stored arrays, read ahead by a few threads and given in order.

Reading waits for a disk, tests checksums and copies; what is computed from a chunk waits for none of it. A bounded
number of chunks is under way at a time, so that memory does not grow with the array.
"""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from copy import copy
from typing import TypeVar

import numpy as np
from jaxtyping import Int64

from evaluate.kernels.moments import convert_alone
from stores.arrays import StoredArray, ZarrArray
from stores.storage.cores import available_cores

MOST_READERS = 4
"""Threads that read one array at most; what they compute from chunks is bound by memory with more."""
AHEAD_BYTES = 24 << 20
"""Chunks under way are no larger than this together, unless a single one is; three of the usual 8 MiB."""

T = TypeVar("T")


def readers() -> int:
    """Return how many threads read: one a core, and two on a single core, for one may wait for the disk."""
    return min(MOST_READERS, max(2, available_cores()))


def ahead(chunk_bytes: int) -> int:
    """Return how many chunks of this size are under way at a time."""
    return max(1, min(readers() + 1, AHEAD_BYTES // chunk_bytes))


def n_chunks(stored: StoredArray, rows: Int64[np.ndarray, " row"]) -> int:
    """Return how many chunks of an array hold some of these rows."""
    return len(np.unique(rows // stored.layout.chunk_rows(stored.spec)))


def n_readers(stored: StoredArray, rows: Int64[np.ndarray, " row"]) -> int:
    """Return how many threads read these rows of an array at a time in `of_chunks`."""
    chunk_bytes = stored.layout.chunk_rows(stored.spec) * stored.spec.row_bytes
    return min(readers(), ahead(chunk_bytes), n_chunks(stored, rows))


def held_bytes(chunk_bytes: int, n_chunks: int | None = None) -> int:
    """Return what reading an array by chunks of this size holds.

    That is the chunk before, this one, those under way, and once more the bytes of those that are just read.

    Args:
        chunk_bytes: size of a chunk.
        n_chunks: how many are read, each held twice at most; None for any number.
    """
    window = ahead(chunk_bytes)
    held = 2 + window + min(readers(), window)
    return (held if n_chunks is None else min(held, 2 * n_chunks)) * chunk_bytes


def of_chunks(
    stored: ZarrArray, rows: Int64[np.ndarray, " row"], function: Callable[[int, np.ndarray], T]
) -> Iterator[T]:
    """Yield ``function(first, block)`` of the rows of every chunk, in order; it is called in the threads that read.

    No chunk is read twice, and at most `ahead` results and chunks are held beside the one that is yielded.

    Args:
        stored: array to read.
        rows: rows to read, increasing.
        function: what is done with each block; ``first`` is the position of its first row in ``rows``.
    """
    chunk_rows = stored.layout.chunk_rows(stored.spec)
    borders = np.flatnonzero(np.diff(rows // chunk_rows)) + 1
    starts = [0, *borders.tolist()] if len(rows) else []
    single = copy(stored)
    single.executor = None

    def read(number: int) -> T:
        first = starts[number]
        last = starts[number + 1] if number + 1 < len(starts) else len(rows)
        return function(first, single[rows[first:last]])

    if len(starts) < 2:
        yield from map(read, range(len(starts)))
        return
    window, pending = ahead(chunk_rows * stored.spec.row_bytes), deque[Future[T]]()
    with ThreadPoolExecutor(min(readers(), window), initializer=convert_alone) as pool:
        try:
            for number in range(len(starts)):
                pending.append(pool.submit(read, number))
                if len(pending) == window:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


def whole(stored: ZarrArray, rows: Int64[np.ndarray, " row"]) -> np.ndarray:
    """Return all of the rows at once, each chunk read by one of a few threads into its place."""
    with ThreadPoolExecutor(readers()) as pool:
        threaded = copy(stored)
        threaded.executor = pool
        values: np.ndarray = threaded[rows]
        return values
