"""Verifying sets: every stored object is compared with the size and sha256 in the records.

`stores.maintenance.looks` says why a set that is being written is not called damaged.
"""

import hashlib
import itertools
import threading
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from functools import partial
from typing import Literal

from stores.canonical import sha256_hex
from stores.errors import DamageError, MissingError, UserError
from stores.format.chunk_table import StoredObject
from stores.format.chunks import Checksum
from stores.format.paths import COMMITS, CREATED, GROUP, INDEX, SEALS, SPEC, SUMMARY, seal_path
from stores.format.summary import read_summary
from stores.maintenance.inventory import CHUNK, Inventory, take_inventory
from stores.maintenance.looks import DIFFERS, GONE, TORN, Finding, Look, Part, Verdict, agreeing
from stores.maintenance.notes import verify_notes
from stores.storage.base import PIECE_BYTES, Objects
from stores.store import Store

Depth = Literal["sizes", "quick", "full"]
"""What of a chunk is compared: its size, also its CRC32C, or also its sha256."""
WINDOW = 1024
"""Objects that wait to be compared: their number is bounded however many a set has."""

_PART = 16  # objects a thread compares in one go: handing over each one takes as long as comparing a small one
_PART_BYTES = 4 << 20  # and fewer large ones, lest one thread waits for the last part of another


def verify(
    store: Store, executor: Executor | None = None, only: str | None = None, depth: Depth = "full"
) -> Iterator[Verdict]:
    """Yield a verdict for every set of the store and one for its notes, or for the set that begins with ``only``.

    A set that is not sealed is not damage: its committed ranges are compared, and the rest is ignored. One that cannot
    be read does not keep the others from being verified.

    Args:
        store: The store.
        executor: Compares objects in parallel.
        only: Digest of a set, or the beginning of it.
        depth: What of a chunk is compared.
    """
    folders = [f"{kind}/{name}" for kind, name in store.set_folders() if only is None or name.startswith(only)]
    for prefix in folders:
        yield _or_unread(prefix.rpartition("/")[2], partial(verify_set, store.objects, prefix, executor, depth=depth))
    if only is None:
        yield _or_unread(INDEX, partial(verify_notes, store))


def _or_unread(name: str, look: Callable[[], Verdict]) -> Verdict:
    try:
        return look()
    except UserError as error:
        return Verdict(name, 0, 0, (), str(error))
    except MemoryError:
        return Verdict(name, 0, 0, (), f"there is not enough memory to verify {name}: free some")


def verify_set(objects: Objects, prefix: str, executor: Executor | None = None, *, depth: Depth = "full") -> Verdict:
    """Return the verdict on a set; raises UserError when it has a newer format.

    Args:
        objects: Storage of the store.
        prefix: Folder of the set.
        executor: Compares objects in parallel.
        depth: What of a chunk is compared; for sizes alone none is read.
    """

    def look(before: Look | None) -> Look:
        inventory = take_inventory(objects, prefix)
        expected: Mapping[str, StoredObject] = inventory.expected_objects
        # Every chunk is compared at the first look, at the others those that seemed damaged.
        chosen = expected
        if before is not None:
            doubted = {finding.key.removeprefix(f"{prefix}/") for finding in before.findings}
            chosen = {child: expected[child] for child in sorted(doubted) if child in expected}
        wrong = compare(objects, prefix, chosen, executor, depth=depth)
        return Look(_findings(inventory, expected, wrong), expected, f"{prefix}/")

    seen, findings = agreeing(look)
    return Verdict(prefix.rpartition("/")[2], len(seen.expected), seen.n_bytes, findings)


def refuse_lost_seals(objects: Objects, prefix: str) -> None:
    """Raise DamageError when an array that was sealed has no valid seal: its values are complete, `repair` tells.

    Args:
        objects: Storage of the store.
        prefix: Folder of the set.
    """
    found = verify_set(objects, prefix, depth="sizes").findings
    lost = [finding for finding in found if finding.part == "seal"]
    if lost:
        raise DamageError(
            f"{objects.url}/{lost[0].key} {lost[0].problem}: run `patchbank repair`, which restores a seal where the "
            "bytes of its array are those that were sealed"
        )


def _findings(
    inventory: Inventory, expected: Mapping[str, StoredObject], wrong: Mapping[str, str]
) -> tuple[Finding, ...]:
    prefix, metadata = inventory.prefix, inventory.metadata
    findings = [
        Finding(
            inventory.digest, f"{prefix}/{child}", problem, "chunk" if CHUNK.fullmatch(_leaf(child)) else "metadata"
        )
        for child, problem in wrong.items()
    ]
    findings += _records(inventory)
    findings += _seals_and_commits(inventory)
    findings += _metadata(inventory, metadata, expected)
    named = {finding.key for finding in findings}
    strays = sorted(
        child
        for child in inventory.names
        if child not in expected and f"{prefix}/{child}" not in named and not inventory.is_allowed(child)
    )
    findings += [
        Finding(inventory.digest, f"{prefix}/{child}", "is not referred to by any record of this set", "stray")
        for child in strays
    ]
    return tuple(findings)


def _leaf(child: str) -> str:
    return child.rpartition("/")[2]


def compare(
    objects: Objects,
    prefix: str,
    expected: Mapping[str, StoredObject],
    executor: Executor | None,
    *,
    depth: Depth = "full",
) -> dict[str, str]:
    """Return what is wrong with objects, by name inside ``prefix``, for those that are not as expected.

    Args:
        objects: Storage of the store.
        prefix: Folder of the objects.
        expected: Their recorded sizes, CRC32C and sha256, by name inside ``prefix``.
        executor: Compares objects in parallel.
        depth: What of a chunk is compared.
    """
    memory = threading.local()

    def check(keys: Sequence[str]) -> dict[str, str]:
        found = ((key, _problem(objects, f"{prefix}/{key}", expected[key], depth, memory)) for key in keys)
        return {key: problem for key, problem in found if problem is not None}

    wrong: dict[str, str] = {}
    keys = iter(expected)
    while window := list(itertools.islice(keys, WINDOW)):
        few = max(1, _PART_BYTES // max(1, expected[window[0]].size))
        size = min(_PART, few) if objects.at_once() == 1 else 1
        parts = [window[start : start + size] for start in range(0, len(window), size)]
        # What takes time on an object store is the network, for which there may be more threads than processors.
        is_near = executor is not None and objects.at_once() == 1
        calls = (partial(check, part) for part in parts)
        for problems in executor.map(check, parts) if executor and is_near else objects.together(calls):
            wrong |= problems
    return wrong


def _problem(objects: Objects, key: str, entry: StoredObject, depth: Depth, memory: threading.local) -> str | None:
    size = objects.size(key)
    if size is None:
        return GONE
    if size != entry.size:
        return f"has {size} bytes, {entry.size} were committed"
    if depth == "sizes":
        return None
    view: memoryview | None = getattr(memory, "view", None)
    if view is None:
        view = memory.view = memoryview(bytearray(PIECE_BYTES))
    tail = memoryview(bytearray(4))
    is_quick = depth == "quick" and entry.crc32c is not None and entry.size >= len(tail)
    n_bytes = entry.size - len(tail) if is_quick else entry.size
    # The same memory for every piece, which is looked at before the next takes its place.
    pieces = [view[: min(len(view), n_bytes - start)] for start in range(0, n_bytes, len(view))]
    sha256, checksum = hashlib.sha256(), Checksum(n_bytes)
    try:
        if is_quick:
            size = objects.read_into(key, [*pieces, tail], checksum)
        else:
            size = objects.read_into(key, pieces, sha256.update)
    except MissingError:
        return GONE
    if size != entry.size:
        return f"has {size} bytes, {entry.size} were committed"
    if is_quick:
        same = checksum.value == entry.crc32c == int.from_bytes(tail, "little")
    else:
        same = sha256.hexdigest() == entry.sha256
    return None if same else "holds other bytes than were committed"


def _records(inventory: Inventory) -> list[Finding]:
    """Check the files that `created.json` lists, that file itself, and the summary."""
    if not inventory.is_initialised:
        return []  # an interrupted creation, which the next extraction completes
    wrong: dict[str, str] = {}
    listed = inventory.created or {SPEC: inventory.digest}
    for (name, sha256), data in zip(listed.items(), inventory.read_many(listed), strict=True):
        if data is None or sha256_hex(data) != sha256:
            wrong[name] = GONE if data is None else DIFFERS
    data, copy = inventory.read(CREATED), inventory.copy(CREATED)
    if data is None:
        wrong[CREATED] = GONE
    elif data != copy if copy is not None else inventory.created is None:
        wrong[CREATED] = TORN
    if read_summary(inventory.objects, inventory.prefix) is None:
        wrong[SUMMARY] = GONE if inventory.read(SUMMARY) is None else TORN
    return [
        Finding(inventory.digest, f"{inventory.prefix}/{name}", problem, "summary" if name == SUMMARY else "record")
        for name, problem in wrong.items()
    ]


def _seals_and_commits(inventory: Inventory) -> list[Finding]:
    prefix, findings = inventory.prefix, []
    for address in inventory.lost_seals:
        child = seal_path(address)
        problem = GONE if inventory.read(child) is None else TORN
        findings.append(Finding(inventory.digest, f"{prefix}/{child}", problem, "seal"))
    valid = {f"{COMMITS}/{name}" for name in inventory.commits}
    valid |= {seal_path(address) for address in (*inventory.seals, *inventory.lost_seals)}
    records = sorted(child for child in inventory.names if child.partition("/")[0] in (COMMITS, SEALS))
    doubted = [child for child in records if child.endswith(".json") and child not in valid]
    for child, data in zip(doubted, inventory.read_many(doubted), strict=True):
        folder = child.partition("/")[0]
        if data is not None:  # else it was removed since it was listed
            part: Part = "commit" if folder == COMMITS else "seal"
            findings.append(Finding(inventory.digest, f"{prefix}/{child}", "is torn or a record of another set", part))
    return findings


def _metadata(inventory: Inventory, metadata: Mapping[str, bytes], expected_objects: Container[str]) -> list[Finding]:
    """Check records that can be made from others; before the first commit of an array they may be missing."""
    committed = {address for commit in inventory.commits.values() for address in commit.arrays}
    committed |= {*inventory.seals, *inventory.lost_seals}
    groups = {address.partition("/")[0] for address in committed}
    findings = []
    # The others are compared with a recorded sha256.
    own = [child for child in metadata if child != GROUP and child not in expected_objects]
    for child, data in zip(own, inventory.read_many(own), strict=True):
        folder, expected = child.rpartition("/")[0], metadata[child]
        problem = DIFFERS if data is not None and data != expected else ""
        if data is None and (folder in committed or folder in groups):
            problem = GONE
        if problem:
            findings.append(Finding(inventory.digest, f"{inventory.prefix}/{child}", problem, "metadata"))
    return findings
