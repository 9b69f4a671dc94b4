"""Findings of `verify` and `repair`: stored objects are read again until two readings agree.

Writers work beside `verify` and `repair`, so nothing is named after one look. A writer stages and publishes chunks,
then commits them, reads everything back, writes the seal, compares once more, and only then removes the commit records
and writes the summary. At every moment in between what the records list is on disk as they list it; only a look whose
parts were taken at different moments shows something else. So where something seems wrong it is looked at again, and a
finding counts if two looks in a row agree on it: the record that an object contradicts was then there before and after
the object was compared, and an object that no record names was there both times, with all records read in between.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from stores.format.chunk_table import ObjectTables, StoredObject
from stores.format.records import TRIES

Part = Literal["record", "summary", "metadata", "seal", "commit", "chunk", "note", "stray"]
"""The kind of object that a finding is about, which decides how it can be repaired."""

GONE = "is gone"
TORN = "is torn or edited"
DIFFERS = "holds other bytes than were written"


@dataclass(frozen=True)
class Finding:
    """One object that is missing, damaged or not referred to."""

    set: str
    """Digest of the set, or ``index``."""
    key: str
    """The object, relative to the store."""
    problem: str
    part: Part


@dataclass(frozen=True)
class Verdict:
    """Result of verifying one set, or the notes in ``index/``."""

    set: str
    n_objects: int
    n_bytes: int
    findings: tuple[Finding, ...]
    unread: str = ""
    """Why it could not be compared although nothing is known to be damaged: memory, permission, a disk that fails."""


@dataclass(frozen=True)
class Look:
    """What one look at a set or at the notes found."""

    findings: tuple[Finding, ...]
    expected: Mapping[str, StoredObject]
    """Recorded size and sha256 of every object, by its name inside ``folder``."""
    folder: str = ""
    """What their keys begin with."""

    @property
    def n_bytes(self) -> int:
        """Size of all objects, in bytes."""
        tables = self.expected
        return tables.n_bytes if isinstance(tables, ObjectTables) else sum(one.size for one in tables.values())

    def confirms(self, finding: Finding, again: "Look") -> bool:
        """Return whether this look found the same as a later one, of an object with the same record."""
        name = finding.key.removeprefix(self.folder)
        same_record = self.expected.get(name) == again.expected.get(name)
        return same_record and any((one.key, one.part) == (finding.key, finding.part) for one in self.findings)


def agreeing(look: Callable[[Look | None], Look]) -> tuple[Look, tuple[Finding, ...]]:
    """Look again until two looks agree; return the first look and what the last two agree on.

    ``look`` is given the look before, None the first time.
    """
    first = before = look(None)
    confirmed: tuple[Finding, ...] = ()
    for _ in range(TRIES):
        if not before.findings:
            return first, ()
        again = look(before)
        confirmed = tuple(finding for finding in again.findings if before.confirms(finding, again))
        if len(confirmed) == len(again.findings):
            break
        before = again
    return first, confirmed
