"""Repairing a set from copies in the store, without images and models.

These are records (the summary holds a copy of each), tables (other sets of the same samples hold equal ones), Zarr
metadata (made from the records), seals (made from the array's bytes) and notes in ``index/`` (copies in summaries).
Damaged chunks have no copy: `stores.maintenance.rebuild` takes recomputed rows.
"""

import hashlib
from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field

from stores.canonical import checksummed, sha256_hex
from stores.errors import DamageError, MissingError
from stores.format.chunks import decode_chunk
from stores.format.commits import Seal, StoredObject
from stores.format.layout import chunk_name
from stores.format.paths import COMMITS, COPIED, CREATED, GROUP, INDEX, SOURCES, SPEC, seal_path
from stores.format.summary import array_entries, summary_bytes
from stores.maintenance.inventory import Inventory, take_inventory
from stores.maintenance.verify import Finding, note_copies, verify_notes, verify_set
from stores.sets import ZarrSet
from stores.store import Store, note_bytes
from stores.writing.dead_channels import DeadFeatures, valid_rows


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
    objects = store.objects
    report = RepairReport(prefix.rpartition("/")[2], prefix)
    findings = verify_set(objects, prefix, executor).findings
    by_part: dict[str, list[Finding]] = {}
    for finding in findings:
        by_part.setdefault(finding.part, []).append(finding)
    _repair_records(store, report, by_part.get("record", []), records or {})
    inventory = take_inventory(objects, prefix)
    _repair_metadata(inventory, report, by_part.get("metadata", []))
    _repair_seals(inventory, report, by_part.get("seal", []))
    for finding in by_part.get("commit", []):
        objects.delete(finding.key)
        report.repaired[finding.key] = "removed: its range counts as missing and is extracted again"
    _note_lost_chunks(inventory, report, by_part.get("chunk", []))
    for finding in by_part.get("stray", []):
        if remove_strays:
            objects.delete(finding.key)
            report.repaired[finding.key] = "removed"
        else:
            report.strays.append(finding.key)
    if "summary" in by_part:
        _repair_summary(store, report, by_part["summary"][0])
    return report


def _repair_records(store: Store, report: RepairReport, findings: list[Finding], given: Mapping[str, bytes]) -> None:
    prefix = report.prefix
    names = {finding.key[len(prefix) + 1 :]: finding for finding in findings}
    for name in sorted(names, key=lambda name: name != CREATED):  # created.json lists the others
        inventory = take_inventory(store.objects, prefix)
        candidates = {"from the summary's copy": inventory.copy(name)}
        if name != CREATED:
            wanted = (inventory.created or {}).get(name, inventory.digest if name == SPEC else "")
            made = {"from the recipe": given.get(name), "from the set's name": inventory.metadata.get(name)}
            candidates |= {how: data for how, data in made.items() if data is not None and sha256_hex(data) == wanted}
            if name.endswith(".parquet"):
                candidates["from another set of the same samples"] = _table_elsewhere(store, prefix, name, wanted)
        how = next((how for how, data in candidates.items() if data is not None), None)
        key = f"{prefix}/{name}"
        if how is None:
            report.unrepairable[key] = f"{names[name].problem} and no copy of it is left"
        else:
            store.objects.put(key, [candidates[how] or b""])
            report.repaired[key] = how


def _table_elsewhere(store: Store, prefix: str, name: str, wanted: str) -> bytes | None:
    for kind, digest in store.set_folders():
        key = f"{kind}/{digest}/{name}"
        if not key.startswith(f"{prefix}/") and store.objects.size(key) is not None:
            data = store.objects.read(key)
            if sha256_hex(data) == wanted:
                return data
    return None


def _repair_metadata(inventory: Inventory, report: RepairReport, findings: list[Finding]) -> None:
    for finding in findings:
        inventory.objects.put(finding.key, [inventory.metadata[finding.key[len(inventory.prefix) + 1 :]]])
        report.repaired[finding.key] = "made from other records"


def _repair_seals(inventory: Inventory, report: RepairReport, findings: list[Finding]) -> None:
    lost = {f"{inventory.prefix}/{seal_path(name)}": name for name in inventory.lost_seals}
    for finding in findings:
        address = lost.get(finding.key)
        if address is None:  # a record of another set
            inventory.objects.delete(finding.key)
            report.repaired[finding.key] = "removed: it is not a seal of this set"
            continue
        seal = _remake_seal(inventory, address)
        if seal is None:
            report.unrepairable[finding.key] = (
                f"{finding.problem} and the bytes of {address} are not those that were sealed"
            )
        else:
            inventory.objects.put(finding.key, [checksummed(seal.canonical())])
            report.repaired[finding.key] = "made from the array, whose bytes are those that were sealed"


def _remake_seal(inventory: Inventory, address: str) -> Seal | None:
    """Return the seal of an array's present bytes if it has the digests in the summary."""
    array, layout = inventory.arrays.get(address), inventory.layout
    if array is None or layout is None or inventory.summary is None:
        return None
    dead = DeadFeatures(array, valid_rows(inventory.objects, inventory.prefix, layout.n_rows))
    names = [GROUP, SPEC, *(chunk_name(index, array) for index in range(layout.n_objects(array)))]
    content = hashlib.sha256()
    stored: dict[str, StoredObject] = {}
    for name in names:
        key = f"{inventory.prefix}/{address}/{name}"
        try:
            data = inventory.objects.read(key)
            if name not in (GROUP, SPEC):
                first = (len(stored) - 2) * layout.chunk_rows(array)
                rows = decode_chunk(data, array, layout, key)[: layout.n_rows - first]
                content.update(rows.data)
                dead.take(first, rows)
        except (MissingError, DamageError):
            return None
        stored[name] = StoredObject.of(data)
    seal = Seal(set=inventory.digest, array=array, content=content.hexdigest(), objects=stored, dead=dead.channels)
    entry = inventory.summary["arrays"][address]
    return seal if (seal.content, seal.stored) == (entry["content"], entry["stored"]) else None


def _note_lost_chunks(inventory: Inventory, report: RepairReport, findings: list[Finding]) -> None:
    """Report damaged chunks of sealed arrays as lost; remove the commit records of ranges of other arrays."""
    for finding in findings:
        address, _, name = finding.key[len(inventory.prefix) + 1 :].rpartition("/")
        if address in inventory.seals:
            report.lost.setdefault(address, []).append(int(name.split(".")[1]))
            continue
        for file_name, commit in inventory.commits.items():
            if name in commit.objects.get(address, {}):
                inventory.objects.delete(f"{inventory.prefix}/{COMMITS}/{file_name}")
                report.repaired[finding.key] = f"range {commit.range} counts as missing and is extracted again"


def _repair_summary(store: Store, report: RepairReport, finding: Finding) -> None:
    try:
        opened = ZarrSet(store.objects, report.prefix)
        notes = {}
        for child in store.objects.children(INDEX):
            noted = store.recall(child.removesuffix(".json"))
            if noted is not None and noted.get(opened.spec.kind) == opened.digest:
                notes[child.removesuffix(".json")] = noted
        records = {name: store.objects.read(f"{report.prefix}/{name}") for name in COPIED}
        entries = array_entries(opened.arrays, opened.seals)
        store.objects.put(finding.key, [summary_bytes(opened.spec, opened.layout, records, entries, notes)])
    except (DamageError, MissingError) as error:
        report.unrepairable[finding.key] = f"{finding.problem} and the set it is made from is damaged too ({error})"
    else:
        report.repaired[finding.key] = "made from the set"


def repair_index(store: Store, *, remove_strays: bool = False) -> RepairReport:
    """Repair the notes in ``index/`` from the copies in the sets' summaries; remove torn caches."""
    report = RepairReport(INDEX, INDEX)
    copies = note_copies(store)
    for finding in verify_notes(store).findings:
        key = finding.key[len(INDEX) + 1 :].removesuffix(".json")
        if finding.part == "note":
            store.objects.put(finding.key, [note_bytes(key, copies[key][-1])])
            report.repaired[finding.key] = "from the summary of a set that it names"
        elif remove_strays or finding.key.startswith(f"{SOURCES}/"):
            store.objects.delete(finding.key)
            report.repaired[finding.key] = "removed"
        else:
            report.strays.append(finding.key)
    return report
