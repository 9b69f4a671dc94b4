"""How many ranges a worker is given at once: about half a minute of them, and few towards the end.

A share is a list of ranges that one worker makes in one go. Large shares cost little to hand out and start; but nobody
helps a slow worker with the shares that it holds, so that the last ones decide when all is done. Shares are therefore
a fixed part of what is left (guided self-scheduling, Polychronopoulos and Kuck 1987), with half a minute as the most.
"""

from dataclasses import dataclass, field

SECONDS = 30.0
"""The most that a share is meant to take."""
COMPILED_SECONDS = 900.0
"""The same where a share begins with compiling the model, which takes a minute."""
IN_FLIGHT = 2
"""Shares that a worker holds: the one it makes and the next."""
SHARES_LEFT = 4
"""Shares that each worker is to get of what is left."""


@dataclass
class ShareSizes:
    """Decides the size of shares from the measured rate of every worker."""

    seconds: float = SECONDS
    """The most that a share is meant to take."""
    _ranges: dict[str, float] = field(default_factory=dict)
    _seconds: dict[str, float] = field(default_factory=dict)

    def took(self, worker: str, n_ranges: int, seconds: float) -> None:
        """Note how long a worker took for some ranges; older shares count less."""
        self._ranges[worker] = 0.5 * self._ranges.get(worker, 0.0) + n_ranges
        self._seconds[worker] = 0.5 * self._seconds.get(worker, 0.0) + seconds

    def seconds_a_range(self, worker: str) -> float | None:
        """Return how long a worker takes for a range: as measured, as the others take, or None before any has ended."""
        if self._ranges.get(worker):
            return self._seconds[worker] / self._ranges[worker]
        n_ranges = sum(self._ranges.values())
        return sum(self._seconds.values()) / n_ranges if n_ranges else None

    def seconds_left(self, left: int, n_workers: int) -> float | None:
        """Return how long the workers take for some ranges together; None before any has ended."""
        n_ranges = sum(self._ranges.values())
        return left * sum(self._seconds.values()) / n_ranges / max(1, n_workers) if n_ranges else None

    def next(self, worker: str, left: int, n_workers: int) -> int:
        """Return how many ranges the next share of a worker has; one until some share tells how long a range takes.

        Args:
            worker: The worker that gets it.
            left: Ranges that no worker has been given.
            n_workers: Workers that there are.
        """
        each = self.seconds_a_range(worker)
        if each is None:
            return min(1, left)
        most = left if each <= 0 else int(self.seconds / each)
        return max(1, min(most, left // (SHARES_LEFT * max(1, n_workers)), left)) if left else 0
