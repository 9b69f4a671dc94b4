"""The records of a set that may be damaged, read from the files or their copies in the summary.

Names are listed before any record is read, and the summary is read before the seals: a record of what is listed was
written before it or is read later. What is listed may be gone when it is looked at, and what was written since is not
listed, so nothing is judged by the list alone.
"""

import json
import re
from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from stores.canonical import checksummed, read_checksummed, sha256_hex
from stores.format.chunk_table import ObjectNames, ObjectTables
from stores.format.chunks import array_metadata, group_metadata
from stores.format.commits import Commit, Seal, parse, read_commits, read_seals
from stores.format.creation import set_metadata
from stores.format.layout import Layout
from stores.format.machines import read_machines
from stores.format.paths import COMMITS, COPIED, CREATED, GROUP, LAYOUT, MACHINES, SEALS, SPEC, SUMMARY, seal_path
from stores.format.records import check_format, read_many, record_bytes
from stores.format.summary import read_summary
from stores.specs import ArraySpec
from stores.storage.base import PARTIAL, Objects

CHUNK = re.compile(r"c(\.\d+)+")
"""Name of a chunk inside its array's folder."""


@dataclass(frozen=True)
class Inventory:
    """The records of one set; those that are damaged and have no copy are None or left out."""

    objects: Objects
    prefix: str
    digest: str
    names: Set[str]
    """Names of all objects in the folder, relative to the set."""
    summary: dict[str, Any] | None
    created: dict[str, Any] | None
    """The sha256 of files that `created.json` lists, by file name."""
    layout: Layout | None
    seals: dict[str, Seal]
    commits: dict[str, Commit]
    arrays: dict[str, ArraySpec]
    """Arrays that are sealed, declared on disk or listed in the summary, by address."""

    @property
    def is_initialised(self) -> bool:
        """Whether the set was created to the end: a missing record is then damage, not an interrupted creation."""
        noted = self.summary is not None and bool(self.summary["notes"] or self.summary["arrays"])
        inside = any(child.partition("/")[0] in (COMMITS, SEALS) for child in self.names)
        return CREATED in self.names or noted or inside or bool(self.seals or self.commits)

    def copy(self, name: str) -> bytes | None:
        """Return the summary's copy of a record, if its sha256 is the one in `created.json`."""
        text = None if self.summary is None else self.summary["records"].get(name)
        if text is None:
            return None
        data = str(text).encode()
        if name == CREATED:
            return data if _created(data, self.digest) is not None else None
        return data if self.created is not None and self.created.get(name) == sha256_hex(data) else None

    def read(self, child: str) -> bytes | None:
        """Return the present bytes of an object of the set, None when there is none."""
        return record_bytes(self.objects, f"{self.prefix}/{child}")

    def read_many(self, children: Iterable[str]) -> Iterator[bytes | None]:
        """Return the present bytes of some objects of the set, in order, None where there are none."""
        return read_many(self.objects, (f"{self.prefix}/{child}" for child in children))

    def intact_bytes(self, name: str) -> bytes | None:
        """Return a record's bytes as they were written: from disk, or the summary's copy."""
        data = self.read(name)
        if data is not None and self.created is None:  # its own checksum is all there is
            return data if read_checksummed(data) is not None else None
        if data is not None and self.created is not None and self.created.get(name) == sha256_hex(data):
            return data
        return self.copy(name)

    @cached_property
    def metadata(self) -> dict[str, bytes]:
        """The bytes of every record that can be made from others: Zarr metadata and array records, by name."""
        records = {GROUP: set_metadata(self.prefix.partition("/")[0], self.digest)}
        for address, array in self.arrays.items():
            records[f"{address.partition('/')[0]}/{GROUP}"] = group_metadata({})
            records[f"{address}/{SPEC}"] = checksummed(array.canonical())
            if self.layout is not None:
                records[f"{address}/{GROUP}"] = array_metadata(array, self.layout)
        return records

    @cached_property
    def expected_objects(self) -> ObjectTables:
        """Size and sha256 of every object of sealed arrays and committed ranges, by name inside the set."""
        listed = ObjectTables()
        for name, seal in self.seals.items():
            listed.add_seal(name, seal.metadata, seal.table)
        for commit in self.commits.values():
            for address, chunks in commit.arrays.items():
                listed.add_commit(address, chunks.table)
        return listed

    @cached_property
    def lost_seals(self) -> list[str]:
        """The arrays that were sealed, according to the summary, and have no valid seal."""
        entries = {} if self.summary is None else self.summary["arrays"]
        return sorted(name for name, entry in entries.items() if "stored" in entry and name not in self.seals)

    @cached_property
    def machines(self) -> dict[str, dict[str, Any]]:
        """The records of other machines that made some ranges, by file name."""
        return read_machines(self.objects, self.prefix)

    @cached_property
    def addresses(self) -> frozenset[str]:
        """Addresses of all arrays that any record names, also of those whose own records are lost."""
        listed = {} if self.summary is None else self.summary["arrays"]
        committed = [address for commit in self.commits.values() for address in commit.arrays]
        return frozenset([*self.arrays, *listed, *committed])

    def is_allowed(self, child: str) -> bool:
        """Return whether an object that no seal or commit record lists may be here: a record or a partial file.

        Where `created.json` is lost, every record and table that a set can have belongs to it.
        """
        folder, _, name = child.rpartition("/")
        if child.endswith(PARTIAL) or child in (SUMMARY, CREATED) or child in (self.created or {}):
            return True
        if not folder and self.created is None:
            return name in (*COPIED, GROUP) or name.endswith(".parquet")
        if folder == SEALS:
            return child in {seal_path(address) for address in (*self.seals, *self.lost_seals)}
        if folder == COMMITS:
            return name in self.commits
        if folder == MACHINES:
            return name in self.machines
        # Chunks of arrays that are not sealed may be written and not yet committed.
        open_array = folder in self.addresses and folder not in self.seals
        return child in self.metadata or (open_array and (name in (GROUP, SPEC) or CHUNK.fullmatch(name) is not None))


def take_inventory(objects: Objects, prefix: str) -> Inventory:
    """Read the records of the set in folder ``prefix``; raises UserError for another format."""
    digest = prefix.rpartition("/")[2]
    start = len(prefix) + 1
    keys, names = objects.keys(prefix), ObjectNames()
    while keys:  # so that the names are in memory once
        names.add(keys.pop()[start:])
    summary = read_summary(objects, prefix)
    commits = read_commits(objects, prefix, digest)
    seals = read_seals(objects, prefix, digest)
    created = _created(record_bytes(objects, f"{prefix}/{CREATED}"), digest)
    if created is None and summary is not None:
        created = _created(str(summary["records"].get(CREATED, "")).encode(), digest)
    inventory = Inventory(objects, prefix, digest, names, summary, created, None, seals, commits, {})
    _refuse_other_format(inventory)
    layout = parse(Layout, read_checksummed(inventory.intact_bytes(LAYOUT)))
    return replace(inventory, layout=layout, arrays=_arrays(inventory))


def _arrays(inventory: Inventory) -> dict[str, ArraySpec]:
    arrays = {name: seal.array for name, seal in inventory.seals.items()}
    for name, entry in (inventory.summary or {"arrays": {}})["arrays"].items():
        declared = parse(ArraySpec, entry.get("spec"))
        if declared is not None and name not in arrays:
            arrays[name] = declared
    addresses = [child.rpartition("/")[0] for child in inventory.names if child.endswith(f"/{SPEC}")]
    addresses = [address for address in addresses if "/" in address and address not in arrays]
    records = inventory.read_many(f"{address}/{SPEC}" for address in addresses)
    for address, data in zip(addresses, records, strict=True):
        declared = parse(ArraySpec, read_checksummed(data))
        if declared is not None and declared.name == address:
            arrays[address] = declared
    return arrays


def _refuse_other_format(inventory: Inventory) -> None:
    data = inventory.read(SPEC)
    if data is None or sha256_hex(data) != inventory.digest:
        return  # damage, not another format
    try:
        version = json.loads(data)["format"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return
    check_format(version, f"{inventory.objects.url}/{inventory.prefix}")


def _created(data: bytes | None, digest: str) -> dict[str, Any] | None:
    """Return the sha256 of every file that a `created.json` lists, None when it is damaged or of another set."""
    record = read_checksummed(data)
    if record is None or record.get("set") != digest or not isinstance(record.get("files"), dict):
        return None
    facts = record.get("facts", {})
    return {**record["files"], **facts} if isinstance(facts, dict) else None
