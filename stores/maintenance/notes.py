"""Verifying the notes in ``index/`` against their copies in the summaries of the sets that they name."""

import contextlib

from stores.canonical import read_checksummed, without_sha256
from stores.errors import UserError
from stores.format.chunk_table import StoredObject
from stores.format.paths import INDEX, NOTES, SOURCES
from stores.format.records import record_bytes
from stores.format.summary import read_summary
from stores.maintenance.looks import GONE, TORN, Finding, Look, Part, Verdict, agreeing
from stores.storage.base import PARTIAL
from stores.store import Store, read_note


def verify_notes(store: Store) -> Verdict:
    """Return the verdict on the notes in ``index/``, which are compared with their copies, and on caches."""
    seen, findings = agreeing(lambda before: _look_at_notes(store))
    return Verdict(INDEX, len(seen.expected), seen.n_bytes, findings)


def _look_at_notes(store: Store) -> Look:
    objects = store.objects
    copies = note_copies(store)
    present = {key for key in objects.keys(INDEX) if not key.endswith(PARTIAL)}
    findings, looked_at = [], {}
    for key in sorted(present | {f"{INDEX}/{name}.json" for name in copies}):
        data = record_bytes(objects, key)
        name = key[len(INDEX) + 1 :].removesuffix(".json")
        if data is None:
            if name in copies:
                findings.append(Finding(INDEX, key, GONE, "note"))
            continue
        looked_at[key] = StoredObject.of(data)
        sets = read_note(name, data)
        if sets is None:
            part: Part = "note" if name in copies else "stray"
            findings.append(Finding(INDEX, key, TORN if part == "note" else "is not a note", part))
        elif name in copies and sets not in copies[name]:
            findings.append(Finding(INDEX, key, "names other sets than its copies", "note"))
    for key in objects.keys(SOURCES):
        data = None if key.endswith(PARTIAL) else record_bytes(objects, key)
        if data is not None:
            looked_at[key] = StoredObject.of(data)
            if not is_whole_cache(key, data):
                findings.append(Finding(INDEX, key, TORN, "stray"))
    return Look(tuple(findings), looked_at)


def is_whole_cache(key: str, data: bytes) -> bool:
    """Return whether an object of ``sources/`` is as it was written, by the checksum in it."""
    return (without_sha256(data) if key.endswith(NOTES) else read_checksummed(data)) is not None


def note_copies(store: Store) -> dict[str, list[dict[str, str]]]:
    """Return the copies of notes that the summaries of the store's sets hold, by key.

    They differ only where a run was stopped while it replaced a note. A copy that names a set which is no longer there
    is left out: the set was removed, with the note.
    """
    copies: dict[str, list[dict[str, str]]] = {}
    folders = set(store.set_folders())
    for kind, digest in sorted(folders):
        summary = None
        with contextlib.suppress(UserError):  # one that cannot be read is named with its set
            summary = read_summary(store.objects, f"{kind}/{digest}")
        for key, note in ({} if summary is None else summary["notes"]).items():
            if folders.issuperset(note.items()):
                copies.setdefault(key, []).append(note)
    return copies
