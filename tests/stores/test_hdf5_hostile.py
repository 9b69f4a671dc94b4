"""A file from somebody who means harm: refused in one sentence, before the store is touched."""

import h5py
import numpy as np
import pytest

from stores import HDF5Set, Store
from stores.canonical import checksummed, read_checksummed
from stores.errors import DamageError, MissingError, PatchbankError, UserError
from stores.hdf5.exporting import export_set
from stores.hdf5.importing import import_set
from tests.stores.sealed_sets import stored, tokens

ARRAY = "tokens/block.0"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return export_set(stored(folder / "here", [tokens(0), tokens(1)]), folder / "set.h5").path.read_bytes()


@pytest.fixture
def file(tmp_path, whole):
    path = tmp_path / "set.h5"
    path.write_bytes(whole)
    return path


def refused(file, kind, match):
    for read in (HDF5Set, lambda path: import_set(HDF5Set(path), Store(file.parent / "there"))):
        with pytest.raises(kind, match=match) as error:
            read(file)
        assert "\n" not in str(error.value)
        assert str(file) in str(error.value)
    assert not (file.parent / "there").exists()


def resigned(plain, change):
    """Change the manifest and give it a checksum that fits."""
    record = read_checksummed(plain["patchbank/manifest.json"][:].tobytes())
    change(record)
    replaced(plain, "patchbank/manifest.json", data=np.frombuffer(checksummed(record), np.uint8))


def replaced(plain, name, **how):
    del plain[name]
    plain.create_dataset(name, **how)


def external_link(plain):
    with h5py.File(plain.filename + ".other", "w") as other:
        other["secret"] = np.zeros((10, 4, 6), np.float16)
    del plain[ARRAY]
    plain[ARRAY] = h5py.ExternalLink(plain.filename + ".other", "/secret")


def soft_link(plain):
    del plain[ARRAY]
    plain[ARRAY] = h5py.SoftLink("/tokens/block.1")


def soft_linked_group(plain):
    plain.move("tokens", "elsewhere")
    plain["tokens"] = h5py.SoftLink("/elsewhere")


def soft_linked_record(plain):
    plain.move("patchbank/spec.json", "patchbank/other")
    plain["patchbank/spec.json"] = h5py.SoftLink("/patchbank/other")


def same_dataset_twice(plain):
    del plain[ARRAY]
    plain[ARRAY] = plain["tokens/block.1"]


def external_storage(plain):
    (path := plain.filename + ".raw").encode()
    np.zeros((10, 4, 6), np.float16).tofile(path)
    replaced(plain, ARRAY, shape=(10, 4, 6), dtype="<f2", external=[(path, 0, 480)])


def virtual(plain):
    layout = h5py.VirtualLayout((10, 4, 6), "<f2")
    layout[:] = h5py.VirtualSource(plain.filename + ".other", "secret", (10, 4, 6))
    del plain[ARRAY]
    plain.create_virtual_dataset(ARRAY, layout)


def objects(plain):
    replaced(plain, ARRAY, shape=(10, 4, 6), dtype=h5py.string_dtype())


def references(plain):
    replaced(plain, ARRAY, shape=(10, 4, 6), dtype=h5py.ref_dtype)


def compound(plain):
    replaced(plain, ARRAY, shape=(10, 4, 6), dtype=[("a", "<f2")])


def big_endian(plain):
    replaced(plain, ARRAY, data=np.zeros((10, 4, 6), ">f2"))


def wider(plain):
    replaced(plain, ARRAY, data=np.zeros((10, 4, 6), "<f8"))


def longer(plain):
    replaced(plain, ARRAY, data=np.zeros((11, 4, 6), "<f2"))


def empty(plain):
    replaced(plain, ARRAY, shape=(10, 4, 6), dtype="<f2", chunks=(4, 4, 6))


def scalar(plain):
    replaced(plain, ARRAY, data=np.float16(1))


def named_type(plain):
    del plain[ARRAY]
    plain[ARRAY] = np.dtype("<f2")


def group_instead(plain):
    del plain[ARRAY]
    plain.create_group(ARRAY)


def foreign_filter(plain):
    replaced(plain, ARRAY, data=np.zeros((10, 4, 6), "<f2"), chunks=(4, 4, 6), compression="lzf")


def gone(plain):
    del plain[ARRAY]


def something_else(plain):
    plain["tokens/block.9"] = np.zeros(3)


def another_group(plain):
    plain.create_group("elsewhere")


def edited_manifest(plain):
    data = plain["patchbank/manifest.json"][:]
    data[20] ^= 1
    plain["patchbank/manifest.json"][:] = data


def edited_table(plain):
    data = plain["patchbank/samples.parquet"][:]
    data[20] ^= 1
    plain["patchbank/samples.parquet"][:] = data


def endless_record(plain):
    replaced(plain, "patchbank/provenance.json", shape=(1 << 50,), dtype=np.uint8)


def unallocated_record(plain):
    replaced(plain, "patchbank/provenance.json", shape=(1 << 20,), dtype=np.uint8)


def record_of_records(plain):
    replaced(plain, "patchbank/layout.json", data=np.zeros((2, 2), np.uint8))


def escaping_name(plain):
    def change(record):
        record["arrays"]["../../evil"] = record["arrays"].pop(ARRAY)
        record["arrays"]["../../evil"]["spec"]["name"] = "../../evil"

    resigned(plain, change)


def confused_name(plain):
    resigned(plain, lambda record: record["arrays"].update({ARRAY: record["arrays"]["tokens/block.1"]}))


def escaping_table(plain):
    def change(record):
        record["files"]["../evil.parquet"] = record["files"]["samples.parquet"]

    resigned(plain, change)


def array_among_records(plain):
    def change(record):
        record["arrays"]["patchbank/x"] = record["arrays"].pop(ARRAY)
        record["arrays"]["patchbank/x"]["spec"]["name"] = "patchbank/x"

    plain.move(ARRAY, "patchbank/x")
    resigned(plain, change)


def another_set(plain):
    resigned(plain, lambda record: record.update(set="0" * 64))


def unknown_key(plain):
    resigned(plain, lambda record: record.update(run="rm -rf"))


def unknown_kind(plain):
    resigned(plain, lambda record: record.update(kind="pickles"))


def huge_spec(plain):
    resigned(plain, lambda record: record["arrays"][ARRAY]["spec"].update(row_shape=[1 << 40, 6]))


def escaping_note(plain):
    resigned(plain, lambda record: record.update(notes={"../../evil": {"features": record["set"]}}))


def lying_note(plain):
    resigned(plain, lambda record: record.update(notes={"0" * 64: {"features": "../../evil"}}))


def odd_ranges(plain):
    import hashlib

    record = read_checksummed(plain["patchbank/layout.json"][:].tobytes())
    data = checksummed({**record, "range_rows": (1 << 60) + 1})
    replaced(plain, "patchbank/layout.json", data=np.frombuffer(data, np.uint8))
    resigned(plain, lambda record: record["files"].update({"layout.json": hashlib.sha256(data).hexdigest()}))


STRUCTURE = [
    external_link,
    soft_link,
    soft_linked_group,
    soft_linked_record,
    external_storage,
    virtual,
    objects,
    references,
    compound,
    big_endian,
    wider,
    longer,
    empty,
    scalar,
    named_type,
    group_instead,
    foreign_filter,
    gone,
    something_else,
    another_group,
    edited_manifest,
    endless_record,
    unallocated_record,
    record_of_records,
    escaping_name,
    confused_name,
    escaping_table,
    array_among_records,
    another_set,
    unknown_key,
    unknown_kind,
    huge_spec,
    escaping_note,
    lying_note,
    odd_ranges,
]


@pytest.mark.parametrize("change", STRUCTURE, ids=lambda change: change.__name__)
def test_a_changed_structure_is_refused(file, change):
    with h5py.File(file, "r+") as plain:
        change(plain)
    refused(file, DamageError, "get the file again")


@pytest.mark.parametrize("change", [edited_table, same_dataset_twice], ids=lambda change: change.__name__)
def test_changed_bytes_are_refused_when_they_are_read(file, change):
    with h5py.File(file, "r+") as plain:
        change(plain)
    with HDF5Set(file) as source, pytest.raises(DamageError, match="get the file again"):
        import_set(source, Store(file.parent / "there"))
    assert not (file.parent / "there").exists()


def test_newer_formats_ask_for_a_newer_patchbank(file):
    with h5py.File(file, "r+") as plain:
        plain.attrs["patchbank_format"] = 3
    refused(file, UserError, "exchange format 3 .* install a newer patchbank")


def test_other_files_are_named(tmp_path, file, whole):
    refused_file = tmp_path / "photo.h5"
    refused_file.write_bytes(b"JPEG")
    refused(refused_file, UserError, "is not an HDF5 file")
    refused_file.unlink()
    refused(refused_file, MissingError, "there is no file")
    with h5py.File(refused_file, "w") as plain:
        plain["features"] = np.zeros(3)
    refused(refused_file, UserError, "of another program")
    file.write_bytes(whole[: len(whole) // 2])
    refused(file, DamageError, "cannot be read")


def test_a_sample_table_of_another_length_is_refused(tmp_path):
    from tests.stores.sealed_sets import tile_table

    made = stored(tmp_path / "here", [tokens(0)], tables={"samples": tile_table(7)})
    path = export_set(made, tmp_path / "set.h5").path
    with HDF5Set(path) as source, pytest.raises(DamageError, match="has 7 lines and its arrays 10 rows"):
        import_set(source, Store(tmp_path / "there"))
    assert not (tmp_path / "there").exists()


def test_any_flipped_byte_gives_a_sentence_or_the_same_set(file, whole):
    """Not every byte of an HDF5 file means something; those that do are missed by nobody."""
    with HDF5Set(file) as source:
        content, tables = source.content, source.samples
    rng = np.random.default_rng(0)
    noticed = 0
    for position in rng.integers(0, len(whole), 12):
        file.write_bytes(
            whole[:position] + bytes([whole[position] ^ (1 << int(rng.integers(8)))]) + whole[position + 1 :]
        )
        there = file.parent / f"there{position}"
        try:
            with HDF5Set(file) as source:
                done = import_set(source, Store(there))
        except PatchbankError:
            noticed += 1
            assert not there.exists()
        else:
            assert done.set.content == content
            assert done.set.samples.equals(tables)
    assert noticed >= 2
