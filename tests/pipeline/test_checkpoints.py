"""Files that are not trusted: what is left out, what is refused, and that refusing costs no memory."""

import collections
import json
import os
import pathlib
import struct
import tracemalloc
import zipfile
from argparse import Namespace

import numpy as np
import psutil
import pytest
import torch

from pipeline.models.loading.checkpoints import HARMLESS, read_file
from pipeline.models.loading.wrappings import choose_weights, read_checkpoint
from pipeline.recipe import ModelRecipe
from stores.errors import UserError
from tests.pipeline.official_files import config_node, write

WEIGHTS = {"w": torch.arange(6.0).view(2, 3), "b": torch.ones(2, dtype=torch.float16)}


def weights_in(path, own=WEIGHTS, **settings):
    recipe = ModelRecipe(name="test_vit", weights=str(path), **settings)
    return choose_weights(read_checkpoint(path), recipe, own).weights


class Trap:
    """What a hostile file holds: something to run when it is unpickled."""

    def __reduce__(self):
        return (os.mkdir, ("trap-was-sprung",))


class Innocent:
    def __init__(self):
        self.value = 1


@pytest.mark.parametrize("legacy", [False, True])
def test_harmless_objects_are_left_out(tmp_path, legacy, monkeypatch):
    content = {
        "model": WEIGHTS,
        "args": Namespace(lr=0.1, inner=Namespace(deep=[1, 2])),
        "config": config_node(),
        "best": np.float64(0.5),
        "seen": np.int64(7),
        "dtype": np.dtype("float32"),
        "output_dir": pathlib.Path("out"),
        "scheduler": {"last_epoch": 3, "milestones": collections.Counter({2: 1})},
    }
    if legacy:
        save = torch.save
        monkeypatch.setattr(torch, "save", lambda *a: save(*a, _use_new_zipfile_serialization=False))
    write(content, tmp_path / "c.pth")
    loaded = weights_in(tmp_path / "c.pth")
    assert loaded.keys() == WEIGHTS.keys()
    assert all(torch.equal(loaded[key], value) for key, value in WEIGHTS.items())


def test_stand_ins_import_nothing():
    """No name of the list leads to the real type, so nothing of a package runs."""
    assert all(kind.__module__ == "pipeline.models.loading.checkpoints" for kind in HARMLESS.values())


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ({"model": Trap()}, r"type \w+\.mkdir"),
        ({"model": WEIGHTS, "ema": Innocent()}, r"type \S*test_checkpoints\.Innocent"),
        ({"model": WEIGHTS, "model_object": torch.nn.Linear(2, 2)}, r"type torch\.nn\.modules\.linear\.Linear"),
        ({"model": WEIGHTS, "list": [np.ones(2)]}, r"type numpy\.\S*_reconstruct"),
    ],
)
def test_everything_else_is_refused_by_its_name(tmp_path, monkeypatch, content, named):
    monkeypatch.chdir(tmp_path)
    torch.save(content, tmp_path / "c.pth")
    with pytest.raises(UserError, match=f"({named}).*could run code.*safetensors"):
        read_file(tmp_path / "c.pth")
    assert not (tmp_path / "trap-was-sprung").exists()


def repacked(source, target, change=lambda name, data: data, **options):
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", **options) as new:
        for entry in old.infolist():
            new.writestr(entry.filename, change(entry.filename, old.read(entry)))


def refused_cheaply(path, match):
    """Neither Python nor torch takes memory for what the file claims."""
    process = psutil.Process()
    before = process.memory_info().rss
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match=match):
            read_file(path)
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()
    assert process.memory_info().rss - before < 60_000_000


def test_a_compressed_zip_is_refused(tmp_path):
    torch.save({"w": torch.zeros(25_000_000)}, tmp_path / "plain.pth")
    repacked(tmp_path / "plain.pth", tmp_path / "bomb.pth", compression=zipfile.ZIP_DEFLATED)
    (tmp_path / "plain.pth").unlink()
    assert (tmp_path / "bomb.pth").stat().st_size < 1_000_000
    refused_cheaply(tmp_path / "bomb.pth", "torch never writes.*is compressed")


def test_overlapping_entries_are_refused(tmp_path):
    """One stored megabyte, listed forty times."""
    torch.save({"w": torch.zeros(250_000)}, tmp_path / "plain.pth")
    with zipfile.ZipFile(tmp_path / "plain.pth") as archive:
        entry = next(one for one in archive.infolist() if one.filename.endswith("data/0"))
    with zipfile.ZipFile(tmp_path / "plain.pth", "a") as archive:
        for number in range(40):
            twin = zipfile.ZipInfo(entry.filename[:-1] + str(number + 1))
            for field in ("header_offset", "file_size", "compress_size", "CRC"):
                setattr(twin, field, getattr(entry, field))
            archive.filelist.append(twin)
            archive.NameToInfo[twin.filename] = twin
        archive._didModify = True
    refused_cheaply(tmp_path / "plain.pth", "its entries claim")


@pytest.mark.parametrize("stride", [b"K\x01", b"K\x00"], ids=["dense", "expanded"])
def test_tensors_that_claim_too_much_are_refused(tmp_path, stride):
    """Sixteen bytes that call themselves two gigabytes: by a larger storage, or by a stride of zero."""
    torch.save({"w": torch.arange(4.0)}, tmp_path / "plain.pth")

    def lie(name, data):
        if not name.endswith("data.pkl"):
            return data
        huge = b"J\x00\x00\x00\x20"
        changed = data.replace(b"K\x04\x85", huge + b"\x85").replace(b"K\x01\x85", stride + b"\x85")
        if stride == b"K\x01":
            changed = changed.replace(b"K\x04tq", huge + b"tq")
        assert changed != data
        return changed

    repacked(tmp_path / "plain.pth", tmp_path / "lie.pth", lie)
    refused_cheaply(tmp_path / "lie.pth", "its tensor w claims 2,147,483,648 bytes")


def test_an_old_file_that_claims_too_much_is_refused(tmp_path):
    torch.save({"w": torch.arange(4.0)}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    data = (tmp_path / "old.pth").read_bytes()
    changed = data.replace(b"K\x04N", b"J\x00\x00\x00\x20N").replace(b"K\x04\x85", b"J\x00\x00\x00\x20\x85")
    assert changed != data
    (tmp_path / "old.pth").write_bytes(changed)
    refused_cheaply(tmp_path / "old.pth", "not a readable")


@pytest.mark.parametrize(
    "header",
    [
        {"w": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}},
        {"w": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 16]}},
        {"w": {"dtype": "F32", "shape": [4], "data_offsets": [0, 1 << 42]}},
    ],
)
def test_a_lying_safetensors_header_is_refused(tmp_path, header):
    text = json.dumps(header).encode()
    (tmp_path / "lie.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + bytes(16))
    refused_cheaply(tmp_path / "lie.safetensors", "not a readable safetensors")
    (tmp_path / "lie.safetensors").write_bytes(struct.pack("<Q", 1 << 50) + text)
    refused_cheaply(tmp_path / "lie.safetensors", "not a readable safetensors")


def test_shared_storages_count_once(tmp_path):
    """Tied weights and views of one tensor are no lie."""
    big = torch.arange(1000.0)
    torch.save({"a": big, "b": big, "c": big[10:20]}, tmp_path / "tied.pth")
    loaded = weights_in(tmp_path / "tied.pth")
    assert torch.equal(loaded["c"], big[10:20])
