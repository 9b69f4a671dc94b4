"""Records of the ranges that may have been computed on another kind of machine than the rest of a set.

Their last bits may differ. Such a machine writes a record before its first range, into ``machines/``: its compute
record and the ranges that it is about to make. No digest depends on it.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from stores.canonical import checksummed, read_checksummed, sha256_hex
from stores.format.paths import MACHINES
from stores.format.records import record_bytes, write_once
from stores.storage.base import Objects


def note_machine(
    objects: Objects, prefix: str, compute: Mapping[str, Any], ranges: Iterable[tuple[list[str], list[int]]]
) -> None:
    """Record that some ranges may come from another kind of machine.

    Args:
        objects: Storage of the store.
        prefix: Folder of the set.
        compute: The compute record of this machine.
        ranges: Addresses of arrays with the numbers of the ranges of them that are made here.
    """
    made = [{"arrays": arrays, "ranges": numbers} for arrays, numbers in ranges]
    data = checksummed({"set": prefix.rpartition("/")[2], "compute": dict(compute), "made": made})
    write_once(objects, f"{prefix}/{MACHINES}/{sha256_hex(data)[:12]}.json", data, data.__eq__)


def read_machines(objects: Objects, prefix: str) -> dict[str, dict[str, Any]]:
    """Return the records of other machines by file name, without torn ones and those of another set."""
    found = {}
    for name in objects.children(f"{prefix}/{MACHINES}"):
        record = read_checksummed(record_bytes(objects, f"{prefix}/{MACHINES}/{name}"))
        if (
            record is not None
            and record.get("set") == prefix.rpartition("/")[2]
            and {"compute", "made"} <= record.keys()
        ):
            found[name] = record
    return found


def differences(recorded: Mapping[str, Any], here: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return what differs between two compute records, as ``(recorded, here)``; what only one of them has is not known.

    Threads of the processor decide nothing where another device computes.
    """
    ignored = {"threads"} if here.get("device") != "cpu" else set()
    shared = sorted((recorded.keys() & here.keys()) - ignored)
    return {name: (recorded[name], here[name]) for name in shared if recorded[name] != here[name]}
