"""Files of somebody who means harm, through the command line: one sentence, exit code 2 or 3, no traceback."""

import io
import json
import os
import zipfile

import numpy as np
import pytest
from numcodecs import Zstd
from PIL import Image

import cli
from evaluate.results.files import read_arrays, write_file
from evaluate.results.table import COLUMNS, Result, ResultKey, ResultStore, long_table
from pipeline.datasets.dota import Dota
from pipeline.datasets.reading.files import first_duplicate
from pipeline.datasets.reading.images import read_image
from stores import Store
from stores.canonical import checksummed
from stores.errors import DamageError, UserError
from stores.format.chunks import crc32c, decode_chunk
from stores.format.layout import Layout
from stores.format.tables import read_table
from stores.specs import ArraySpec
from stores.storage.local import LocalObjects
from tests.stores.sealed_sets import stored, tokens


def run(monkeypatch, capsys, *words):
    """Return exit code and standard error of a command."""
    monkeypatch.setattr("sys.argv", ["patchbank", *map(str, words)])
    with pytest.raises(SystemExit) as leaving:
        cli.main()
    return leaving.value.code, capsys.readouterr().err


def refused(monkeypatch, capsys, code, match, *words):
    import re

    left, said = run(monkeypatch, capsys, *words)
    assert left == code, said
    assert said.startswith("error: "), said
    assert said.count("\n") == 1, said
    assert said.rstrip("\n").isprintable()
    assert re.search(match, said), said


# -- experiment files -------------------------------------------------------------------------------------------------

GOOD = """
[dataset]
name = "folder"
[frame]
input = 32
[[models]]
name = "vit_tiny_patch16_224"
weights = "random"
"""


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (GOOD.replace("32", "65537"), "frame.input"),
        (GOOD.replace("32", "-1"), "frame.input"),
        (GOOD.replace("32", '"32"'), "frame.input"),
        (GOOD.replace("32", "nan"), "frame.input"),
        (GOOD + "[features]\nlayers = 1000000000", "features.layers"),
        (GOOD + "[features]\nlayers = [1.5]", "features.layers"),
        (GOOD + "[features]\nlayers = []", "features.layers"),
        (GOOD + "[storage]\nrange_megabytes = inf", "storage.range_megabytes"),
        (GOOD + "[frame]\ninput = 32", "not readable as TOML"),
        (GOOD + "x = " + "[" * 100_000, "not readable as TOML"),
        (GOOD + "x = " + "9" * 10_000, "not readable as TOML"),
        (GOOD + "#" * (1 << 20), "larger than 1024 KiB"),
        (GOOD + '"a\\nb\\u001b[2J" = 1', r"a b\\x1b\[2J is not a known key"),
        (GOOD.encode() + b'x = "\xff"', "not readable as TOML"),
        (GOOD.encode("utf-16"), "not readable as TOML"),
        (b"\0" * 100, "not readable as TOML"),
    ],
    ids=lambda value: str(value)[:30] if isinstance(value, str) and len(value) < 40 else "file",
)
def test_experiment_files(tmp_path, monkeypatch, capsys, text, match):
    path = tmp_path / "experiment.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    refused(monkeypatch, capsys, 2, match, "plan", path, "--store", tmp_path / "store", "--data", tmp_path)


def test_a_device_is_no_experiment(monkeypatch, capsys):
    refused(monkeypatch, capsys, 2, "no experiment file|not readable|not a file", "plan", "/dev/zero")


# -- images and annotations -------------------------------------------------------------------------------------------


def png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def test_a_wrong_suffix_is_read_by_its_content(tmp_path):
    pixels = np.arange(300).astype(np.uint8).reshape(10, 10, 3)
    (tmp_path / "a.jpg").write_bytes(png(pixels))
    np.testing.assert_array_equal(read_image(tmp_path / "a.jpg"), pixels)


def test_formats_that_run_programs_are_not_opened(tmp_path):
    """Pillow hands EPS to Ghostscript."""
    (tmp_path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")
    with pytest.raises(UserError, match=r"a\.png cannot be read as an image"):
        read_image(tmp_path / "a.png")


def test_dimensions_that_only_a_header_claims_are_refused(tmp_path):
    import struct
    import zlib

    body = b"IHDR" + struct.pack(">IIBBBBB", 1 << 30, 1 << 30, 8, 2, 0, 0, 0)
    claims = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))
    with pytest.raises(UserError, match=r"decompression bomb|cannot be read"):
        read_image(claims, "a.png")


def test_many_boxes_take_time_in_proportion(tmp_path):
    from pipeline.datasets.contract import Source

    label = tmp_path / "a.txt"
    label.write_text("1 1 9 1 9 9 1 9 plane 0\r\n" * 20_000)
    assert len(Dota(tmp_path).objects(Source("a.png", tmp_path, label, "all", "all"))) == 20_000
    names = [str(number) for number in range(300_000)]
    assert first_duplicate(names) is None
    assert first_duplicate([*names, "7"]) == "7"


# -- stores -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def made(tmp_path):
    return stored(tmp_path / "store", [tokens(0)])


def folder(made):
    return made.objects.path(made.prefix)


@pytest.mark.parametrize("name", ["spec.json", "samples.parquet", "tokens/block.0/c.0.0.0", "provenance.json"])
@pytest.mark.parametrize("command", ["show", "verify"])
def test_links_out_of_a_store_are_not_followed(tmp_path, made, monkeypatch, capsys, name, command):
    secret = tmp_path / "secret"
    secret.write_bytes((folder(made) / name).read_bytes())
    (folder(made) / name).unlink()
    (folder(made) / name).symlink_to(secret)
    if command == "show" and name in ("samples.parquet", "tokens/block.0/c.0.0.0"):
        with pytest.raises(UserError, match="leads out of the store"):
            Store(tmp_path / "store").open(made.digest).table("samples")["x"] if "samples" in name else made["block.0"][
                0
            ]
        return
    where = [made.digest] if command == "show" else []
    refused(monkeypatch, capsys, 2, "leads out of the store", command, *where, "--store", tmp_path / "store")


def test_a_store_that_is_a_link_itself_is_read(tmp_path, made):
    (tmp_path / "link").symlink_to(tmp_path / "store")
    assert Store(tmp_path / "link").open(made.digest)["block.0"][0].shape == (4, 6)


def test_pipes_and_devices_are_not_read(tmp_path, made):
    (folder(made) / "spec.json").unlink()
    os.mkfifo(folder(made) / "spec.json")
    with pytest.raises(UserError, match="a device or a pipe"):
        Store(tmp_path / "store").open(made.digest)


@pytest.mark.parametrize("key", ["../x", "a/../../x", "/etc/passwd", "a\0b"])
def test_names_that_leave_the_store(tmp_path, key):
    with pytest.raises(UserError, match="remove the record that names it"):
        LocalObjects(tmp_path).read(key)


@pytest.mark.parametrize("length", [True, False], ids=["length told", "length hidden"])
def test_a_chunk_that_unpacks_to_more_than_its_rows(length):
    array, rows = tokens(0), Layout(n_rows=8, range_rows=4, compression="zstd")
    payload = bytes(Zstd().encode(bytes(50_000_000)))
    if not length:  # a frame header without a content size: the decoder cannot know before
        blocks = [(last | 1 << 1 | 131_072 << 3).to_bytes(3, "little") + b"\0" for last in (*[0] * 400, 1)]
        payload = b"\x28\xb5\x2f\xfd\x00\x58" + b"".join(blocks)
    with pytest.raises(DamageError, match=r"does not decompress|bytes of rows instead"):
        decode_chunk(payload + crc32c(payload).to_bytes(4, "little"), array, rows, "c.0.0.0")


def _read(made):
    opened = Store(made.objects.root).open(made.digest)
    opened.table("samples")
    return opened["block.0"][0]


@pytest.mark.parametrize(
    "change",
    [
        {"n_rows": 1 << 60, "range_rows": 1},
        {"n_rows": 1 << 60, "range_rows": (1 << 59) + 1},
        {"n_rows": 11},
        {"n_rows": -1},
        {"range_rows": 0},
    ],
    ids=str,
)
def test_layouts_that_lie(made, change):
    record = checksummed({**made.layout.canonical(), **change})
    (folder(made) / "layout.json").write_bytes(record)
    with pytest.raises((DamageError, UserError), match=r"damaged records|declares chunks|instead of"):
        _read(made)


@pytest.mark.parametrize("text", ["[" * 200_000, '{"a":' * 200_000, "9" * 10_000, '{"kind": {}}', "null", '{"kind":1}'])
def test_specs_that_are_none(tmp_path, made, monkeypatch, capsys, text):
    (folder(made) / "spec.json").write_text(text)
    refused(monkeypatch, capsys, 3, "is not readable", "show", made.digest, "--store", tmp_path / "store")


def test_rows_of_absurd_size_are_no_array():
    with pytest.raises(ValueError, match="more than 1073741824"):
        ArraySpec(name="tokens/a", row_shape=(1 << 40,), dtype="float32", dimension_names=("sample", "channel"))


def test_tables_that_are_none():
    for data in (b"", b"PAR1", b"PAR1" + bytes(100) + b"PAR1"):
        with pytest.raises(DamageError, match="not readable as Parquet"):
            read_table(data)


# -- results ----------------------------------------------------------------------------------------------------------

SCRIPT = "<script>alert(1)</script>"


SUBJECT = {"title": "a", "name": "a", "role": "mae", "data_set": "a", "frame": {"input": {"height": 8, "width": 8}}}
SUBJECT |= {"width": 8}


def evaluated(root, model=SCRIPT, about=None, digest=None, **more):
    """Write what `report` reads."""
    asked = ResultKey("patch-classification", 1, {}, {"features": "0" * 64})
    results = ResultStore(root)
    row = {
        "analysis": "patch-classification",
        "metric": "patch_miou",
        "classifier": "knn",
        "value": 0.5,
        "model": model,
    }
    row |= {"m": 0, "k": 1, "x_name": "layer", "x_value": 0.0, "train": SCRIPT, "array": SCRIPT, "class": SCRIPT}
    results.write(asked, Result([row], {"a": np.zeros(3)}))
    results.write_experiment("tiny", long_table([row]))
    about = about if about is not None else [{SCRIPT: SCRIPT, "data set": SCRIPT}]
    note = {"about": about, "answers": [[model, digest or asked.digest]], **more}
    write_file(root / "tiny" / "report.json", json.dumps(note).encode())
    return results.folder(asked)


@pytest.mark.parametrize("model", [SCRIPT, "$\\frac{$", "a\x1b[2Jb", '"><img src=x onerror=alert(1)>'])
def test_reports_escape_what_they_show(tmp_path, monkeypatch, capsys, model):
    from evaluate.report.writing import rewrite_report

    evaluated(tmp_path, model)
    page = rewrite_report(ResultStore(tmp_path), "tiny").read_text()
    assert "<script>alert" not in page
    assert "<img" not in page


def npz(header_shape=(3,), size=24, compression=zipfile.ZIP_DEFLATED):
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "<f8", "fortran_order": False, "shape": header_shape})
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as packed:
        packed.writestr("a.npy", head.getvalue() + bytes(size))
    return buffer.getvalue()


def pickled():
    buffer = io.BytesIO()
    np.savez(buffer, a=np.array([print], object), allow_pickle=True)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("file", "data"),
    [
        ("arrays.npz", b"nonsense"),
        ("arrays.npz", pickled()),
        ("arrays.npz", npz((1 << 50,))),
        ("arrays.npz", npz((-1,))),
        ("arrays.npz", npz()[:-30]),
        ("rows.parquet", b"nonsense"),
        ("rows.parquet", b""),
    ],
    ids=["nonsense", "pickle", "absurd shape", "negative shape", "cut", "no parquet", "empty"],
)
def test_answers_that_are_none(tmp_path, monkeypatch, capsys, file, data):
    folder = evaluated(tmp_path)
    (folder / file).write_bytes(data)
    refused(monkeypatch, capsys, 2, r"no file of plain arrays|no table", "report", "tiny", "--results", tmp_path)


def test_arrays_are_read_as_they_were_written(tmp_path):
    arrays = {"a": np.arange(6.0).reshape(2, 3), "b": np.asfortranarray(np.arange(6).reshape(2, 3)), "c": np.float32(2)}
    np.savez_compressed(tmp_path / "a.npz", **arrays)
    for name, values in read_arrays(tmp_path / "a.npz").items():
        np.testing.assert_array_equal(values, arrays[name])
        assert values.dtype == np.asarray(arrays[name]).dtype


def test_a_zip_bomb_is_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr("evaluate.results.files.MOST_BYTES", 1 << 24)  # packing the true bound takes seconds
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as packed, packed.open("a.npy", "w") as stream:
        stream.write(bytes((1 << 24) + 1))
    with pytest.raises(UserError, match="unpacks to more than"):
        read_arrays(tmp_path / "a.npz")


@pytest.mark.parametrize(
    ("how", "match"),
    [
        ({"digest": "../../secret"}, "no name of a result"),
        ({"digest": "0" * 64}, "is gone|holds no evaluated"),
        ({"about": [{"model": "a"}]}, "does not describe"),
        ({"about": [{"data set": "a"}, {"data set": "a", "b": "c"}]}, "does not describe"),
        ({"models": [{"title": 1}]}, "is not readable"),
        ({"models": [SUBJECT | {"role": SCRIPT}]}, "there is no role"),
        ({"models": [SUBJECT | {"sets": {"features": "../../secret"}}]}, "no digests"),
        ({"beside": ["../secret"]}, "no name of an experiment"),
    ],
    ids=["path", "absent", "no data set", "uneven", "no model", "no role", "a path for a set", "another folder"],
)
def test_notes_that_lie(tmp_path, monkeypatch, capsys, how, match):
    evaluated(tmp_path, **how)
    refused(monkeypatch, capsys, 2, match, "report", "tiny", "--results", tmp_path)


@pytest.mark.parametrize("text", ["[" * 200_000, "[]", "null", "9" * 10_000, '{"answers": 1, "about": []}'])
def test_notes_that_are_none(tmp_path, monkeypatch, capsys, text):
    evaluated(tmp_path)
    (tmp_path / "tiny" / "report.json").write_text(text)
    refused(monkeypatch, capsys, 2, "is not readable", "report", "tiny", "--results", tmp_path)


def test_a_table_without_its_columns_is_refused(tmp_path, monkeypatch, capsys):
    evaluated(tmp_path)
    table = long_table([]).drop(columns=list(COLUMNS)[3:])
    table.to_parquet(tmp_path / "tiny" / "results.parquet")
    refused(monkeypatch, capsys, 2, "no table of results", "report", "tiny", "--results", tmp_path)
