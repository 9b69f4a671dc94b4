"""Creating the files of a set, and telling a set from a folder whose creation is not complete."""

import contextlib
from collections.abc import Container, Mapping
from functools import partial
from typing import Any

import pandas as pd

from stores.canonical import canonical_json, checksummed, read_checksummed, sha256_hex
from stores.errors import DamageError
from stores.format.chunks import group_metadata
from stores.format.commits import parse
from stores.format.layout import Layout
from stores.format.paths import (
    COMMITS,
    COMPUTE,
    COPIED,
    CREATED,
    GROUP,
    LAYOUT,
    MACHINES,
    PROVENANCE,
    SEALS,
    SPEC,
    SUMMARY,
)
from stores.format.records import record_bytes, write_once
from stores.format.summary import summary_bytes
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
    for name, data in (files | facts).items():
        write_once(objects, f"{prefix}/{name}", data, partial(_is_intact, name, data))
    # Read back, because another process may have written these files first.
    written = {name: objects.read(f"{prefix}/{name}") for name in (*files, *facts)}
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


def read_declared(objects: Objects, prefix: str, known: Container[str] = ()) -> dict[str, ArraySpec]:
    """Return the arrays whose records are in the folder of a set, by address, without torn and ``known`` ones."""
    declared = {}
    for group in objects.children(prefix):
        if "." in group or group in (COMMITS, MACHINES, SEALS):
            continue
        for name in objects.children(f"{prefix}/{group}"):
            address = f"{group}/{name}"
            if name == GROUP or address in known:
                continue
            # None also while another writer is adding it.
            array = parse(ArraySpec, read_checksummed(record_bytes(objects, f"{prefix}/{address}/{SPEC}")))
            if array is not None and array.name == address:
                declared[address] = array
    return declared
