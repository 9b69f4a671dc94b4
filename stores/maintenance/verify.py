"""Verifying sets: every stored object is compared with the size and sha256 in the records."""

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
"""The kind of object that a finding is about, which decides how it can be repaired."""

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


def verify(store: Store, executor: Executor | None = None, only: str | None = None) -> Iterator[Verdict]:
    """Yield a verdict for every set of the store and one for its notes, or for the set that begins with ``only``.

    A set that is not sealed is not damage: its committed ranges are compared, and the rest is ignored.
    """
    for kind, name in store.set_folders():
        if only is None or name.startswith(only):
            yield verify_set(store.objects, f"{kind}/{name}", executor)
    if only is None:
        yield verify_notes(store)


def verify_set(objects: Objects, prefix: str, executor: Executor | None = None, *, hashed: bool = True) -> Verdict:
    """Return the verdict on a set; raises UserError when it has a newer format.

    Args:
        objects: Storage of the store.
        prefix: Folder of the set.
        executor: Compares objects in parallel.
        hashed: Compare the sha256 of chunks; otherwise only their sizes, without reading them.
    """
    inventory = take_inventory(objects, prefix)
    expected_objects = inventory.expected_objects()
    wrong = compare(objects, prefix, expected_objects, executor, hashed=hashed)
    metadata = inventory.metadata
    findings = [
        Finding(inventory.digest, f"{prefix}/{child}", problem, "metadata" if child in metadata else "chunk")
        for child, problem in wrong.items()
    ]
    findings += _records(inventory)
    findings += _seals_and_commits(inventory)
    findings += _metadata(inventory, metadata, set(expected_objects))
    named = {finding.key for finding in findings}
    findings += [
        Finding(inventory.digest, f"{prefix}/{child}", "is not referred to by any record of this set", "stray")
        for child in sorted(inventory.names)
        if child not in expected_objects and f"{prefix}/{child}" not in named and not inventory.is_allowed(child)
    ]
    n_bytes = sum(entry.size for entry in expected_objects.values())
    return Verdict(inventory.digest, len(expected_objects), n_bytes, tuple(findings))


def compare(
    objects: Objects,
    prefix: str,
    expected: Mapping[str, StoredObject],
    executor: Executor | None,
    *,
    hashed: bool = True,
) -> dict[str, str]:
    """Return what is wrong with objects, by name inside ``prefix``, for those that are not as expected.

    Args:
        objects: Storage of the store.
        prefix: Folder of the objects.
        expected: Their recorded sizes and sha256, by name inside ``prefix``.
        executor: Compares objects in parallel.
        hashed: Compare the sha256; otherwise only sizes.
    """
    memory = threading.local()

    def check(item: tuple[str, StoredObject]) -> str | None:
        key, entry = item
        size = objects.size(f"{prefix}/{key}")
        if size is None:
            return "is gone"
        if size != entry.size:  # before memory of the recorded size is allocated
            return f"has {size} bytes, {entry.size} were committed"
        if not hashed:
            return None
        # One buffer for each thread: new pages for every object would cost as much as hashing it.
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


def _records(inventory: Inventory) -> list[Finding]:
    """Check the files that `created.json` lists, that file itself, and the summary."""
    if not inventory.names or (not inventory.is_initialised and SPEC in inventory.names):
        return []  # an interrupted creation, which the next extraction completes
    wrong: dict[str, str] = {}
    for name, sha256 in (inventory.created or {SPEC: inventory.digest}).items():
        data = None if name not in inventory.names else inventory.objects.read(f"{inventory.prefix}/{name}")
        if data is None:
            wrong[name] = "is gone"
        elif sha256_hex(data) != sha256:
            wrong[name] = DIFFERS
    if CREATED not in inventory.names:
        wrong[CREATED] = "is gone"
    elif (copy := inventory.copy(CREATED)) is not None:
        if inventory.objects.read(f"{inventory.prefix}/{CREATED}") != copy:
            wrong[CREATED] = TORN
    elif inventory.created is None:
        wrong[CREATED] = TORN
    findings = [
        Finding(inventory.digest, f"{inventory.prefix}/{name}", problem, "record") for name, problem in wrong.items()
    ]
    if inventory.summary is None:
        problem = TORN if SUMMARY in inventory.names else "is gone"
        findings.append(Finding(inventory.digest, f"{inventory.prefix}/{SUMMARY}", problem, "summary"))
    return findings


def _seals_and_commits(inventory: Inventory) -> list[Finding]:
    prefix, findings = inventory.prefix, []
    for address in inventory.lost_seals:
        child = seal_path(address)
        problem = TORN if child in inventory.names else "is gone"
        findings.append(Finding(inventory.digest, f"{prefix}/{child}", problem, "seal"))
    valid = {f"{COMMITS}/{name}" for name in inventory.commits}
    valid |= {seal_path(address) for address in (*inventory.seals, *inventory.lost_seals)}
    for child in sorted(inventory.names):
        folder = child.partition("/")[0]
        if folder in (COMMITS, SEALS) and child.endswith(".json") and child not in valid:
            part: Part = "commit" if folder == COMMITS else "seal"
            findings.append(Finding(inventory.digest, f"{prefix}/{child}", "is torn or a record of another set", part))
    return findings


def _metadata(inventory: Inventory, metadata: Mapping[str, bytes], expected_objects: set[str]) -> list[Finding]:
    """Check records that can be made from others; before the first commit of an array they may be missing."""
    committed = set(inventory.seals) | {address for commit in inventory.commits.values() for address in commit.objects}
    groups = {address.partition("/")[0] for address in committed}
    findings = []
    for child, expected in metadata.items():
        if child == GROUP or child in expected_objects:
            continue  # compared with a recorded sha256
        folder = child.rpartition("/")[0]
        if child not in inventory.names:
            if folder in committed or folder in groups:
                findings.append(Finding(inventory.digest, f"{inventory.prefix}/{child}", "is gone", "metadata"))
        elif inventory.objects.read(f"{inventory.prefix}/{child}") != expected:
            findings.append(Finding(inventory.digest, f"{inventory.prefix}/{child}", DIFFERS, "metadata"))
    return findings


def verify_notes(store: Store) -> Verdict:
    """Return the verdict on the notes in ``index/``, which are compared with their copies, and on caches."""
    objects = store.objects
    copies = note_copies(store)
    present = {key for key in objects.keys(INDEX) if not key.endswith(PARTIAL)}
    findings, n_bytes = [], 0
    for key in sorted(present | {f"{INDEX}/{name}.json" for name in copies}):
        if key not in present:
            findings.append(Finding(INDEX, key, "is gone", "note"))
            continue
        data = objects.read(key)
        n_bytes += len(data)
        name = key[len(INDEX) + 1 :].removesuffix(".json")
        sets = read_note(name, data)
        if sets is None:
            part: Part = "note" if name in copies else "stray"
            findings.append(Finding(INDEX, key, TORN if part == "note" else "is not a note", part))
        elif name in copies and sets not in copies[name]:
            findings.append(Finding(INDEX, key, "names other sets than its copies", "note"))
    caches = [key for key in objects.keys(SOURCES) if not key.endswith(PARTIAL)]
    torn = [key for key in caches if read_checksummed(objects.read(key)) is None]
    findings += [Finding(INDEX, key, TORN, "stray") for key in torn]
    return Verdict(INDEX, len(present) + len(caches), n_bytes, tuple(findings))


def note_copies(store: Store) -> dict[str, list[dict[str, str]]]:
    """Return the copies of notes that the summaries of the store's sets hold, by key.

    They differ only where a run was stopped while it replaced a note.
    """
    copies: dict[str, list[dict[str, str]]] = {}
    for kind, digest in store.set_folders():
        summary = read_summary(store.objects, f"{kind}/{digest}")
        for key, note in ({} if summary is None else summary["notes"]).items():
            copies.setdefault(key, []).append(note)
    return copies
