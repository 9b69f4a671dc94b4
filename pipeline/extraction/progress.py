"""Progress of an extraction while it runs, and its outcome."""

from dataclasses import dataclass, field

from stores import ZarrSet


@dataclass
class StageSeconds:
    """Seconds of each stage of one extraction, as seen by the thread that runs the model."""

    decode: float = 0.0
    """Waiting for pixels."""
    model: float = 0.0
    """Forward passes, and on a GPU waiting for their results."""
    write: float = 0.0
    """Copying into chunks, and waiting for space in the write queue."""
    seal: float = 0.0
    """Reading everything back to check it."""

    @property
    def bottleneck(self) -> str:
        """The stage that takes the most time."""
        stages = {"decode": self.decode, "model": self.model, "write": self.write}
        return max(stages, key=lambda name: stages[name])


@dataclass(frozen=True)
class Progress:
    """State of an extraction after a batch."""

    title: str
    rows_done: int
    rows_total: int
    seconds: float
    """Time since the first batch was started, without the making of labels."""
    bottleneck: str


@dataclass
class Outcome:
    """Rows of one job: computed, taken over from other sets, and stored before."""

    title: str
    set: ZarrSet
    rows_made: int = 0
    rows_reused: int = 0
    rows_taken: dict[str, int] = field(default_factory=dict)
    """Rows taken over from other sets, by the set's digest."""
    missing: dict[str, list[int]] = field(default_factory=dict)
    """Ranges that are still missing, by array; other shards make them."""
    seconds: StageSeconds = field(default_factory=StageSeconds)
    notes: list[str] = field(default_factory=list)
