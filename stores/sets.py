"""A set in a store: records, tables and arrays in one folder that is also a Zarr v3 hierarchy.

stores/README.md is the normative description of every file named here.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor
from typing import Any, Literal

import pandas as pd
from pydantic import ValidationError

from stores.arrays import ZarrArray
from stores.canonical import digest, read_checksummed, sha256_hex
from stores.errors import DamageError, MissingError, UserError, names_like
from stores.format.commits import Commit, Seal, read_commits, read_seals
from stores.format.creation import FirstLook, create_files, declare_arrays, list_together, read_declared
from stores.format.layout import MOST_RANGES, Layout
from stores.format.paths import COMMITS, COMPUTE, CREATED, LAYOUT, MACHINES, PROVENANCE, SEALS, SPEC
from stores.format.records import check_format
from stores.format.summary import (
    SealedDigests,
    SealsOnDemand,
    array_entries,
    layers_without_records,
    sealed_entries,
    update_summary,
)
from stores.format.tables import read_table, unreadable
from stores.notebook import ShownSet
from stores.specs import ArraySpec, FeatureSpec, LabelSpec
from stores.storage.base import Objects

KINDS: dict[str, type[FeatureSpec] | type[LabelSpec]] = {"features": FeatureSpec, "labels": LabelSpec}
"""Type of the record that names a set, by the kind of set."""


class ZarrSet(ShownSet):
    """A feature set or label set in a store.

    Opening reads the records, commits and seals once; `refresh` does it again. Arrays are read with
    ``set["block.11.norm"]`` (short for ``set["tokens/block.11.norm"]``) or by their full address,
    ``set["prefix/block.11"]``.

    Args:
        objects: Storage of the store.
        prefix: Folder of the set.
        executor: Reads chunks in parallel.
        from_summary: Open a set that is sealed from its summary alone, for reading; seals are read where they are used.
    """

    def __init__(
        self, objects: Objects, prefix: str, executor: Executor | None = None, *, from_summary: bool = False
    ) -> None:
        self.objects = objects
        self.prefix = prefix
        self.executor = executor
        self.commits: dict[str, Commit] = {}
        self.seals: Mapping[str, Seal] = {}
        self._entries: dict[str, Any] | None = None
        """Of a set that was opened from its summary."""
        first, where = FirstLook(objects, prefix, from_summary), f"{objects.url}/{prefix}"
        try:
            record = json.loads(first.read(SPEC))
            kind = KINDS[record["kind"]]
        except MissingError:
            raise MissingError(f"{where} holds no set (no {SPEC}): `patchbank ls` lists them") from None
        except UserError:
            raise  # an error of the disk is not damage; UserError is also a ValueError
        except (ValueError, KeyError, TypeError, RecursionError):
            raise DamageError(f"{where}/{SPEC} is not readable: run `patchbank verify`") from None
        check_format(record.get("format"), where)
        if not first.is_initialised():
            raise MissingError(f"{where} was started and holds nothing yet: `patchbank extract` completes it")
        try:
            self.spec: FeatureSpec | LabelSpec = kind.model_validate(record, strict=False)
            self.layout = Layout.model_validate(self._checked(LAYOUT, first.read), strict=False)
        except (ValidationError, MissingError) as error:
            raise DamageError(f"{where} has damaged records: run `patchbank verify`") from error
        if self.layout.n_ranges > MOST_RANGES:
            raise DamageError(f"{where} has damaged records ({self.layout.n_ranges} ranges): run `patchbank verify`")
        self.digest = prefix.rpartition("/")[2]
        if not self._named_by(self.spec):
            raise DamageError(f"{where}/{SPEC} does not have the digest in its folder's name: run `patchbank verify`")
        if not from_summary:
            self._refresh(first.names(COMMITS), first.names(""))
        elif not self._open_from_summary(first):
            self.refresh()

    def _named_by(self, spec: FeatureSpec | LabelSpec) -> bool:
        try:
            return spec.digest == self.digest
        except (ValueError, RecursionError):  # NaN, or text that is not Unicode: it has no digest
            return False

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
        create_files(objects, spec, layout, tables, compute, provenance)
        return cls(objects, f"{spec.kind}/{spec.digest}")

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
        entries = array_entries({array.name: array for array in new}, {})
        update_summary(self.objects, self.prefix, lambda before: {"arrays": entries | before["arrays"]})
        declare_arrays(self.objects, self.prefix, self.layout, new)
        self.arrays |= {array.name: array for array in new}
        self.summarise()

    def summarise(self) -> None:
        """Write to the summary what is on disk; writers that do so at the same time end with the same summary.

        Arrays that are listed and not on disk stay listed: they are being declared, or their records were lost.
        """
        seen: set[str] = set()

        def from_disk(before: dict[str, Any]) -> dict[str, Any]:
            self.refresh()
            seen.update(self.seals)
            lost = {
                name: entry
                for name, entry in before["arrays"].items()
                if name not in self.arrays or ("stored" in entry and name not in seen)
            }
            return {"arrays": array_entries(self.arrays, self.seals) | lost}

        update_summary(self.objects, self.prefix, from_disk)

    # -- state ------------------------------------------------------------------------------------------------

    def _open_from_summary(self, first: FirstLook) -> bool:
        """Take arrays and digests from the summary; return False where it does not say that all arrays are sealed."""
        if (entries := sealed_entries(first.summary, first.names(SEALS))) is None:
            return False
        self._entries, self.commits = entries, {}
        self.arrays = {name: ArraySpec.model_validate(entry["spec"], strict=False) for name, entry in entries.items()}
        self.seals = SealsOnDemand(self.objects, self.prefix, entries)
        return True

    def refresh(self) -> None:
        """Read again which arrays, commits and seals there are."""
        self._refresh(*list_together(self.objects, [f"{self.prefix}/{COMMITS}", self.prefix]))

    def _refresh(self, commits: Iterable[str], inside: Iterable[str]) -> None:
        """Read the state of a set in whose folders these names have just been listed."""
        objects, prefix = self.objects, self.prefix
        self.commits = read_commits(objects, prefix, self.digest, commits)
        groups = [name for name in inside if "." not in name and name not in (COMMITS, MACHINES, SEALS)]
        # Listed when the commit records are read, because those are removed once the seals are written.
        seals, *arrays = list_together(objects, [f"{prefix}/{folder}" for folder in (SEALS, *groups)])
        self.seals = read_seals(objects, prefix, self.digest, names=seals)
        self._entries = None
        self.arrays: dict[str, ArraySpec] = {name: seal.array for name, seal in self.seals.items()}
        addresses = [f"{group}/{name}" for group, names in zip(groups, arrays, strict=True) for name in names]
        self.arrays |= read_declared(objects, prefix, [one for one in addresses if one not in self.arrays])

    def committed(self, array: str) -> frozenset[int]:
        """Return the numbers of the committed ranges of an array: all of them once it is sealed."""
        if array in self.seals:
            return frozenset(range(self.layout.n_ranges))
        return frozenset(commit.range for commit in self.commits.values() if array in commit.arrays)

    def sealed(self, array: str) -> bool:
        """Return whether an array is complete and read-only."""
        return array in self.seals

    @property
    def content(self) -> dict[str, str]:
        """Content digest of every sealed array, by address; MissingError, with what to do, for any other."""
        return SealedDigests(self.objects, self.prefix, self._digests("content"))

    @property
    def lost_layers(self) -> frozenset[int]:
        """Layers of token arrays and means that the summary lists and whose own records are lost, counted from 0."""
        return layers_without_records(self.objects, self.prefix, self.arrays)

    @property
    def stored(self) -> dict[str, str]:
        """Stored digest of every sealed array, by address."""
        return self._digests("stored")

    def _digests(self, kind: Literal["content", "stored"]) -> dict[str, str]:
        if self._entries is not None:
            return {name: str(entry[kind]) for name, entry in self._entries.items()}
        return {name: getattr(seal, kind) for name, seal in sorted(self.seals.items())}

    @property
    def n_bytes(self) -> int:
        """Size of all sealed objects, in bytes."""
        return sum(entry["bytes"] for entry in (self._entries or array_entries({}, self.seals)).values())

    # -- reading ----------------------------------------------------------------------------------------------

    def address(self, name: str) -> str:
        """Return the full address of an array; raises MissingError, which names arrays of the set."""
        full = name if "/" in name else f"tokens/{name}"
        if full not in self.arrays:
            raise MissingError(f"set {self.digest[:12]} has no array {name}: it has {names_like(full, self.arrays)}")
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
        data = self.objects.read(key)
        try:
            return read_table(data, f"{self.objects.url}/{key}", n_rows)
        except DamageError as error:
            if self._checked(CREATED).get("files", {}).get(f"{name}.parquet") != sha256_hex(data):
                raise
            raise unreadable(f"{self.objects.url}/{key}", error) from error

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

    def _checked(self, name: str, read: Callable[[str], bytes] | None = None) -> dict[str, Any]:
        record = read_checksummed(read(name) if read else self.objects.read(f"{self.prefix}/{name}"))
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
