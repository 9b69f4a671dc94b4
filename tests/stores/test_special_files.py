"""Pipes, sockets, folders, long names and huge numbers where files and records should be: one sentence, no waiting."""

import contextlib
import errno
import io
import os
import socket
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.parquet
import pytest

from evaluate.results.files import read_arrays, read_parquet
from evaluate.results.runs import append_run
from pipeline.datasets.reading.images import image_size, read_image, read_label_map
from stores import Store
from stores.canonical import checksummed, read_checksummed
from stores.errors import DamageError, MissingError, PatchbankError, UserError
from stores.format import tables
from stores.format.tables import read_table
from stores.storage.local import LocalObjects
from stores.storage.regular_files import open_file, read_file
from tests.stores.sealed_sets import stored, tokens


def pipe(path):
    os.mkfifo(path)


def local_socket(path):
    made = socket.socket(socket.AF_UNIX)
    here = Path.cwd()
    os.chdir(path.parent)  # the name of a socket has a hundred bytes at most
    try:
        made.bind(path.name)
    finally:
        os.chdir(here)
        made.close()


def device(path):
    path.symlink_to("/dev/zero")


@pytest.fixture(autouse=True)
def no_waiting():
    """Fail, instead of waiting for ever, where a pipe is opened as if it were a file."""
    timer = threading.Timer(20, os._exit, [70])
    timer.start()
    yield
    timer.cancel()


@pytest.mark.parametrize("special", [pipe, local_socket, device])
def test_special_files_are_refused_in_one_sentence(tmp_path, special):
    path = tmp_path / "x.png"
    special(path)
    for read in (read_file, open_file, read_image, image_size, read_label_map, read_parquet, read_arrays):
        with pytest.raises(UserError, match=r"x\.png (is a .* and not a file|cannot be read \(it is not a file\))"):
            read(path)
    if special is not device:
        objects = LocalObjects(tmp_path)
        for read in (objects.read, lambda key: objects.read_into(key, [memoryview(bytearray(4))], print)):
            with pytest.raises(UserError, match="and not a file"):
                read("x.png")
        assert objects.size("x.png") == 0
        with pytest.raises(UserError, match="cannot write"):
            append_run(path, {})


def test_a_folder_in_the_place_of_an_object_is_no_object(tmp_path):
    (tmp_path / "x").mkdir()
    objects = LocalObjects(tmp_path)
    for read in (objects.read, lambda key: objects.read_into(key, [memoryview(bytearray(4))], print)):
        with pytest.raises(MissingError):
            read("x")


@pytest.mark.parametrize("special", [pipe, local_socket, lambda path: path.mkdir(), lambda path: None])
def test_a_special_chunk_ends_every_way_of_reading(tmp_path, special):
    made = stored(tmp_path / "store", [tokens(0)])
    chunk = made.objects.root / made.prefix / "tokens/block.0/c.0.0.0"
    chunk.unlink()
    special(chunk)
    for rows in (0, slice(None)):
        with pytest.raises(PatchbankError) as refused:
            made["block.0"][rows]
        assert "\n" not in str(refused.value)


def test_names_that_no_file_system_takes(tmp_path):
    objects = LocalObjects(tmp_path)
    for use in (
        objects.read,
        objects.size,
        objects.stamp,
        objects.children,
        lambda key: objects.put(key, [b"x"]),
        lambda key: objects.put_new(key, [b"x"]),
        objects.delete,
    ):
        for key in ("a" * 256, f"{'a' * 300}/b"):
            with pytest.raises(UserError, match="longer than the 255 bytes"):
                use(key)
        with pytest.raises(UserError, match="remove the record"):
            use("a\0b")
    with pytest.raises(UserError):
        Store(tmp_path / ("a" * 300)).open("ab")
    with pytest.raises(UserError):
        Store(f"{tmp_path}/a\0b").open("ab")


def test_links_in_a_circle(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    for use in (LocalObjects(tmp_path).read, LocalObjects(tmp_path).size):
        with pytest.raises(UserError) as refused:
            use("a")
        assert "circle" in str(refused.value) or "leads out" in str(refused.value)


@pytest.mark.parametrize("number", [10**20, 2**63, 2**31, -1, 0])
def test_records_with_huge_numbers(tmp_path, number):
    made = stored(tmp_path / "store", [tokens(0)], unsealed=["tokens/block.0"])
    folder = made.objects.root / made.prefix
    for path, keys in (
        (folder / "layout.json", ("n_rows", "range_rows")),
        (next(folder.glob("commits/*.json")), ("range", "start", "stop")),
    ):
        kept = path.read_bytes()
        for key in keys:
            path.write_bytes(checksummed({**read_checksummed(kept), key: number}))
            with contextlib.suppress(PatchbankError):  # or it is read, and nothing else is raised
                Store(tmp_path / "store").open(made.digest)["block.0"][0]
        path.write_bytes(kept)


def test_a_small_table_that_unpacks_to_gigabytes(monkeypatch):
    packed = io.BytesIO()
    texts = pyarrow.DictionaryArray.from_arrays(pyarrow.array(np.zeros(1_000_000, np.int32)), ["x" * 10_000])
    pyarrow.parquet.write_table(pyarrow.table({"image": texts}), packed, compression="zstd")
    assert len(packed.getvalue()) < 10_000
    with pytest.raises(DamageError, match="bytes of text"):
        read_table(packed.getvalue())
    packed = io.BytesIO()
    many = pyarrow.ListArray.from_arrays([0, 1 << 20], pyarrow.array(np.zeros(1 << 20, np.int8)))
    pyarrow.parquet.write_table(pyarrow.table({"image": many}), packed)
    monkeypatch.setattr(tables, "MOST_CELLS", 1 << 19)
    with pytest.raises(DamageError, match=r"1048576 cells"):
        read_table(packed.getvalue())


def test_texts_that_repeat_are_read_as_they_were(monkeypatch):
    monkeypatch.setattr(tables, "MOST_TEXT_BYTES", 100_000)  # so that texts are measured before they are decoded
    table = pd.DataFrame({"source": ["a" * 64] * 500, "row": range(500), "name": [f"é{row}" for row in range(500)]})
    pd.testing.assert_frame_equal(read_table(tables.table_bytes(table)), table)


def test_shortage_of_memory_is_not_called_damage(monkeypatch):
    def full(*arguments, **options):
        raise MemoryError("malloc of size 1 failed")

    monkeypatch.setattr(pyarrow.parquet, "read_table", full)
    with pytest.raises(UserError, match="not enough memory"):
        read_table(tables.table_bytes(pd.DataFrame({"a": [1]})))
    assert issubclass(pyarrow.ArrowMemoryError, MemoryError)
    assert errno.ENOMEM


def test_a_record_larger_than_any_is_not_read(tmp_path):
    for name, size in (("seal.json", 257 << 20), ("chunk", 5 << 30)):
        with (tmp_path / name).open("wb") as file:
            file.truncate(size)
        with pytest.raises(UserError, match=f"{name} has {size} bytes, more than"):
            LocalObjects(tmp_path).read(name)
