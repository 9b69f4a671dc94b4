"""What is told of an extraction: while it runs, and when it is over."""

from dataclasses import dataclass, field

from stores import ZarrSet


@dataclass
class StageSeconds:
    """Where the time of one extraction went, as seen by the thread that drives the model."""

    decode: float = 0.0
    """Waiting for pixels."""
    model: float = 0.0
    """Forward passes, and on a GPU waiting for their results."""
    write: float = 0.0
    """Copying into chunks, and waiting for room in the write queue."""
    seal: float = 0.0
    """Reading everything back."""

    @property
    def bottleneck(self) -> str:
        """The stage that takes the most time."""
        stages = {"decode": self.decode, "model": self.model, "write": self.write}
        return max(stages, key=lambda name: stages[name])


@dataclass(frozen=True)
class Progress:
    """What is told after every batch."""

    title: str
    rows_done: int
    rows_total: int
    seconds: float
    """Since the first batch was asked for, the making of labels left out."""
    bottleneck: str


@dataclass
class Outcome:
    """What one job made and reused."""

    title: str
    set: ZarrSet
    rows_made: int = 0
    rows_reused: int = 0
    missing: dict[str, list[int]] = field(default_factory=dict)
    """Ranges that are still missing, by array: other shards' work."""
    seconds: StageSeconds = field(default_factory=StageSeconds)
    notes: list[str] = field(default_factory=list)
