"""Progress of an extraction while it runs, its outcome, and the report on all of a recipe."""

import json
import platform
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.datasets.reading.folders import image_folders, unread_notes
from pipeline.recorded import Recorded
from pipeline.recorded.complete import CompleteSets
from pipeline.rows.samples import Samples
from stores import Store, ZarrSet
from stores.format.paths import LOGS


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
    rates: Mapping[str, float] = field(default_factory=dict)
    """Rows a second of every worker of a schedule, by its name; empty in one process."""


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
    made_by: dict[str, int] = field(default_factory=dict)
    """Rows that each worker of a schedule made or took over, by its name and machine; empty in one process."""


@dataclass
class Report:
    """What one run of a recipe did."""

    labels: ZarrSet | None = None
    label_rows_made: int = 0
    outcomes: list[Outcome] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    """Why images were excluded from a few-shot choice, by name."""
    notes: list[str] = field(default_factory=list)
    """Sentences on files beside the images that were not looked at."""

    @classmethod
    def of(cls, samples: Samples) -> "Report":
        """Return the report on a run that has done nothing yet."""
        report = cls(left_out=samples.left_out)
        if samples.dataset.name != "manifest":  # a manifest lists its images itself
            report.notes = unread_notes(samples.dataset.name, image_folders(samples.sources.values()))
        return report

    def add(self, labels: ZarrSet, label_rows: int, outcome: Outcome) -> None:
        """Add what was made of one set and its labels."""
        self.labels = self.labels or labels
        self.label_rows_made += label_rows
        self.outcomes.append(outcome)

    def add_complete(self, found: Iterable[CompleteSets]) -> None:
        """Add the sets of a model of which nothing was missing."""
        for sets in found:
            self.labels = self.labels or sets.labels
            title = Recorded(sets.model, sets.view, sets.features.digest, sets.labels.digest).title
            self.outcomes.append(Outcome(title, sets.features, rows_reused=sets.features.layout.n_rows))


def write_log(store: Store, outcome: Outcome, provenance: Mapping[str, Any]) -> None:
    """Write the seconds of each stage of one extraction as a JSON line, into a new file: writers never share one."""
    line = {
        **provenance,
        "set": outcome.set.digest,
        "title": outcome.title,
        "host": platform.node(),
        "rows_made": outcome.rows_made,
        "rows_reused": outcome.rows_reused,
        **({"rows_taken_over": outcome.rows_taken} if outcome.rows_taken else {}),
        **({"made_by": outcome.made_by} if outcome.made_by else {}),
        "seconds": {name: round(value, 3) for name, value in outcome.seconds.__dict__.items()},
    }
    key = f"{LOGS}/{outcome.set.digest[:12]}-{secrets.token_hex(6)}.jsonl"
    store.objects.put(key, [(json.dumps(line, sort_keys=True) + "\n").encode()])
