"""Creating the files of a set, telling a set from a folder whose creation is not complete, and a first look at it."""

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import pandas as pd

from stores.canonical import canonical_json, checksummed, read_checksummed, sha256_hex
from stores.errors import DamageError, MissingError, PatchbankError
from stores.format.chunks import array_metadata, group_metadata
from stores.format.commits import parse
from stores.format.layout import Layout
from stores.format.paths import (
    COMMITS,
    COMPUTE,
    COPIED,
    CREATED,
    GROUP,
    LAYOUT,
    PROVENANCE,
    SEALS,
    SPEC,
    SUMMARY,
)
from stores.format.records import read_many, write_all_once
from stores.format.summary import parse_summary, read_summary, summary_bytes
from stores.format.tables import read_table, table_bytes
from stores.specs import FORMAT_VERSION, ArraySpec, FeatureSpec, LabelSpec
from stores.storage.base import Objects


def set_metadata(kind: str, set_digest: str) -> bytes:
    """Return the ``zarr.json`` of a set's folder."""
    return group_metadata({"patchbank": {"format": FORMAT_VERSION, "kind": kind, "set": set_digest}})


def is_initialised(objects: Objects, prefix: str) -> bool:
    """Return whether the folder holds a set that was created to the end: not an absent, stopped or running creation."""
    if objects.size(f"{prefix}/{CREATED}") is not None:
        return True
    return any(objects.children(f"{prefix}/{folder}") for folder in (COMMITS, SEALS))


def create_files(
    objects: Objects,
    spec: FeatureSpec | LabelSpec,
    layout: Layout,
    tables: Mapping[str, pd.DataFrame | bytes],
    compute: Mapping[str, Any],
    provenance: Mapping[str, Any],
) -> None:
    """Write the records and tables of a set where they do not exist, ``created.json`` last.

    Args:
        objects: Storage of the store.
        spec: The record that names the set.
        layout: How its rows are cut.
        tables: Its tables by name: data frames or Parquet bytes.
        compute: The compute record.
        provenance: Facts for people.
    """
    prefix = f"{spec.kind}/{spec.digest}"
    if objects.size(f"{prefix}/{CREATED}") is not None:
        return
    files = {
        SPEC: canonical_json(spec.canonical()),
        LAYOUT: checksummed(layout.canonical()),
        GROUP: set_metadata(spec.kind, spec.digest),
        **{f"{name}.parquet": t if isinstance(t, bytes) else table_bytes(t) for name, t in tables.items()},
    }
    facts = {COMPUTE: checksummed(compute), PROVENANCE: checksummed(provenance)}
    write_all_once(
        objects,
        {f"{prefix}/{name}": (data, partial(_is_intact, name, data)) for name, data in (files | facts).items()},
    )
    # Read back, because another process may have written these files first.
    names = (*files, *facts)
    read = objects.together(partial(objects.read, f"{prefix}/{name}") for name in names)
    written = dict(zip(names, read, strict=True))
    records = {name: written[name] for name in COPIED if name != CREATED}
    records[CREATED] = created_record(spec.digest, written)
    objects.put_new(f"{prefix}/{SUMMARY}", [summary_bytes(spec, layout, records)])
    # Written last, so that its existence means the records are whole.
    objects.put_new(f"{prefix}/{CREATED}", [records[CREATED]])


def _is_intact(name: str, written: bytes, present: bytes) -> bool:
    """Return whether a file of the set that is there already can stay: another process may have written its own."""
    if name.endswith(".parquet"):
        with contextlib.suppress(DamageError):
            return present == written or read_table(present).equals(read_table(written))
        return False
    return present == written if name in (SPEC, GROUP) else read_checksummed(present) is not None


def created_record(set_digest: str, written: Mapping[str, bytes]) -> bytes:
    """Return the ``created.json`` of a set with these records and tables, given by file name."""
    sums = {name: sha256_hex(data) for name, data in written.items()}
    facts = {name: sums.pop(name) for name in (COMPUTE, PROVENANCE)}
    return checksummed({"set": set_digest, "files": sums, "facts": facts})


def declare_arrays(objects: Objects, prefix: str, layout: Layout, arrays: Iterable[ArraySpec]) -> None:
    """Write the records of arrays and the Zarr metadata of them and their groups, where they do not exist."""
    records: dict[str, bytes] = {}
    for array in arrays:
        records[f"{array.group}/{GROUP}"] = group_metadata({})
        records[f"{array.name}/{SPEC}"] = checksummed(array.canonical())
        records[f"{array.name}/{GROUP}"] = array_metadata(array, layout)
    write_all_once(objects, {f"{prefix}/{name}": (data, data.__eq__) for name, data in records.items()})


def list_together(objects: Objects, folders: Iterable[str]) -> list[list[str]]:
    """Return the names in some folders; an object store is asked for several at the same time."""
    return list(objects.together(partial(objects.children, folder) for folder in folders))


def read_declared(objects: Objects, prefix: str, addresses: Sequence[str]) -> dict[str, ArraySpec]:
    """Return the records of those arrays in the folder of a set that have one, by address, without torn ones."""
    addresses = [address for address in addresses if address.rpartition("/")[2] != GROUP]
    declared = {}
    records = read_many(objects, (f"{prefix}/{address}/{SPEC}" for address in addresses))
    for address, data in zip(addresses, records, strict=True):
        # None also while another writer is adding it.
        array = parse(ArraySpec, read_checksummed(data))
        if array is not None and array.name == address:
            declared[address] = array
    return declared


class FirstLook:
    """What opening a set reads of it first, all of it at the same time where the storage answers several calls at once.

    Args:
        objects: Storage of the store.
        prefix: Folder of the set.
        from_summary: Read what tells whether the summary is enough, instead of what the rest begins with.
    """

    def __init__(self, objects: Objects, prefix: str, from_summary: bool) -> None:
        self.objects, self.prefix = objects, prefix
        files = (SPEC, LAYOUT, *((CREATED, SUMMARY) if from_summary else ()))
        folders = (SEALS,) if from_summary else (COMMITS, "")
        calls: dict[tuple[str, str], Callable[[], Any]] = {
            **{("file", name): partial(objects.read, f"{prefix}/{name}") for name in files},
            **{("folder", name): partial(objects.children, f"{prefix}/{name}".rstrip("/")) for name in folders},
        }
        answers = objects.together(partial(_answer, call) for call in calls.values())
        self._found = dict(zip(calls, answers, strict=True))

    def _get(self, kind: str, name: str) -> Any:
        found = self._found[kind, name]
        if isinstance(found, PatchbankError):
            raise found
        return found

    def read(self, name: str) -> bytes:
        """Return a file's bytes; raises MissingError where there is none, UserError where it cannot be read."""
        return bytes(self._get("file", name))

    def names(self, folder: str) -> list[str]:
        """Return the names in a folder."""
        return list(self._get("folder", folder))

    @property
    def summary(self) -> dict[str, Any] | None:
        """The set's summary, None where it is absent, torn or of another set."""
        if isinstance(self._found["file", SUMMARY], PatchbankError):
            return read_summary(self.objects, self.prefix)
        return parse_summary(self.read(SUMMARY), self.prefix.rpartition("/")[2])

    def is_initialised(self) -> bool:
        """Return whether the set was created to the end."""
        if ("folder", "") in self._found:
            inside = CREATED in self.names("") or bool(self.names(COMMITS))
        else:
            inside = not isinstance(self._found["file", CREATED], MissingError)
        return inside or is_initialised(self.objects, self.prefix)


def _answer(call: Callable[[], Any]) -> Any:
    """Return what a call returns, or the error that it ends with."""
    try:
        return call()
    except PatchbankError as error:
        return error
