"""Importing an exported file into a store; every value is checked before the store is changed."""

import io
from dataclasses import dataclass, field

from stores.errors import DamageError, UserError
from stores.format.content import content_of
from stores.hdf5.reader import HDF5Set
from stores.sets import ZarrSet
from stores.specs import ArraySpec
from stores.store import Store
from stores.units import format_bytes
from stores.writing.sealing import seal
from stores.writing.writer import SetWriter

_BLOCK_BYTES = 64 << 20


@dataclass
class Imported:
    """Result of an import."""

    set: ZarrSet
    added: list[str] = field(default_factory=list)
    """Arrays that were written, by address."""
    there: list[str] = field(default_factory=list)
    """Arrays that the store already held, with equal content."""


def import_set(source: HDF5Set, store: Store, *, allow_mixed: bool = False) -> Imported:
    """Add the set and the arrays of a file that the store does not have, and seal them.

    Every array's content digest is compared before anything is written. Raises DamageError when one differs, and
    UserError when the file is for reading only, the store holds other values under the same name, or its set was
    computed on another kind of device, so that rounding may differ (``allow_mixed`` accepts that).
    """
    if source.reading_only:
        raise UserError(
            f"{source.path} was exported with another dtype than its set names, so it is for reading only: open it "
            "with stores.HDF5Set, or export it again without --dtype"
        )
    target = store.open(source.spec) if store.has(source.spec) else None
    there = [name for name in sorted(source.arrays) if target is not None and target.sealed(name)]
    missing = [name for name in sorted(source.arrays) if name not in there]
    if target is not None:
        _need_equal(source, target, there, missing, allow_mixed)
    else:
        _check_tables(source)
    for name in missing:
        _check_content(source, name)
    free = store.objects.free_bytes()
    needed = sum(source.layout.n_rows * source.arrays[name].row_bytes for name in missing)
    if free is not None and needed > free:
        raise UserError(
            f"{store.location} has {format_bytes(free)} free and {format_bytes(needed)} are needed: free some space or "
            "choose another --store"
        )
    if target is None:
        target = ZarrSet.create(
            store.objects,
            source.spec,
            source.layout,
            {name.removesuffix(".parquet"): source.file.record(name) for name in source.file.table_files},
            source.compute,
            source.provenance,
        )
    target.add_arrays([source.arrays[name] for name in missing])
    for name in missing:
        _write(source, target, name)
    unsealed = [name for name in sorted(source.arrays) if not target.sealed(name)]
    if unsealed:
        raise UserError(
            f"array {unsealed[0]} of {target.objects.url}/{target.prefix} is not sealed, because another command "
            "changed the set meanwhile: run the same import again"
        )
    # The sealed content must be what was read above.
    wrong = [name for name in source.arrays if _content(source, target, name) != source.content[name]]
    if wrong:
        raise DamageError(
            f"array {wrong[0]} changed while it was imported from {source.path}: run `patchbank verify`, then import "
            "again"
        )
    for key, note in source.file.manifest.notes.items():
        if source.digest in note.values():
            store.note(key, note)
    return Imported(target, missing, there)


def _check_tables(source: HDF5Set) -> None:
    """Raise DamageError when a table is not Parquet or the sample table has not one line for each row."""
    import pyarrow
    import pyarrow.parquet

    for name in source.file.table_files:
        try:
            lines = pyarrow.parquet.read_metadata(io.BytesIO(source.file.record(name))).num_rows
        except (pyarrow.ArrowException, OSError) as error:
            raise DamageError(f"{source.path}: {name} is not a Parquet table: get the file again") from error
        if name == "samples.parquet" and lines != source.layout.n_rows:
            raise DamageError(
                f"{source.path}: its sample table has {lines} lines and its arrays {source.layout.n_rows} rows: get "
                "the file again"
            )


def _check_content(source: HDF5Set, name: str) -> None:
    if content_of(source[name], source.layout) != source.content[name]:
        raise DamageError(
            f"array {name} in {source.path} holds other values than were exported (its content digest differs), so "
            "nothing was imported: get the file again"
        )


def _content(source: HDF5Set, target: ZarrSet, name: str) -> str:
    """Return the content digest of a stored array under the file's layout."""
    same = target.layout.chunk_rows(target.arrays[name]) == source.layout.chunk_rows(source.arrays[name])
    is_known = same and target.layout.range_rows == source.layout.range_rows
    return target.content[name] if is_known else content_of(target[name], source.layout)


def _need_equal(source: HDF5Set, target: ZarrSet, there: list[str], missing: list[str], allow_mixed: bool) -> None:
    """Raise an error when the store's set has other rows or values than the file's."""
    where = f"{target.objects.url}/{target.prefix}"
    if target.layout.n_rows != source.layout.n_rows:
        raise DamageError(
            f"{source.path} has {source.layout.n_rows} rows and {where} {target.layout.n_rows}: get the file again"
        )
    for name in there:
        if _content(source, target, name) != source.content[name]:
            raise UserError(
                f"{where} holds array {name} with other values (content {target.content[name][:12]}, in {source.path} "
                f"{source.content[name][:12]}): import the file into another --store"
            )
    file_device, store_device = source.compute.get("device"), target.compute.get("device")
    if missing and file_device != store_device and not allow_mixed:
        raise UserError(
            f"{where} was computed on {store_device} and {source.path} on {file_device}, whose rounding differs: "
            "import it into another --store, or give --allow-mixed to accept both in one set"
        )
    for name in missing:
        # Ranges that an unfinished extraction has committed are kept, so they must have the rows of the file.
        if name in target.arrays and _differs(source, target, target.arrays[name]):
            raise UserError(
                f"{where} holds a part of array {name} with other values than {source.path}: finish it with `patchbank "
                "extract`, or import the file into another --store"
            )


def _differs(source: HDF5Set, target: ZarrSet, array: ArraySpec) -> bool:
    if array != source.arrays[array.name]:
        return True
    stored, given = target[array.name], source[array.name]
    return any(
        stored[row_range.start : row_range.stop].tobytes() != given[row_range.start : row_range.stop].tobytes()
        for row_range in target.layout.ranges()
        if row_range.number in target.committed(array.name)
    )


def _write(source: HDF5Set, target: ZarrSet, name: str) -> None:
    array, given = target.arrays[name], source[name]
    step = max(1, _BLOCK_BYTES // array.row_bytes)
    done = target.committed(name)
    with SetWriter(target, [name], threads=2) as writer:
        for row_range in target.layout.ranges():
            if row_range.number in done:
                continue
            range_writer = writer.range(row_range)
            for start in range(row_range.start, row_range.stop, step):
                range_writer.write(name, given[start : min(start + step, row_range.stop)])
            range_writer.commit()
    writer.raise_failures()
    seal(target, [name])
