"""Sealing: compare every chunk of a complete array with its commit records and write its seal."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Bool

from stores.canonical import checksummed
from stores.errors import UserError
from stores.format.chunk_table import ChunkTable, StoredObject
from stores.format.chunks import array_metadata
from stores.format.commits import Seal, packed, read_commits, remove_commit, write_seal
from stores.format.content import array_content
from stores.format.paths import COMMITS, GROUP, SEALS, SPEC, seal_path
from stores.format.records import record_bytes, replace
from stores.format.summary import list_unsealed
from stores.sets import ZarrSet
from stores.specs import ArraySpec, FeatureSpec
from stores.storage.base import PARTIAL
from stores.writing.conflicts import is_stored
from stores.writing.dead_channels import describe_channels
from stores.writing.read_back import read_back_of


@dataclass(frozen=True)
class SealOutcome:
    """The outcome of sealing one array: it is sealed where all three are empty, and unsealed otherwise."""

    missing: tuple[int, ...] = ()
    """Ranges that are not committed."""
    damaged: tuple[int, ...] = ()
    """Ranges whose stored bytes differ from their commit records, which were removed: the ranges are missing again."""
    dead: tuple[int, ...] = ()
    """Dead channels, for which the array was refused."""


def seal(stored_set: ZarrSet, arrays: Iterable[str], *, refuse_dead: bool = False) -> dict[str, list[int]]:
    """Seal every array whose ranges are all committed; return the ranges that are missing, by array.

    Every chunk is read back and compared with its commit record, those of ranges that this process wrote while it
    computed the next ones. Where one differs (bytes of two writers mixed, a
    disk that lost what it acknowledged) the commit records of that range are removed, so that the next extraction
    makes it again. With ``refuse_dead`` an array with dead features is not sealed, and UserError is raised once the
    others are.
    """
    stored_set.refresh()
    names = [name for name in sorted(arrays) if not stored_set.sealed(name)]
    n_ranges = stored_set.layout.n_ranges
    missing = {name: sorted(set(range(n_ranges)) - stored_set.committed(name)) for name in names}
    outcomes = {name: SealOutcome(missing=tuple(ranges)) for name, ranges in missing.items() if ranges}
    complete = [stored_set.arrays[name] for name in names if not missing[name]]
    recorded = {array.name: _Recorded(stored_set, array) for array in complete}
    read_back = read_back_of(stored_set)
    wrong = read_back.wrong_chunks(complete, lambda array, number: recorded[array.name].chunk(number))
    at_once = stored_set.objects.at_once()
    for first in range(0, len(complete), at_once):
        some = [_Sealing(stored_set, array, recorded[array.name]) for array in complete[first : first + at_once]]
        outcomes |= _seal_together(stored_set, some, wrong, refuse_dead)
    stored_set.refresh()
    _remove_replaced_commits(stored_set)
    stored_set.summarise()
    dead = {name: outcome.dead for name, outcome in outcomes.items() if outcome.dead}
    if dead:
        _raise_dead(stored_set, dead, read_back.valid)
    absent = {name: list(outcome.missing or outcome.damaged) for name, outcome in outcomes.items()}
    return {name: ranges for name, ranges in absent.items() if ranges}


def _raise_dead(stored_set: ZarrSet, dead: Mapping[str, tuple[int, ...]], valid: Bool[np.ndarray, " sample"]) -> None:
    first = min(dead, key=lambda name: (stored_set.arrays[name].layer or 0, name))
    channels = describe_channels(dead[first], stored_set.arrays[first].row_shape[-1])
    sample = stored_set.samples["sample"].iloc[int(valid.argmax())]
    more = f" ({len(dead) - 1} more arrays have some)" if len(dead) > 1 else ""
    model = stored_set.spec.model.name if isinstance(stored_set.spec, FeatureSpec) else stored_set.digest[:12]
    raise UserError(
        f"{model}, {first} has {channels}, the same in all {int(valid.sum())} valid samples as in {sample}{more}: "
        'check weights and images, or set dead_features = "count" in [features] to keep the array as it is'
    )


class _Recorded:
    """What the commit records of a complete array say: two tables of a range that two writers committed."""

    def __init__(self, stored_set: ZarrSet, array: ArraySpec) -> None:
        self.layout, self.array = stored_set.layout, array
        self.tables: dict[int, list[ChunkTable]] = {}
        self.contents: dict[int, set[str]] = {}
        for commit in stored_set.commits.values():
            committed = commit.arrays.get(array.name)
            if committed is not None:
                self.tables.setdefault(commit.range, []).append(committed.table)
                self.contents.setdefault(commit.range, set()).add(committed.content)

    def chunk(self, number: int) -> list[StoredObject]:
        """Return the records of one chunk; none where a record lists too few chunks."""
        tables = self.tables[self.layout.range_of_chunk(number, self.array)]
        found = [table for table in tables if 0 <= number - table.first < len(table)]
        return [table.at(number) for table in found] if len(found) == len(tables) else []

    def conflicting(self) -> set[int]:
        """Return the ranges whose records differ."""
        lines = {number: {table.text for table in tables} for number, tables in self.tables.items()}
        return {number for number, texts in lines.items() if len(texts) > 1 or len(self.contents[number]) > 1}


@dataclass
class _Sealing:
    """One complete array on its way to a seal."""

    target: ZarrSet
    array: ArraySpec
    recorded: _Recorded
    table: ChunkTable | None = None
    """Of the seal, once that is written."""

    def refusal(self, wrong: set[int], refuse_dead: bool) -> SealOutcome | None:
        """Return why the array is not sealed, after removing the commit records of its damaged ranges."""
        damaged = {self.target.layout.range_of_chunk(number, self.array) for number in wrong}
        damaged |= self.recorded.conflicting()
        if damaged:
            return _take_back(self.target, self.array.name, damaged)
        dead = read_back_of(self.target).dead[self.array.name].channels
        return SealOutcome(dead=dead) if refuse_dead and dead else None

    def write(self) -> None:
        """Write the seal of what was committed."""
        metadata = _write_metadata(self.target, self.array)
        _delete_partial_files(self.target, self.array.name)
        n_ranges = self.target.layout.n_ranges
        self.table = ChunkTable.joined([self.recorded.tables[number][0] for number in range(n_ranges)])
        contents = [min(self.recorded.contents[number]) for number in range(n_ranges)]
        sealed = Seal(
            set=self.target.digest,
            array=self.array,
            content=array_content(contents),
            ranges=packed(contents),
            metadata=metadata,
            chunks=self.table.text,
            dead=read_back_of(self.target).dead[self.array.name].channels,
        )
        write_seal(self.target.objects, self.target.prefix, sealed)

    def is_replaced(self, number: int) -> bool:
        """Return whether another writer has replaced a chunk with other bytes since it was read.

        A writer that looked for commits and seals before this seal was there may have published its chunk only now.
        """
        assert self.table is not None
        read_back, objects = read_back_of(self.target), self.target.objects
        key = read_back.key(self.array, number)
        replaced = objects.stamp(key) != read_back.stamp(self.array, number)
        return replaced and not is_stored(objects, key, self.table.at(number))

    def take_back_seal(self, damaged: set[int]) -> SealOutcome:
        """Remove the seal, and the commit records of the damaged ranges."""
        objects, prefix, name = self.target.objects, self.target.prefix, self.array.name
        list_unsealed(objects, prefix, {name: self.array})
        objects.delete(f"{prefix}/{seal_path(name)}")
        objects.sync(f"{prefix}/{SEALS}")
        return _take_back(self.target, name, damaged)


def _seal_together(
    stored_set: ZarrSet, some: list[_Sealing], wrong: Mapping[str, set[int]], refuse_dead: bool
) -> dict[str, SealOutcome]:
    """Seal arrays whose ranges are all committed, unless a chunk is not what was committed; return the outcomes."""
    objects = stored_set.objects
    refusals = {one.array.name: one.refusal(wrong[one.array.name], refuse_dead) for one in some}
    outcomes = {name: refusal for name, refusal in refusals.items() if refusal is not None}
    sound = [one for one in some if one.array.name not in outcomes]
    for _ in objects.together(one.write for one in sound):
        pass
    chunks = [(one, number) for one in sound for number in range(len(one.table or ()))]
    damaged: dict[str, set[int]] = {}
    replaced = objects.together(partial(one.is_replaced, number) for one, number in chunks)
    for (one, number), is_replaced in zip(chunks, replaced, strict=True):
        if is_replaced:
            damaged.setdefault(one.array.name, set()).add(stored_set.layout.range_of_chunk(number, one.array))
    for one in sound:
        name = one.array.name
        outcomes[name] = one.take_back_seal(damaged[name]) if name in damaged else SealOutcome()
    return outcomes


def _write_metadata(stored_set: ZarrSet, array: ArraySpec) -> dict[str, StoredObject]:
    """Write an array's ``zarr.json`` and ``spec.json`` where they are missing or differ from its record."""
    written = {}
    records = {GROUP: array_metadata(array, stored_set.layout), SPEC: checksummed(array.canonical())}
    for name, expected in records.items():
        key = f"{stored_set.prefix}/{array.name}/{name}"
        if record_bytes(stored_set.objects, key) != expected:
            replace(stored_set.objects, key, [expected])
        written[name] = StoredObject.of(expected)
    return written


def _delete_partial_files(stored_set: ZarrSet, name: str) -> None:
    folder = f"{stored_set.prefix}/{name}"
    for child in stored_set.objects.children(folder):
        if child.endswith(PARTIAL):
            stored_set.objects.delete(f"{folder}/{child}")


def _take_back(stored_set: ZarrSet, name: str, damaged: set[int]) -> SealOutcome:
    """Remove the commit records of the damaged ranges of an array, durably, so that they are missing again."""
    read_back_of(stored_set).forget(name)
    objects, prefix = stored_set.objects, stored_set.prefix
    seen = {one.arrays[name] for one in stored_set.commits.values() if one.range in damaged and name in one.arrays}
    # Read again: taking back another array of a record has given the rest of it a record of its own.
    for commit in read_commits(objects, prefix, stored_set.digest).values():
        if commit.range in damaged and commit.arrays.get(name) in seen:
            remove_commit(objects, prefix, commit, name)
    return SealOutcome(damaged=tuple(sorted(damaged)))


def _remove_replaced_commits(stored_set: ZarrSet) -> None:
    """Remove commit records whose arrays are all sealed, once those seals are durable."""
    replaced = [
        file_name
        for file_name, commit in stored_set.commits.items()
        if all(stored_set.sealed(name) for name in commit.arrays)
    ]
    if replaced:
        # Another process may have written the seals a moment ago: no record goes before they are durable.
        stored_set.objects.sync(f"{stored_set.prefix}/{SEALS}")
    keys = [f"{stored_set.prefix}/{COMMITS}/{file_name}" for file_name in replaced]
    for _ in stored_set.objects.together(partial(stored_set.objects.delete, key) for key in keys):
        pass
