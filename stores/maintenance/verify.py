"""Comparing every stored byte of sets with what was committed."""

import hashlib
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Literal

from stores.canonical import read_checksummed, sha256_hex
from stores.errors import MissingError
from stores.format.commits import StoredObject
from stores.format.paths import COMMITS, CREATED, GROUP, INDEX, SEALS, SOURCES, SPEC, SUMMARY, seal_path
from stores.format.summary import read_summary
from stores.maintenance.inventory import Inventory, take_inventory
from stores.storage.base import PARTIAL, Objects
from stores.store import Store, read_note

Part = Literal["record", "summary", "metadata", "seal", "commit", "chunk", "note", "stray"]
"""Which kind of object a finding is about, and so how it can be repaired."""

TORN = "is torn or edited"
OTHER = "holds other bytes than were written"


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it should be."""

    set: str
    """Digest of the set, or ``index``."""
    key: str
    """The object, relative to the store."""
    problem: str
    part: Part


@dataclass(frozen=True)
class Verdict:
    """What `verify` saw of one set, or of the notes in ``index``."""

    set: str
    n_objects: int
    n_bytes: int
    findings: tuple[Finding, ...]


def verify(store: Store, executor: Executor | None = None, only: str | None = None) -> Iterator[Verdict]:
    """Yield a verdict for every set of the store and one for its notes, or for the set that begins with ``only``.

    A set that was begun and never sealed is not damage: what of it is committed is compared, the rest is left alone.
    """
    for kind, name in store.set_folders():
        if only is None or name.startswith(only):
            yield verify_set(store.objects, f"{kind}/{name}", executor)
    if only is None:
        yield verify_notes(store)


def verify_set(objects: Objects, prefix: str, executor: Executor | None = None, *, hashed: bool = True) -> Verdict:
    """Return the verdict on the set in folder ``prefix``; raises UserError for a format from the future.

    Without ``hashed`` only the sizes of chunks are compared: a glance that costs no reading.
    """
    known = take_inventory(objects, prefix)
    expected_objects = known.expected_objects()
    wrong = compare(objects, prefix, expected_objects, executor, hashed=hashed)
    metadata = known.metadata
    findings = [
        Finding(known.digest, f"{prefix}/{child}", problem, "metadata" if child in metadata else "chunk")
        for child, problem in wrong.items()
    ]
    findings += _records(known)
    findings += _seals_and_commits(known)
    findings += _metadata(known, metadata, set(expected_objects))
    named = {finding.key for finding in findings}
    findings += [
        Finding(known.digest, f"{prefix}/{child}", "belongs to nothing this set lists", "stray")
        for child in sorted(known.names)
        if child not in expected_objects and f"{prefix}/{child}" not in named and not known.is_allowed(child)
    ]
    n_bytes = sum(entry.size for entry in expected_objects.values())
    return Verdict(known.digest, len(expected_objects), n_bytes, tuple(findings))


def compare(
    objects: Objects,
    prefix: str,
    expected: Mapping[str, StoredObject],
    executor: Executor | None,
    *,
    hashed: bool = True,
) -> dict[str, str]:
    """Return what is wrong with the objects that are not as expected, by name inside ``prefix``."""
    memory = threading.local()

    def check(item: tuple[str, StoredObject]) -> str | None:
        key, entry = item
        size = objects.size(f"{prefix}/{key}")
        if size is None:
            return "is gone"
        if size != entry.size:  # before memory is taken for what a record only says
            return f"has {size} bytes, {entry.size} were committed"
        if not hashed:
            return None
        # One buffer a thread: fresh pages for every object would cost as much as hashing it.
        buffer: bytearray = getattr(memory, "buffer", bytearray())
        if len(buffer) < entry.size:
            buffer = memory.buffer = bytearray(entry.size)
        sha256 = hashlib.sha256()
        try:
            size = objects.read_into(f"{prefix}/{key}", [memoryview(buffer)[: entry.size]], sha256.update)
        except MissingError:
            return "is gone"
        if size != entry.size:
            return f"has {size} bytes, {entry.size} were committed"
        return None if sha256.hexdigest() == entry.sha256 else "holds other bytes than were committed"

    problems = executor.map(check, expected.items()) if executor else map(check, expected.items())
    return {key: problem for key, problem in zip(expected, problems, strict=True) if problem is not None}


def _records(known: Inventory) -> list[Finding]:
    """Check the files that `created.json` vouches for, that file itself, and the summary."""
    if not known.names or (not known.is_initialised and SPEC in known.names):
        return []  # a creation that was killed; the next one completes it
    wrong: dict[str, str] = {}
    for name, sha256 in (known.created or {SPEC: known.digest}).items():
        data = None if name not in known.names else known.objects.read(f"{known.prefix}/{name}")
        if data is None:
            wrong[name] = "is gone"
        elif sha256_hex(data) != sha256:
            wrong[name] = OTHER
    if CREATED not in known.names:
        wrong[CREATED] = "is gone"
    elif (copy := known.copy(CREATED)) is not None:
        if known.objects.read(f"{known.prefix}/{CREATED}") != copy:
            wrong[CREATED] = TORN
    elif known.created is None:
        wrong[CREATED] = TORN
    found = [Finding(known.digest, f"{known.prefix}/{name}", problem, "record") for name, problem in wrong.items()]
    if known.summary is None:
        problem = TORN if SUMMARY in known.names else "is gone"
        found.append(Finding(known.digest, f"{known.prefix}/{SUMMARY}", problem, "summary"))
    return found


def _seals_and_commits(known: Inventory) -> list[Finding]:
    prefix, found = known.prefix, []
    for address in known.lost_seals:
        child = seal_path(address)
        problem = TORN if child in known.names else "is gone"
        found.append(Finding(known.digest, f"{prefix}/{child}", problem, "seal"))
    valid = {f"{COMMITS}/{name}" for name in known.commits}
    valid |= {seal_path(address) for address in (*known.seals, *known.lost_seals)}
    for child in sorted(known.names):
        folder = child.partition("/")[0]
        if folder in (COMMITS, SEALS) and child.endswith(".json") and child not in valid:
            part: Part = "commit" if folder == COMMITS else "seal"
            found.append(Finding(known.digest, f"{prefix}/{child}", "is a torn or foreign record", part))
    return found


def _metadata(known: Inventory, metadata: Mapping[str, bytes], expected_objects: set[str]) -> list[Finding]:
    """Check records that follow from others; before the first commit of an array they may still be missing."""
    counts = set(known.seals) | {address for commit in known.commits.values() for address in commit.objects}
    groups = {address.partition("/")[0] for address in counts}
    found = []
    for child, expected in metadata.items():
        if child == GROUP or child in expected_objects:
            continue  # these were compared with a digest
        folder = child.rpartition("/")[0]
        if child not in known.names:
            if folder in counts or folder in groups:
                found.append(Finding(known.digest, f"{known.prefix}/{child}", "is gone", "metadata"))
        elif known.objects.read(f"{known.prefix}/{child}") != expected:
            found.append(Finding(known.digest, f"{known.prefix}/{child}", OTHER, "metadata"))
    return found


def verify_notes(store: Store) -> Verdict:
    """Return the verdict on ``index/``, whose notes the summaries of the sets have copies of, and on caches."""
    objects = store.objects
    noted = remembered(store)
    there = {key for key in objects.keys(INDEX) if not key.endswith(PARTIAL)}
    findings, n_bytes = [], 0
    for key in sorted(there | {f"{INDEX}/{name}.json" for name in noted}):
        if key not in there:
            findings.append(Finding(INDEX, key, "is gone", "note"))
            continue
        data = objects.read(key)
        n_bytes += len(data)
        name = key[len(INDEX) + 1 :].removesuffix(".json")
        sets = read_note(name, data)
        if sets is None:
            part: Part = "note" if name in noted else "stray"
            findings.append(Finding(INDEX, key, TORN if part == "note" else "belongs to nothing", part))
        elif name in noted and sets not in noted[name]:
            findings.append(Finding(INDEX, key, "leads to other sets than were noted", "note"))
    caches = [key for key in objects.keys(SOURCES) if not key.endswith(PARTIAL)]
    torn = [key for key in caches if read_checksummed(objects.read(key)) is None]
    findings += [Finding(INDEX, key, TORN, "stray") for key in torn]
    return Verdict(INDEX, len(there) + len(caches), n_bytes, tuple(findings))


def remembered(store: Store) -> dict[str, list[dict[str, str]]]:
    """Return the copies of notes that the summaries of the store's sets hold, by key.

    They differ only where a run was stopped while it replaced a note.
    """
    copies: dict[str, list[dict[str, str]]] = {}
    for kind, digest in store.set_folders():
        summary = read_summary(store.objects, f"{kind}/{digest}")
        for key, note in ({} if summary is None else summary["notes"]).items():
            copies.setdefault(key, []).append(note)
    return copies
