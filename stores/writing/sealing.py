"""Sealing: compare every chunk of a complete array with its commit records and write its seal."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

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
    for name, found in recorded.items():
        outcomes[name] = _seal_array(stored_set, stored_set.arrays[name], found, wrong[name], refuse_dead)
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


def _seal_array(
    stored_set: ZarrSet, array: ArraySpec, recorded: _Recorded, wrong: set[int], refuse_dead: bool
) -> SealOutcome:
    """Seal an array whose ranges are all committed, unless a chunk is not what was committed."""
    layout, read_back = stored_set.layout, read_back_of(stored_set)
    damaged = {layout.range_of_chunk(number, array) for number in wrong}
    damaged |= recorded.conflicting()
    if damaged:
        return _take_back(stored_set, array.name, damaged)
    dead = read_back.dead[array.name].channels
    if refuse_dead and dead:
        return SealOutcome(dead=dead)
    metadata = _write_metadata(stored_set, array)
    _delete_partial_files(stored_set, array.name)
    objects, prefix = stored_set.objects, stored_set.prefix
    table = ChunkTable.joined([recorded.tables[number][0] for number in range(layout.n_ranges)])
    contents = [min(recorded.contents[number]) for number in range(layout.n_ranges)]
    sealed = Seal(
        set=stored_set.digest,
        array=array,
        content=array_content(contents),
        ranges=packed(contents),
        metadata=metadata,
        chunks=table.text,
        dead=dead,
    )
    write_seal(objects, prefix, sealed)
    damaged = _replaced_since(stored_set, array, table)
    if damaged:
        list_unsealed(objects, prefix, {array.name: array})
        objects.delete(f"{prefix}/{seal_path(array.name)}")
        objects.sync(f"{prefix}/{SEALS}")
        return _take_back(stored_set, array.name, damaged)
    return SealOutcome()


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


def _replaced_since(stored_set: ZarrSet, array: ArraySpec, table: ChunkTable) -> set[int]:
    """Return the ranges with a chunk that another writer has replaced with other bytes since it was read.

    A writer that looked for commits and seals before this seal was there may have published its chunk only now.
    """
    damaged = set()
    read_back = read_back_of(stored_set)
    for number in range(len(table)):
        key = read_back.key(array, number)
        replaced = stored_set.objects.stamp(key) != read_back.stamp(array, number)
        if replaced and not is_stored(stored_set.objects, key, table.at(number)):
            damaged.add(stored_set.layout.range_of_chunk(number, array))
    return damaged


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
    for file_name in replaced:
        stored_set.objects.delete(f"{stored_set.prefix}/{COMMITS}/{file_name}")
