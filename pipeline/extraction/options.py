"""How an extraction runs: threads, which ranges it makes, who seals, what is told about it."""

from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.extraction.loading import default_workers
from pipeline.extraction.progress import Progress


def nothing_is_told(progress: Progress) -> None:
    """Take progress and do nothing with it."""


@dataclass(frozen=True)
class ExtractOptions:
    """How an extraction runs. None of it changes the bytes of a complete set."""

    workers: int = field(default_factory=default_workers)
    """Threads that decode images."""
    shard: tuple[int, int] = (0, 1)
    """(i, N) makes every N-th range from the i-th on, counted from 0."""
    ranges: Container[int] | None = None
    """Numbers of the ranges to make of them; None makes all."""
    seals: bool = True
    """Whether complete arrays are sealed. Workers of a schedule leave that to the process that hands out ranges."""
    allow_mixed: bool = False
    """Complete a set that was started on another kind of device, or take rows over from one: last bits may differ."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """Written beside a new set and into the log: command, date, versions."""
    on_progress: Callable[[Progress], None] = nothing_is_told
    """Called after every batch."""

    def makes(self, number: int) -> bool:
        """Return whether the range of this number is to be made here."""
        return number % self.shard[1] == self.shard[0] and (self.ranges is None or number in self.ranges)


DEFAULT_OPTIONS = ExtractOptions()
