"""A set in a store: records, tables and arrays in one folder that is also a Zarr v3 hierarchy.

stores/README.md is the normative description of every file named here.
"""

import json
from collections.abc import Iterable, Mapping
from concurrent.futures import Executor
from typing import Any

import pandas as pd
from pydantic import ValidationError

from stores.arrays import ZarrArray
from stores.canonical import canonical_json, checksummed, digest, read_checksummed, sha256_hex
from stores.errors import DamageError, MissingError, UserError
from stores.format.chunks import array_metadata, group_metadata
from stores.format.commits import Commit, Seal, parse, read_commits, read_seals
from stores.format.layout import MOST_RANGES, Layout
from stores.format.paths import COMMITS, COMPUTE, COPIED, CREATED, GROUP, LAYOUT, PROVENANCE, SEALS, SPEC, SUMMARY
from stores.format.summary import array_entries, summary_bytes, update_summary
from stores.format.tables import read_table, table_bytes
from stores.notebook import ShownSet
from stores.specs import FORMAT_VERSION, ArraySpec, FeatureSpec, LabelSpec
from stores.storage.base import Objects, read_if_present

KINDS: dict[str, type[FeatureSpec] | type[LabelSpec]] = {"features": FeatureSpec, "labels": LabelSpec}
"""Type of the record that names a set, by the kind of set."""


def set_metadata(kind: str, set_digest: str) -> bytes:
    """Return the ``zarr.json`` of a set's folder."""
    return group_metadata({"patchbank": {"format": FORMAT_VERSION, "kind": kind, "set": set_digest}})


def is_initialised(objects: Objects, prefix: str) -> bool:
    """Return whether the folder holds a set that was created to the end: not an absent, stopped or running creation."""
    if objects.size(f"{prefix}/{CREATED}") is not None:
        return True
    return any(objects.children(f"{prefix}/{folder}") for folder in (COMMITS, SEALS))


class ZarrSet(ShownSet):
    """A feature set or label set in a store.

    Opening reads the records and lists commits and seals once; `refresh` does it again. Arrays are read with
    ``set["block.11.norm"]`` (short for ``set["tokens/block.11.norm"]``) or by their full address,
    ``set["prefix/block.11"]``.
    """

    def __init__(self, objects: Objects, prefix: str, executor: Executor | None = None) -> None:
        self.objects = objects
        self.prefix = prefix
        self.executor = executor
        try:
            record = json.loads(objects.read(f"{prefix}/{SPEC}"))
            kind = KINDS[record["kind"]]
        except MissingError:
            raise MissingError(f"{objects.url}/{prefix} holds no set (no {SPEC}): `patchbank ls` lists them") from None
        except UserError:
            raise  # an error of the disk is not damage; UserError is also a ValueError
        except (ValueError, KeyError, TypeError, RecursionError):
            raise DamageError(f"{objects.url}/{prefix}/{SPEC} is not readable: run `patchbank verify`") from None
        if isinstance(record.get("format"), int) and record["format"] > FORMAT_VERSION:
            raise UserError(
                f"{objects.url}/{prefix} was written in format {record['format']} and this version of patchbank "
                f"reads up to {FORMAT_VERSION}: install a newer patchbank"
            )
        if not is_initialised(objects, prefix):
            raise MissingError(
                f"{objects.url}/{prefix} was started and holds nothing yet: `patchbank extract` completes it"
            )
        try:
            self.spec: FeatureSpec | LabelSpec = kind.model_validate(record, strict=False)
            self.layout = Layout.model_validate(self._checked(LAYOUT), strict=False)
        except (ValidationError, MissingError) as error:
            raise DamageError(f"{objects.url}/{prefix} has damaged records: run `patchbank verify`") from error
        if self.layout.n_ranges > MOST_RANGES:
            raise DamageError(
                f"{objects.url}/{prefix} has damaged records ({self.layout.n_ranges} ranges): run `patchbank verify`"
            )
        self.digest = prefix.rpartition("/")[2]
        if not self._named_by(self.spec):
            raise DamageError(
                f"{objects.url}/{prefix}/{SPEC} does not have the digest in its folder's name: run `patchbank verify`"
            )
        self.refresh()

    def _named_by(self, spec: FeatureSpec | LabelSpec) -> bool:
        try:
            return spec.digest == self.digest
        except (ValueError, RecursionError):  # NaN, or text that is not Unicode: it has no digest
            return False

    # -- creating ---------------------------------------------------------------------------------------------

    @classmethod
    def create(
        cls,
        objects: Objects,
        spec: FeatureSpec | LabelSpec,
        layout: Layout,
        tables: Mapping[str, pd.DataFrame | bytes],
        compute: Mapping[str, Any],
        provenance: Mapping[str, Any],
    ) -> "ZarrSet":
        """Create the set, or open it where it exists; several processes may do so at the same time.

        Args:
            objects: Storage of the store.
            spec: The record that names the set.
            layout: How its rows are cut.
            tables: Its tables by name: data frames, or the Parquet bytes of another store, which are kept as they are.
            compute: The compute record: what must be equal for equal bytes.
            provenance: Facts for people, which are never compared.
        """
        prefix = f"{spec.kind}/{spec.digest}"
        files = {
            SPEC: canonical_json(spec.canonical()),
            LAYOUT: checksummed(layout.canonical()),
            GROUP: set_metadata(spec.kind, spec.digest),
            **{
                f"{name}.parquet": table if isinstance(table, bytes) else table_bytes(table)
                for name, table in tables.items()
            },
        }
        facts = {COMPUTE: checksummed(compute), PROVENANCE: checksummed(provenance)}
        if objects.size(f"{prefix}/{CREATED}") is None:
            for name, data in (files | facts).items():
                objects.put_new(f"{prefix}/{name}", [data])
            # Read back, because another process may have written these files first.
            written = {name: objects.read(f"{prefix}/{name}") for name in (*files, *facts)}
            sums = {name: sha256_hex(data) for name, data in written.items()}
            record = {"set": spec.digest} | {
                kind: {name: sums[name] for name in names} for kind, names in (("files", files), ("facts", facts))
            }
            records = {name: written[name] for name in COPIED if name != CREATED}
            records[CREATED] = checksummed(record)
            objects.put_new(f"{prefix}/{SUMMARY}", [summary_bytes(spec, layout, records)])
            # Written last, so that its existence means the records are whole.
            objects.put_new(f"{prefix}/{CREATED}", [records[CREATED]])
        return cls(objects, prefix)

    def add_arrays(self, arrays: Iterable[ArraySpec]) -> None:
        """Declare arrays; raises UserError when one exists with another shape or dtype."""
        new = []
        for array in arrays:
            known = self.arrays.get(array.name)
            if known is None:
                new.append(array)
            elif known != array:
                raise UserError(
                    f"array {array.name} of set {self.digest[:12]} exists as {known.dtype} {known.row_shape} "
                    f"and cannot be added as {array.dtype} {array.row_shape}: choose another store"
                )
        if not new:
            return
        intended = self.arrays | {array.name: array for array in new}
        update_summary(self.objects, self.prefix, {"arrays": array_entries(intended, self.seals)})
        for array in new:
            self.objects.put_new(f"{self.prefix}/{array.group}/{GROUP}", [group_metadata({})])
            self.objects.put_new(f"{self.prefix}/{array.name}/{SPEC}", [checksummed(array.canonical())])
            self.objects.put_new(f"{self.prefix}/{array.name}/{GROUP}", [array_metadata(array, self.layout)])
            self.arrays[array.name] = array
        self.summarise()

    def summarise(self) -> None:
        """Write to the summary what is on disk; writers that do so at the same time end with the same summary."""
        for _ in range(10):  # another writer may have replaced it since, so the result is compared again
            self.refresh()
            if not update_summary(self.objects, self.prefix, {"arrays": array_entries(self.arrays, self.seals)}):
                return

    # -- state ------------------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Read again which arrays, commits and seals there are."""
        self.commits: dict[str, Commit] = read_commits(self.objects, self.prefix, self.digest)
        self.seals: dict[str, Seal] = read_seals(self.objects, self.prefix, self.digest)
        self.arrays: dict[str, ArraySpec] = {name: seal.array for name, seal in self.seals.items()}
        for group in self.objects.children(self.prefix):
            if "." in group or group in (COMMITS, SEALS):
                continue
            for name in self.objects.children(f"{self.prefix}/{group}"):
                address = f"{group}/{name}"
                if name == GROUP or address in self.arrays:
                    continue
                # None also while another writer is adding it.
                record = read_checksummed(read_if_present(self.objects, f"{self.prefix}/{address}/{SPEC}"))
                array = parse(ArraySpec, record)
                if array is not None and array.name == address:
                    self.arrays[address] = array

    def committed(self, array: str) -> frozenset[int]:
        """Return the numbers of the committed ranges of an array: all of them once it is sealed."""
        if array in self.seals:
            return frozenset(range(self.layout.n_ranges))
        return frozenset(commit.range for commit in self.commits.values() if array in commit.objects)

    def sealed(self, array: str) -> bool:
        """Return whether an array is complete and read-only."""
        return array in self.seals

    @property
    def content(self) -> dict[str, str]:
        """Content digest of every sealed array, by address."""
        return {name: seal.content for name, seal in sorted(self.seals.items())}

    @property
    def stored(self) -> dict[str, str]:
        """Stored digest of every sealed array, by address."""
        return {name: seal.stored for name, seal in sorted(self.seals.items())}

    @property
    def n_bytes(self) -> int:
        """Size of all sealed objects, in bytes."""
        return sum(seal.n_bytes for seal in self.seals.values())

    # -- reading ----------------------------------------------------------------------------------------------

    def address(self, name: str) -> str:
        """Return the full address of an array; raises MissingError, which lists the arrays of the set."""
        full = name if "/" in name else f"tokens/{name}"
        if full not in self.arrays:
            known = ", ".join(sorted(self.arrays)) or "none yet"
            raise MissingError(f"set {self.digest[:12]} has no array {name}: it has {known}")
        return full

    def __getitem__(self, name: str) -> ZarrArray:
        full = self.address(name)
        return ZarrArray(
            self.objects,
            f"{self.prefix}/{full}",
            self.arrays[full],
            self.layout,
            self.committed(full),
            self.executor,
        )

    def __contains__(self, name: str) -> bool:
        return (name if "/" in name else f"tokens/{name}") in self.arrays

    def __repr__(self) -> str:
        return (
            f"<{self.spec.kind} {self.digest[:12]}: {self.layout.n_rows} rows, {len(self.arrays)} arrays, "
            f"{len(self.seals)} sealed>"
        )

    def table(self, name: str) -> pd.DataFrame:
        """Return one of the set's tables, such as ``samples`` or ``classes``.

        Raises MissingError when there is none of this name, and DamageError when it cannot be read.
        """
        key = f"{self.prefix}/{name}.parquet"
        n_rows = self.layout.n_rows if name == "samples" else None
        return read_table(self.objects.read(key), f"{self.objects.url}/{key}", n_rows)

    @property
    def samples(self) -> pd.DataFrame:
        """The sample table: one line for each row of the arrays, in the same order."""
        return self.table("samples")

    @property
    def compute(self) -> dict[str, Any]:
        """The compute record: device kind, batch, compute dtype, versions."""
        return self._checked(COMPUTE)

    @property
    def provenance(self) -> dict[str, Any]:
        """Facts for people: command, licence, library versions, date."""
        return self._checked(PROVENANCE)

    def _checked(self, name: str) -> dict[str, Any]:
        record = read_checksummed(self.objects.read(f"{self.prefix}/{name}"))
        if record is None:
            raise DamageError(f"{self.objects.url}/{self.prefix}/{name} is torn or edited: run `patchbank verify`")
        return record

    def stored_digest(self) -> str:
        """Return one digest of the whole set: its records, tables and the bytes of every sealed array.

        Provenance is left out: date and machine may differ between equal sets.
        """
        created = self._checked(CREATED)
        if "set" not in created or "files" not in created:
            raise DamageError(f"{self.objects.url}/{self.prefix}/{CREATED} lists no files: run `patchbank verify`")
        records = {"set": created["set"], "files": created["files"]}
        return digest({"records": records, "compute": self.compute, "arrays": self.stored})
