"""Repairing a set from what the store itself still holds, and putting rows that were made again where they belong.

What needs neither images nor models: records (the summary holds a copy of each), tables (other sets of the same
samples hold equal ones), Zarr metadata (it follows from the records), seals (made again from the bytes they vouched
for), notes in ``index/``. Chunks are lost bytes: `stores.maintenance.rebuild` takes their rows from whoever
can compute them.
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
from stores.maintenance.verify import Finding, remembered, verify_notes, verify_set
from stores.sets import ZarrSet
from stores.store import Store, note_bytes
from stores.writing.dead_channels import DeadFeatures, valid_rows


@dataclass
class RepairReport:
    """What repairing one set did."""

    set: str
    prefix: str
    repaired: dict[str, str] = field(default_factory=dict)
    """How each object was repaired, by key."""
    lost: dict[str, list[int]] = field(default_factory=dict)
    """Chunks of sealed arrays that have to be made again, by array."""
    unrepairable: dict[str, str] = field(default_factory=dict)
    """Why an object could not be repaired, by key."""
    strays: list[str] = field(default_factory=list)
    """Keys of objects that belong to nothing and were left where they are."""

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
    """Repair what the store itself can repair of the set in folder ``prefix``.

    ``records`` are bytes that somebody made again from a recipe, by file name; they are used where their sha256 is
    the one that was written. Every replaced object has the digest it had when the set was made.
    """
    objects = store.objects
    report = RepairReport(prefix.rpartition("/")[2], prefix)
    findings = verify_set(objects, prefix, executor).findings
    by_part: dict[str, list[Finding]] = {}
    for finding in findings:
        by_part.setdefault(finding.part, []).append(finding)
    _mend_records(store, report, by_part.get("record", []), records or {})
    known = take_inventory(objects, prefix)
    _mend_metadata(known, report, by_part.get("metadata", []))
    _mend_seals(known, report, by_part.get("seal", []))
    for finding in by_part.get("commit", []):
        objects.delete(finding.key)
        report.repaired[finding.key] = "removed: its range counts as missing and is extracted again"
    _sort_chunks(known, report, by_part.get("chunk", []))
    for finding in by_part.get("stray", []):
        if remove_strays:
            objects.delete(finding.key)
            report.repaired[finding.key] = "removed"
        else:
            report.strays.append(finding.key)
    if "summary" in by_part:
        _mend_summary(store, report, by_part["summary"][0])
    return report


def _mend_records(store: Store, report: RepairReport, findings: list[Finding], given: Mapping[str, bytes]) -> None:
    prefix = report.prefix
    names = {finding.key[len(prefix) + 1 :]: finding for finding in findings}
    for name in sorted(names, key=lambda name: name != CREATED):  # created.json vouches for the others
        known = take_inventory(store.objects, prefix)
        candidates = {"from the summary's copy": known.copy(name)}
        if name != CREATED:
            wanted = (known.created or {}).get(name, known.digest if name == SPEC else "")
            made = {"from the recipe": given.get(name), "from the set's name": known.metadata.get(name)}
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


def _mend_metadata(known: Inventory, report: RepairReport, findings: list[Finding]) -> None:
    for finding in findings:
        known.objects.put(finding.key, [known.metadata[finding.key[len(known.prefix) + 1 :]]])
        report.repaired[finding.key] = "from the records it follows from"


def _mend_seals(known: Inventory, report: RepairReport, findings: list[Finding]) -> None:
    lost = {f"{known.prefix}/{seal_path(name)}": name for name in known.lost_seals}
    for finding in findings:
        address = lost.get(finding.key)
        if address is None:  # a foreign record
            known.objects.delete(finding.key)
            report.repaired[finding.key] = "removed: it seals nothing of this set"
            continue
        seal = _seal_again(known, address)
        if seal is None:
            report.unrepairable[finding.key] = (
                f"{finding.problem} and the bytes of {address} are not those it vouched for"
            )
        else:
            known.objects.put(finding.key, [checksummed(seal.canonical())])
            report.repaired[finding.key] = "from the bytes it vouched for"


def _seal_again(known: Inventory, address: str) -> Seal | None:
    """Return the seal of an array's present bytes if it has the digests that the summary noted."""
    array, layout = known.arrays.get(address), known.layout
    if array is None or layout is None or known.summary is None:
        return None
    dead = DeadFeatures(array, valid_rows(known.objects, known.prefix, layout.n_rows))
    names = [GROUP, SPEC, *(chunk_name(index, array) for index in range(layout.n_objects(array)))]
    content = hashlib.sha256()
    found: dict[str, StoredObject] = {}
    for name in names:
        key = f"{known.prefix}/{address}/{name}"
        try:
            data = known.objects.read(key)
            if name not in (GROUP, SPEC):
                first = (len(found) - 2) * layout.chunk_rows(array)
                rows = decode_chunk(data, array, layout, key)[: layout.n_rows - first]
                content.update(rows.data)
                dead.take(first, rows)
        except (MissingError, DamageError):
            return None
        found[name] = StoredObject.of(data)
    seal = Seal(set=known.digest, array=array, content=content.hexdigest(), objects=found, dead=dead.channels)
    noted = known.summary["arrays"][address]
    return seal if (seal.content, seal.stored) == (noted["content"], noted["stored"]) else None


def _sort_chunks(known: Inventory, report: RepairReport, findings: list[Finding]) -> None:
    """Note damaged chunks of sealed arrays as lost; ranges that are only committed become missing again."""
    for finding in findings:
        address, _, name = finding.key[len(known.prefix) + 1 :].rpartition("/")
        if address in known.seals:
            report.lost.setdefault(address, []).append(int(name.split(".")[1]))
            continue
        for file_name, commit in known.commits.items():
            if name in commit.objects.get(address, {}):
                known.objects.delete(f"{known.prefix}/{COMMITS}/{file_name}")
                report.repaired[finding.key] = f"range {commit.range} counts as missing and is extracted again"


def _mend_summary(store: Store, report: RepairReport, finding: Finding) -> None:
    try:
        made = ZarrSet(store.objects, report.prefix)
        notes = {}
        for child in store.objects.children(INDEX):
            noted = store.recall(child.removesuffix(".json"))
            if noted is not None and noted.get(made.spec.kind) == made.digest:
                notes[child.removesuffix(".json")] = noted
        records = {name: store.objects.read(f"{report.prefix}/{name}") for name in COPIED}
        entries = array_entries(made.arrays, made.seals)
        store.objects.put(finding.key, [summary_bytes(made.spec, made.layout, records, entries, notes)])
    except (DamageError, MissingError) as error:
        report.unrepairable[finding.key] = f"{finding.problem} and what it sums up is damaged too ({error})"
    else:
        report.repaired[finding.key] = "from the set"


def repair_index(store: Store, *, remove_strays: bool = False) -> RepairReport:
    """Write the notes in ``index/`` again from the copies in the sets' summaries; torn caches are removed."""
    report = RepairReport(INDEX, INDEX)
    noted = remembered(store)
    for finding in verify_notes(store).findings:
        key = finding.key[len(INDEX) + 1 :].removesuffix(".json")
        if finding.part == "note":
            store.objects.put(finding.key, [note_bytes(key, noted[key][-1])])
            report.repaired[finding.key] = "from the summary of a set it leads to"
        elif remove_strays or finding.key.startswith(f"{SOURCES}/"):
            store.objects.delete(finding.key)
            report.repaired[finding.key] = "removed"
        else:
            report.strays.append(finding.key)
    return report
