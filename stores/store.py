"""A store: a folder or URL with feature sets, label sets and notes of which experiment made them."""

import contextlib
import os
import re
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

from stores.canonical import checksummed, read_checksummed
from stores.errors import DamageError, MissingError, UserError
from stores.format.creation import is_initialised
from stores.format.paths import FOLDERS, INDEX
from stores.format.records import record_bytes
from stores.format.summary import update_summary
from stores.notebook import ShownStore
from stores.sets import ZarrSet
from stores.specs import FeatureSpec, LabelSpec
from stores.storage.base import Objects
from stores.storage.opening import open_objects

DEFAULT_LOCATION = "store"
"""Location of the store where neither ``--store`` nor ``PATCHBANK_STORE`` names one."""


class Store(ShownStore):
    """Finds, lists and opens the sets under one location."""

    def __init__(self, location: str | Path | None = None, executor: Executor | None = None) -> None:
        self.objects: Objects = open_objects(location or os.environ.get("PATCHBANK_STORE") or DEFAULT_LOCATION)
        self.executor = executor

    @property
    def location(self) -> str:
        """Path or URL."""
        return self.objects.url

    def set_folders(self) -> Iterator[tuple[str, str]]:
        """Yield ``(kind, digest)`` of every folder of a set, without opening it."""
        for kind in FOLDERS:
            for name in self.objects.children(kind):
                yield kind, name

    def sets(self) -> Iterator[ZarrSet]:
        """Yield every set, without those whose creation is incomplete.

        Raises DamageError at the first that cannot be opened.
        """
        for kind, name in self.set_folders():
            if is_initialised(self.objects, f"{kind}/{name}"):
                yield ZarrSet(self.objects, f"{kind}/{name}", self.executor)

    def has(self, spec: FeatureSpec | LabelSpec) -> bool:
        """Return whether the set of ``spec`` exists, sealed or not."""
        return is_initialised(self.objects, f"{spec.kind}/{spec.digest}")

    def open(self, spec_or_digest: FeatureSpec | LabelSpec | str, *, from_summary: bool = False) -> ZarrSet:
        """Return a set by its spec, its digest or the beginning of its digest.

        Raises MissingError when there is none and UserError when several digests begin like this. With ``from_summary``
        a sealed set is opened for reading in the time that its summary takes, however many chunks it has.
        """
        if not isinstance(spec_or_digest, str):
            prefix = f"{spec_or_digest.kind}/{spec_or_digest.digest}"
            return ZarrSet(self.objects, prefix, self.executor, from_summary=from_summary)
        wanted = spec_or_digest.rpartition("/")[2]
        matches = [(kind, name) for kind, name in self.set_folders() if wanted and name.startswith(wanted)]
        if not matches:
            raise MissingError(
                f"no set in {self.location} has a digest that begins with {spec_or_digest!r}: `patchbank ls` lists them"
            )
        if len(matches) > 1:
            raise UserError(
                f"{len(matches)} sets in {self.location} begin with {spec_or_digest!r}: give more characters"
            )
        return ZarrSet(self.objects, "/".join(matches[0]), self.executor, from_summary=from_summary)

    def remember(self, key: str, record: Mapping[str, str]) -> None:
        """Write the note of the sets that were made under ``key``, so that they are found without images or models.

        ``record`` holds the digest of a set for every kind. The sets' summaries hold a copy, from which a lost note is
        written again; copies of an earlier note under this key are removed.
        """
        before = self.recall(key) or {}
        # `verify` compares the note with its copies: in any state one of the copies is equal to it, or there is none.
        if before:
            self._copy_note(key, record)
        if before != dict(record):
            self.objects.put(f"{INDEX}/{key}.json", [note_bytes(key, record)])
        self._copy_note(key, record)
        for kind, digest in before.items():
            if record.get(kind) != digest:
                self.update_notes(f"{kind}/{digest}", lambda notes: {k: v for k, v in notes.items() if k != key})

    def _copy_note(self, key: str, record: Mapping[str, str]) -> None:
        """Put a copy of a note into the summaries of the sets that it names."""
        for kind, digest in record.items():
            self.update_notes(f"{kind}/{digest}", lambda notes: notes | {key: dict(record)})

    def update_notes(self, prefix: str, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        """Replace the copies of notes in the summary of a set by what ``change`` makes of them."""
        if update_summary(self.objects, prefix, lambda summary: {"notes": change(summary["notes"])}):
            with contextlib.suppress(DamageError, MissingError):
                ZarrSet(self.objects, prefix).summarise()

    def recall(self, key: str) -> dict[str, str] | None:
        """Return the note of the sets that were made under ``key``, None when there is none or it is torn."""
        return read_note(key, record_bytes(self.objects, f"{INDEX}/{key}.json"))

    def note(self, key: str, record: Mapping[str, str]) -> None:
        """Write the note of the sets that were made under ``key``, unless there is one."""
        if self.objects.size(f"{INDEX}/{key}.json") is None:
            self.remember(key, record)


def notes_of(objects: Objects, digest: str) -> dict[str, dict[str, str]]:
    """Return the notes that name a set, by their key, without torn ones and those that hold anything but digests."""
    notes = {}
    for name in objects.children(INDEX):
        key = name.removesuffix(".json")
        record = read_note(key, record_bytes(objects, f"{INDEX}/{name}")) if name != key else None
        if record is not None and digest in record.values() and all(map(_is_digest, (key, *record.values()))):
            notes[key] = record
    return notes


def _is_digest(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[0-9a-f]{64}", value) is not None


def note_bytes(key: str, record: Mapping[str, str]) -> bytes:
    """Return a note as stored bytes; it holds its own key, so that swapped notes are noticed."""
    return checksummed({"key": key, "sets": dict(record)})


def read_note(key: str, data: bytes | None) -> dict[str, str] | None:
    """Return the sets that a note names, None when it is absent, torn or of another key."""
    record = read_checksummed(data)
    if record is None or record.get("key") != key or not isinstance(record.get("sets"), dict):
        return None
    return dict(record["sets"])
