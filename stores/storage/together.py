"""Calls that a storage answers at the same time, for those that answer each one after a network's latency."""

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

T = TypeVar("T")

_AHEAD = 4
"""Calls that wait to be made, a thread: so many answers are held that nobody has asked for yet."""


def one_by_one(calls: Iterable[Callable[[], T]]) -> Iterator[T]:
    """Yield the results of calls that are made one after another, each when its result is asked for."""
    return (call() for call in calls)


class SideBySide:
    """Threads that make calls at the same time; calls that are made by such a call follow one after another.

    Args:
        threads: How many calls are made at the same time.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._pool: ThreadPoolExecutor | None = None
        self._process = 0
        self._lock = threading.Lock()
        self._own = threading.local()

    def __call__(self, calls: Iterable[Callable[[], T]]) -> Iterator[T]:
        """Return an iterator of the results in the order of the calls; the first error ends it."""
        # A call that waits for calls of its own in the same threads could wait for ever.
        return one_by_one(calls) if getattr(self._own, "inside", False) else self._in_order(iter(calls))

    def _in_order(self, calls: Iterator[Callable[[], T]]) -> Iterator[T]:
        first = list(islice(calls, 2))
        if len(first) < 2:  # a thread is no help to one call
            yield from one_by_one(first)
            return
        pool = self._threads()
        waiting: deque[Future[T]] = deque(pool.submit(call) for call in first)
        waiting.extend(pool.submit(call) for call in islice(calls, _AHEAD * self.threads - 2))
        try:
            while waiting:
                yield waiting.popleft().result()
                waiting.extend(pool.submit(call) for call in islice(calls, 1))
        finally:
            for future in waiting:
                future.cancel()

    def _threads(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._pool is None or self._process != os.getpid():  # a fork has no threads of its parent
                self._process = os.getpid()
                # Kept for the next calls: Ctrl-C waits for threads named patchbank-*, and these would never end.
                self._pool = ThreadPoolExecutor(
                    self.threads, thread_name_prefix="requests-of-patchbank", initializer=self._enter
                )
            return self._pool

    def _enter(self) -> None:
        self._own.inside = True
