"""How an extraction runs: threads, which ranges it makes, who seals, what is told about it."""

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pipeline.extraction.loading import default_workers
from pipeline.extraction.progress import Progress
from stores.canonical import checksummed, digest, read_checksummed
from stores.format.paths import LOGS
from stores.format.records import record_bytes
from stores.storage.base import Objects


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
    batch_job: str = ""
    """Name of the batch job whose tasks share out what was missing when the first of them looked; empty shares out all
    ranges, whatever is there."""
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

    def of_missing(self, objects: Objects, of: Sequence[str], missing: Sequence[int]) -> "ExtractOptions":
        """Return options with this process' share of what was missing when the first task of its batch job looked.

        Tasks begin at different times and see different ranges missing. So the first writes down which, and all share
        out that list: no range is left out or made twice. Nothing but the balance depends on it.

        Args:
            objects: Storage of the store.
            of: The feature set and its wanted arrays.
            missing: Numbers of the ranges that are missing now.
        """
        if not self.batch_job:
            return self
        key = f"{LOGS}/shares-{digest([self.batch_job, *of])[:24]}.json"
        objects.put_new(key, [checksummed({"missing": list(missing), "job": self.batch_job})])
        listed = (read_checksummed(record_bytes(objects, key)) or {}).get("missing")
        if not isinstance(listed, list):  # torn: all ranges are shared out
            return self
        index, total = self.shard
        return replace(self, shard=(0, 1), ranges=frozenset(listed[index::total]))


DEFAULT_OPTIONS = ExtractOptions()
