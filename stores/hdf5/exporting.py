"""Exporting a set, or some of its arrays, to one HDF5 file with a card beside it."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from stores.canonical import checksummed, read_checksummed, sha256_hex
from stores.errors import DamageError, MissingError, UserError
from stores.format.content import ContentDigest
from stores.format.layout import Layout
from stores.format.paths import COPIED, CREATED
from stores.hdf5.atomic import need_space, new_file, refuse_existing, reserve
from stores.hdf5.card import card_path, card_text
from stores.hdf5.records import (
    EXCHANGE_FORMAT,
    FORMAT_ATTRIBUTE,
    MANIFEST,
    RECORDS,
    Exported,
    ExportedArray,
    Manifest,
    Original,
)
from stores.maintenance.checked import checked
from stores.sets import ZarrSet
from stores.specs import ArraySpec, FeatureSpec
from stores.store import notes_of

CHUNK_BYTES = 1 << 20
"""Size of the largest chunk in the file, in bytes: HDF5 caches as much, so that reading row by row is fast."""


def choose_arrays(
    stored_set: ZarrSet, layers: Iterable[int] | None = None, arrays: Iterable[str] | None = None
) -> list[str]:
    """Return the addresses of the chosen sealed arrays, all sealed ones by default.

    ``layers`` chooses every array of these blocks, counted from 0, negative ones from the last of the set, sealed or
    not; ``arrays`` chooses arrays by name. Raises UserError or MissingError when one does not exist or is not sealed.
    """
    if arrays is not None and layers is not None:
        raise UserError("layers and arrays cannot be combined: give one of them")
    if arrays is not None:
        return _all_sealed(stored_set, {stored_set.address(name) for name in arrays})
    if layers is not None:
        return _of_layers(stored_set, layers)
    sealed = sorted(stored_set.seals)
    # The label set of data without pixel labels has tables only; a feature set always has arrays.
    if not sealed and (stored_set.arrays or isinstance(stored_set.spec, FeatureSpec)):
        raise UserError(f"set {stored_set.digest[:12]} has no complete array: run `patchbank extract` first")
    return sealed


def _all_sealed(stored_set: ZarrSet, names: Iterable[str]) -> list[str]:
    """Return the addresses, sorted; raises UserError when one of these arrays is not sealed."""
    chosen = sorted(names)
    unsealed = [name for name in chosen if not stored_set.sealed(name)]
    if unsealed:
        raise UserError(
            f"array {unsealed[0]} of set {stored_set.digest[:12]} is not complete: run `patchbank extract` first"
        )
    return chosen


def _of_layers(stored_set: ZarrSet, layers: Iterable[int]) -> list[str]:
    """Return the addresses of all arrays of some layers; raises an error when one is not there or not sealed."""
    layer_of = {name: array.layer for name, array in stored_set.arrays.items() if array.layer is not None}
    # A layer that is not sealed, or whose records are lost, still counts, so that -1 never means another one.
    lost = stored_set.lost_layers
    numbers = sorted({*layer_of.values(), *lost})
    wanted = {numbers[layer] if -len(numbers) <= layer < 0 else layer for layer in layers}
    if not wanted or wanted - set(numbers):
        raise MissingError(
            f"set {stored_set.digest[:12]} has no array of layer "
            f"{', '.join(map(str, sorted(wanted - set(numbers)))) or '(none named)'}: it has the layers "
            f"{', '.join(map(str, numbers)) or 'none'}"
        )
    if wanted & lost:
        raise MissingError(
            f"the records of layer {min(wanted & lost)} of set {stored_set.digest[:12]} are lost: run `patchbank "
            "repair` first"
        )
    return _all_sealed(stored_set, [name for name, layer in layer_of.items() if layer in wanted])


def export_set(
    stored_set: ZarrSet,
    path: Path,
    arrays: Iterable[str] | None = None,
    dtype: str | None = None,
) -> Exported:
    """Write the records, tables and chosen sealed arrays to a new file, and its card beside it.

    Raises UserError when one of the two exists, the disk is too small or a value does not fit, and DamageError when
    the store's bytes are not what was sealed. After an error neither file exists.

    Args:
        stored_set: The set.
        path: The new file.
        arrays: Names of its arrays; all sealed ones by default.
        dtype: ``float16`` or ``float32`` converts floating-point arrays. Such a file is for reading: `import_set`
            refuses it.
    """
    stored_set = checked(stored_set)
    names = choose_arrays(stored_set, arrays=arrays)
    path = path.expanduser()
    card = card_path(path)
    refuse_existing(path)
    refuse_existing(card)
    written = {name: _target(stored_set.arrays[name], dtype) for name in names}
    needed = _size_of_records(stored_set)
    needed += sum(_size_in_file(stored_set.layout, spec) for spec in written.values())
    need_space(path.absolute().parent, needed)
    with new_file(card) as partial_card:
        with new_file(path) as partial:
            # The HDF5 library can abort the process when the disk fills up, so the blocks are allocated first: before
            # it opens the file, where an error is raised cleanly, and again because opening the file frees them.
            reserve(partial, needed)
            with h5py.File(partial, "w", locking=False) as file:
                reserve(file.id.get_vfd_handle(), needed)
                entries = {name: _write_array(file, stored_set, name, spec) for name, spec in written.items()}
                _write_records(file, stored_set, entries)
                file.flush()
                size = file.id.get_filesize()
            os.truncate(partial, size)
        exported = Exported(path, card, entries, path.stat().st_size)
        partial_card.write_text(card_text(stored_set, exported), encoding="utf-8")
    return exported


def converted(rows: np.ndarray, dtype: str, what: str) -> np.ndarray:
    """Return rows in another dtype; raises UserError when a finite value does not fit."""
    if rows.dtype == np.dtype(dtype):
        return rows
    with np.errstate(over="ignore"):
        cast = rows.astype(dtype)
    if not np.array_equal(np.isfinite(rows), np.isfinite(cast)):
        raise UserError(f"{what} has values beyond the largest {dtype}: choose --dtype float32")
    return cast


def _target(array: ArraySpec, dtype: str | None) -> ArraySpec:
    if dtype is None or not array.dtype.startswith("float"):
        return array
    if dtype not in ("float16", "float32"):
        raise UserError(f"--dtype {dtype!r} is neither float16 nor float32")
    return ArraySpec.model_validate({**array.canonical(), "dtype": dtype}, strict=False)


def _write_array(file: h5py.File, stored_set: ZarrSet, name: str, array: ArraySpec) -> ExportedArray:
    source, layout, seal = stored_set[name], stored_set.layout, stored_set.seals[name]
    group, _, child = name.partition("/")
    packed: dict[str, Any] = {} if array.dtype.startswith("float") else {"compression": "gzip", "compression_opts": 1}
    dataset = file.require_group(group).create_dataset(
        child,
        shape=(layout.n_rows, *array.row_shape),
        dtype=np.dtype(array.dtype).newbyteorder("<"),
        chunks=(_chunk_rows(layout, array), *array.row_shape),
        fletcher32=True,  # HDF5's own checksum, by which any reader notices damage
        **packed,
    )
    read = ContentDigest(layout, seal.array)
    content = read if array == seal.array else ContentDigest(layout, array)
    # Whole ranges, so that no chunk of the file is written twice.
    for row_range in layout.ranges():
        rows = source[row_range.start : row_range.stop]
        read.update(rows)
        rows = np.ascontiguousarray(converted(rows, array.dtype, f"array {name} of set {stored_set.digest[:12]}"))
        if content is not read:
            content.update(rows)
        dataset[row_range.start : row_range.stop] = rows
    if read.hexdigest() != seal.content:
        where = f"array {name} of {stored_set.objects.url}/{stored_set.prefix}"
        raise DamageError(f"{where} is not what was sealed: run `patchbank verify`, then `patchbank repair`")
    original = None if array == seal.array else Original(dtype=seal.array.dtype, content=seal.content)
    entry = ExportedArray(spec=array, content=content.hexdigest(), original=original)
    for index, axis in enumerate(array.dimension_names):
        dataset.dims[index].label = axis
    facts = {**array.attributes, "content_sha256": entry.content}
    if original is not None:
        facts |= {"original_dtype": original.dtype, "original_content_sha256": original.content}
    for key, value in facts.items():
        if value is not None:
            dataset.attrs[key] = np.bytes_(value.encode()) if isinstance(value, str) else value
    return entry


def _write_records(file: h5py.File, stored_set: ZarrSet, arrays: dict[str, ExportedArray]) -> None:
    objects, prefix = stored_set.objects, stored_set.prefix
    created = read_checksummed(objects.read(f"{prefix}/{CREATED}"))
    if created is None:
        raise DamageError(f"{objects.url}/{prefix}/{CREATED} is torn or edited: run `patchbank verify`")
    tables = sorted(name for name in created["files"] if name.endswith(".parquet"))
    group = file.create_group(RECORDS)
    sums = {}
    for name in (*COPIED, *tables):
        data = objects.read(f"{prefix}/{name}")
        sums[name] = sha256_hex(data)
        if created["files"].get(name, sums[name]) != sums[name]:
            raise DamageError(f"{objects.url}/{prefix}/{name} is not what was written: run `patchbank verify`")
        group.create_dataset(name, data=np.frombuffer(data, np.uint8))
    manifest = Manifest(
        kind=stored_set.spec.kind,
        set=stored_set.digest,
        files=sums,
        arrays=arrays,
        notes=notes_of(objects, stored_set.digest),
    )
    group.create_dataset(MANIFEST, data=np.frombuffer(checksummed(manifest.canonical()), np.uint8))
    file.attrs[FORMAT_ATTRIBUTE] = np.int64(EXCHANGE_FORMAT)
    file.attrs["patchbank_set"] = np.bytes_(stored_set.digest)
    file.attrs["patchbank_kind"] = np.bytes_(stored_set.spec.kind)


def _size_of_records(stored_set: ZarrSet) -> int:
    objects, prefix = stored_set.objects, stored_set.prefix
    names = [name for name in objects.children(prefix) if name.endswith((".json", ".parquet"))]
    return sum(objects.size(f"{prefix}/{name}") or 0 for name in names) + (256 << 10)


def _size_in_file(layout: Layout, array: ArraySpec) -> int:
    """Return the largest size of an array in the file, in bytes, with HDF5's own data about its chunks."""
    chunk_rows = _chunk_rows(layout, array)
    n_chunks = -(-layout.n_rows // chunk_rows)
    return n_chunks * (chunk_rows * array.row_bytes * 1001 // 1000 + 256) + (64 << 10)


def _chunk_rows(layout: Layout, array: ArraySpec) -> int:
    return min(layout.chunk_rows(array, CHUNK_BYTES), layout.n_rows)
