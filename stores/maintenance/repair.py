"""Repairing a set from copies in the store, without images and models.

These are records (the summary holds a copy of each), tables (other sets of the same samples hold equal ones), Zarr
metadata (made from the records), seals (made from the array's bytes) and notes in ``index/`` (copies in summaries).
Damaged chunks have no copy: `stores.maintenance.rebuild` takes recomputed rows.

An extraction may write the same set meanwhile. Records are replaced only by the one byte string that they ever hold.
What is removed is given another name first and looked at there: a record that is valid, or that became valid since it
was named, gets its name back (`stores.format.records.set_aside`). A seal is written only where there is no valid one,
and a summary is compared with what is on disk until they agree.
"""

import hashlib
from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import partial

from stores.canonical import read_checksummed
from stores.errors import DamageError, MissingError
from stores.format.chunk_table import ChunkTable, StoredObject
from stores.format.chunks import decode_chunk
from stores.format.commits import Seal, packed, read_commits, read_seal, remove_commit, remove_torn, write_seal
from stores.format.content import array_content, range_content
from stores.format.layout import chunk_name
from stores.format.paths import COPIED, CREATED, GROUP, INDEX, SOURCES, SPEC, seal_path
from stores.format.records import record_bytes, replace, set_aside, write_once
from stores.format.summary import array_entries, parse_summary, summary_bytes
from stores.maintenance.candidates import candidates
from stores.maintenance.inventory import Inventory, take_inventory
from stores.maintenance.looks import Finding, Verdict
from stores.maintenance.notes import is_whole_cache, note_copies, verify_notes
from stores.maintenance.verify import verify_set
from stores.sets import ZarrSet
from stores.storage.base import Objects
from stores.store import Store, note_bytes, read_note
from stores.writing.conflicts import is_stored
from stores.writing.dead_channels import DeadFeatures, has_channels, valid_rows


@dataclass
class RepairReport:
    """Result of repairing one set or the notes."""

    set: str
    prefix: str
    repaired: dict[str, str] = field(default_factory=dict)
    """How each object was repaired, by key."""
    lost: dict[str, list[int]] = field(default_factory=dict)
    """Chunks of sealed arrays that have to be recomputed, by array."""
    unrepairable: dict[str, str] = field(default_factory=dict)
    """Why an object could not be repaired, by key."""
    strays: list[str] = field(default_factory=list)
    """Keys of objects that no record refers to and that were not removed."""

    @property
    def whole(self) -> bool:
        """Whether nothing is left to be done."""
        return not (self.lost or self.unrepairable or self.strays)


def repair_set(
    store: Store,
    prefix: str,
    executor: Executor | None = None,
    *,
    records: Mapping[str, bytes] | None = None,
    remove_strays: bool = False,
) -> RepairReport:
    """Repair a set as far as copies in the store allow; every replaced object gets the digest it had.

    Args:
        store: The store.
        prefix: Folder of the set.
        executor: Compares objects in parallel.
        records: Bytes of records and tables that were made again from a recipe, by file name; used where their sha256
            is the recorded one.
        remove_strays: Remove objects that no record refers to.
    """
    report = RepairReport(prefix.rpartition("/")[2], prefix)
    by_part = _by_part(verify_set(store.objects, prefix, executor))
    _repair_records(store, report, by_part.get("record", []), records or {})
    inventory = take_inventory(store.objects, prefix)
    _repair_metadata(inventory, report, by_part.get("metadata", []))
    _repair_seals(inventory, report, by_part.get("seal", []))
    for finding in by_part.get("commit", []):
        if remove_torn(store.objects, prefix, finding.key[len(prefix) + 1 :]):
            report.repaired[finding.key] = "removed: its range counts as missing and is extracted again"
    _note_lost_chunks(inventory, report, by_part.get("chunk", []))
    if "summary" in by_part:
        _repair_summary(store, report, by_part["summary"][0])
    if "stray" in by_part:
        _remove_strays(store.objects, report, {finding.key for finding in by_part["stray"]}, remove_strays)
    return report


def _by_part(verdict: Verdict) -> dict[str, list[Finding]]:
    by_part: dict[str, list[Finding]] = {}
    for finding in verdict.findings:
        by_part.setdefault(finding.part, []).append(finding)
    return by_part


def _remove_strays(objects: Objects, report: RepairReport, named: set[str], remove_strays: bool) -> None:
    """Remove or report what still is a stray once the records are repaired, which say what belongs to the set."""
    inventory = take_inventory(objects, report.prefix)
    is_known = inventory.created is not None and inventory.summary is not None
    strays = {f.key for f in verify_set(objects, report.prefix, depth="sizes").findings if f.part == "stray"}
    for key in sorted(named & strays):
        if remove_strays and is_known:
            objects.delete(key)
            report.repaired[key] = "removed"
        else:
            report.strays.append(key)


def _repair_records(store: Store, report: RepairReport, findings: list[Finding], given: Mapping[str, bytes]) -> None:
    prefix = report.prefix
    names = {finding.key[len(prefix) + 1 :]: finding for finding in findings}
    for name in sorted(names, key=lambda name: name != CREATED):  # created.json lists the others
        key = f"{prefix}/{name}"
        for how, data in candidates(store, take_inventory(store.objects, prefix), name, given):
            if data is not None:
                replace(store.objects, key, [data])
                report.repaired[key] = how
                break
        else:
            report.unrepairable[key] = f"{names[name].problem} and no copy of it is left"


def _repair_metadata(inventory: Inventory, report: RepairReport, findings: list[Finding]) -> None:
    for finding in findings:
        data = inventory.metadata.get(finding.key[len(inventory.prefix) + 1 :])
        if data is None:
            report.unrepairable[finding.key] = f"{finding.problem} and the records it is made from are damaged too"
        else:
            replace(inventory.objects, finding.key, [data])
            report.repaired[finding.key] = "made from other records"


def _repair_seals(inventory: Inventory, report: RepairReport, findings: list[Finding]) -> None:
    lost = {f"{inventory.prefix}/{seal_path(name)}": name for name in inventory.lost_seals}
    for finding in findings:
        address = lost.get(finding.key)
        if address is None:  # no seal of this set, or made again meanwhile
            if remove_torn(inventory.objects, inventory.prefix, finding.key[len(inventory.prefix) + 1 :]):
                report.repaired[finding.key] = "removed: it is not a seal of this set"
            continue
        seal = _remake_seal(inventory, address)
        if seal is not None:
            write_seal(inventory.objects, inventory.prefix, seal)
            report.repaired[finding.key] = "made from the array, whose bytes are those that were sealed"
        elif read_seal(inventory.objects, inventory.prefix, address) is None:
            report.unrepairable[finding.key] = (
                f"{finding.problem} and the bytes of {address} are not those that were sealed: `patchbank extract` "
                "makes the array again"
            )


def _remake_seal(inventory: Inventory, address: str) -> Seal | None:
    """Return the seal of an array's present bytes if it has the digests in the summary."""
    array, layout = inventory.arrays.get(address), inventory.layout
    if array is None or layout is None or inventory.summary is None:
        return None
    if has_channels(array) and inventory.intact_bytes("samples.parquet") is None:
        return None  # which rows are valid, and so which channels are dead, is not known
    dead = DeadFeatures(array, valid_rows(inventory.objects, inventory.prefix, layout.n_rows))
    metadata: dict[str, StoredObject] = {}
    chunks: list[StoredObject] = []
    contents: list[str] = []
    pieces: list[bytes] = []
    try:
        for name in (GROUP, SPEC):
            data = record_bytes(inventory.objects, f"{inventory.prefix}/{address}/{name}")
            if data is None:
                return None
            metadata[name] = StoredObject.of(data)
        for number in range(layout.n_objects(array)):
            key = f"{inventory.prefix}/{address}/{chunk_name(number, array)}"
            data = record_bytes(inventory.objects, key)
            if data is None:
                return None
            first = number * layout.chunk_rows(array)
            rows = decode_chunk(data, array, layout, key)[: layout.n_rows - first]
            dead.take(first, rows)
            chunks.append(StoredObject.of(data).model_copy(update={"crc32c": int.from_bytes(data[-4:], "little")}))
            pieces.append(hashlib.sha256(rows.data).digest())
            stop = first + len(rows)
            if stop % layout.range_rows == 0 or stop == layout.n_rows:
                contents.append(range_content(pieces))
                pieces = []
    except DamageError:
        return None
    seal = Seal(
        set=inventory.digest,
        array=array,
        content=array_content(contents),
        ranges=packed(contents),
        metadata=metadata,
        chunks=ChunkTable.of(0, 1 + len(array.row_shape), chunks).text,
        dead=dead.channels,
    )
    entry = inventory.summary["arrays"][address]
    return seal if (seal.content, seal.stored) == (entry["content"], entry["stored"]) else None


def _note_lost_chunks(inventory: Inventory, report: RepairReport, findings: list[Finding]) -> None:
    """Report damaged chunks of sealed arrays as lost; take other arrays out of the commit records of their ranges."""
    objects, prefix = inventory.objects, inventory.prefix
    for finding in findings:
        address, _, name = finding.key[len(prefix) + 1 :].rpartition("/")
        if address in inventory.seals:
            report.lost.setdefault(address, []).append(int(name.split(".")[1]))
            continue
        for commit in read_commits(objects, prefix, inventory.digest).values():
            committed = commit.arrays.get(address)
            entry = None if committed is None else committed.table.get(name)
            if entry is not None and remove_commit(
                objects, prefix, commit, address, partial(is_stored, objects, finding.key, entry)
            ):
                report.repaired[finding.key] = f"range {commit.range} counts as missing and is extracted again"


def _repair_summary(store: Store, report: RepairReport, finding: Finding) -> None:
    objects, prefix = store.objects, report.prefix
    try:
        records = {name: record_bytes(objects, f"{prefix}/{name}") or b"" for name in COPIED}
        torn = [name for name, data in records.items() if not data or (name != SPEC and read_checksummed(data) is None)]
        if torn:
            raise DamageError(f"{torn[0]} is gone or torn")
        opened = ZarrSet(objects, prefix)
        entries = array_entries(opened.arrays, opened.seals)
        noted = {key: store.recall(key) for key in (name.removesuffix(".json") for name in objects.children(INDEX))}
        notes = {key: note for key, note in noted.items() if note and note.get(opened.spec.kind) == opened.digest}
        data = summary_bytes(opened.spec, opened.layout, records, entries, notes)
    except (DamageError, MissingError, UnicodeDecodeError) as error:
        report.unrepairable[finding.key] = f"{finding.problem} and the set it is made from is damaged too ({error})"
        return
    if write_once(objects, finding.key, data, lambda present: parse_summary(present, opened.digest) is not None):
        report.repaired[finding.key] = "made from the set"
    opened.summarise()


def _is_intact(key: str, is_cache: bool, data: bytes) -> bool:
    return is_whole_cache(key, data) if is_cache else read_note(key, data) is not None


def repair_index(store: Store, *, remove_strays: bool = False) -> RepairReport:
    """Repair the notes in ``index/`` from the copies in the sets' summaries; remove torn caches."""
    report = RepairReport(INDEX, INDEX)
    copies = note_copies(store)
    for finding in verify_notes(store).findings:
        key = finding.key[len(INDEX) + 1 :].removesuffix(".json")
        if finding.part == "note":
            known = copies.get(key, [])
            good = [note_bytes(key, note) for note in known]
            if good and write_once(store.objects, finding.key, good[-1], good.__contains__):
                report.repaired[finding.key] = "from the summary of a set that it names"
        elif remove_strays or finding.key.startswith(f"{SOURCES}/"):
            is_cache = finding.key.startswith(f"{SOURCES}/")
            if set_aside(store.objects, finding.key, partial(_is_intact, finding.key if is_cache else key, is_cache)):
                report.repaired[finding.key] = "removed"
        else:
            report.strays.append(finding.key)
    return report
