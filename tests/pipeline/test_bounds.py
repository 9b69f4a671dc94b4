"""Files of strangers are read or refused within bounded time and memory, in one sentence."""

import os
import shutil
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.dataset_recipe import DatasetRecipe
from pipeline.datasets import open_dataset
from pipeline.datasets.reading import rasterise
from pipeline.datasets.reading.files import read_text, require_file
from pipeline.datasets.reading.manifest_table import read_table
from pipeline.datasets.reading.outlines import checked_outline
from pipeline.datasets.reading.polygons import area
from pipeline.rows.samples import path_below
from stores.errors import UserError
from stores.specs import Size
from tests.pipeline import layouts


def painted_in_order(size, outlines, background):
    """Large outlines first and small ones over them, each alone on an empty map."""
    classes = np.full((size.height, size.width), background, np.uint8)
    for index in sorted(range(len(outlines)), key=lambda index: (-area(outlines[index][0]), index)):
        polygon, class_id = outlines[index]
        classes[rasterise.paint(size, [(polygon, 1)], 0) == 1] = class_id
    return classes


POINTS = st.tuples(st.sampled_from([0.0, 0.5, 3.25, 7.0, 11.5, 16.0, 21.75, 30.0]), st.floats(-4, 26))


@given(st.lists(st.tuples(st.lists(POINTS, min_size=3, max_size=6), st.integers(1, 9)), max_size=8), st.integers(1, 40))
@settings(max_examples=80, deadline=None)
def test_painting_from_the_top_gives_the_same_map(drawn, cells):
    size = Size(height=24, width=30)
    outlines = [(tuple(points), class_id) for points, class_id in drawn]
    expected = painted_in_order(size, outlines, 0)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(rasterise, "_CELLS_AT_ONCE", cells)  # slabs of single rows and edges
        made = rasterise.paint(size, outlines, 0)
    np.testing.assert_array_equal(made, expected)


@pytest.mark.timeout(60)
def test_ten_thousand_boxes_of_the_whole_image_take_no_time():
    size = Size(height=600, width=900)
    box = ((0.0, 0.0), (900.0, 0.0), (900.0, 600.0), (0.0, 600.0))
    almost = ((0.0, 0.0), (900.0, 0.0), (900.0, 599.0), (0.0, 599.0))
    before = time.perf_counter()
    assert (rasterise.paint(size, [(box, 1 + number % 9) for number in range(10_000)], 0) == 1).all()
    rasterise.paint(size, [(almost, 1 + number % 9) for number in range(10_000)], 0)
    assert time.perf_counter() - before < 20


def test_objects_that_cover_too_much_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(rasterise, "MOST_CELLS", 5_000)
    layouts.dota(tmp_path, "P1", *["0 0 39 0 39 29 0 29 ship 0", "0 0 40 0 40 30 0 30 ship 0"] * 9)
    dataset = open_dataset("dota", tmp_path)
    [source] = dataset.sources()
    assert (dataset.pixel_classes(source) == 7).all()  # what cannot be seen costs nothing
    stripes = [f"0 {top} 40 {top} 40 {top + 20.5} 0 {top + 21} ship 0" for top in np.arange(9)]
    layouts.dota(tmp_path, "P1", *stripes)
    with pytest.raises(UserError, match=r"labelTxt/P1\.txt cannot be painted .* cover more than 5,000 pixels in all"):
        dataset.pixel_classes(source)


def test_outlines_have_a_number_of_corners():
    corners = [(float(number % 877), float(number % 613)) for number in range(100_001)]
    with pytest.raises(UserError, match="here has 100,001 corners, more than 100,000"):
        checked_outline(corners, "here")
    tracemalloc.start()
    try:
        rasterise.paint(Size(height=613, width=877), [(tuple(corners[:20_000]), 1)], 0)
        assert tracemalloc.get_traced_memory()[1] < 300_000_000
    finally:
        tracemalloc.stop()


def manifest(path, table):
    pa.parquet.write_table(pa.table(table), path, store_schema=False)
    return path


def repeated(value, count):
    return pa.DictionaryArray.from_arrays(np.zeros(count, np.int32), [value])


@pytest.mark.timeout(60)
def test_parquet_manifests_claim_no_more_than_they_may(tmp_path):
    """Files of some kilobytes: a value repeated a million times, and more rows than a manifest may have."""
    long = manifest(tmp_path / "long.parquet", {"image": repeated("a" * 40_000, 100_000)})
    many = manifest(tmp_path / "many.parquet", {"image": repeated("a", 2_000_001)})
    assert max(path.stat().st_size for path in (long, many)) < 200_000
    tracemalloc.start()
    before = pa.total_allocated_bytes()
    try:
        with pytest.raises(UserError, match=r"long\.parquet, row 1, has more than 4096 characters in `image`"):
            read_table(long)
        with pytest.raises(UserError, match=r"many\.parquet lists 2,000,001 images, more than 2,000,000"):
            read_table(many)
        assert tracemalloc.get_traced_memory()[1] < 50_000_000
    finally:
        tracemalloc.stop()
    assert pa.total_allocated_bytes() - before < 50_000_000


def test_cells_of_parquet_are_read_as_those_of_csv(tmp_path):
    frame = pd.DataFrame(
        {
            "image": ["a.png", "b.png", "c.png"],
            "class": pd.Categorical(["x", None, "x"]),
            "frame": [1.0, np.nan, 3.0],
            "group": [4, 5, 6],
            "weights": [[1, 2], [3], []],
        }
    )
    frame.to_parquet(tmp_path / "m.parquet")
    frame.drop(columns="weights").to_csv(tmp_path / "m.csv", index=False)
    rows = read_table(tmp_path / "m.parquet").rows
    assert read_table(tmp_path / "m.parquet").columns == ("image", "class", "frame", "group", "weights")
    assert [row.cells["frame"] for row in rows] == ["1", "", "3"]
    assert [row.cells["class"] for row in rows] == ["x", "", "x"]
    assert [row.cells["group"] for row in rows] == ["4", "5", "6"]
    assert rows[2].where == f"{tmp_path}/m.parquet, row 3,"
    assert read_table(tmp_path / "m.csv").rows[2].where == f"{tmp_path}/m.csv, line 4,"


@pytest.mark.parametrize("cells", [[["a.png"], ["b.png"]], [{"x": 1}, {"x": 2}], [b"a.png", b"b.png"]])
def test_a_column_that_is_read_holds_one_value_a_row(tmp_path, cells):
    with pytest.raises(UserError, match=r"m\.parquet holds .* in the column `image`, where every row has one value"):
        read_table(manifest(tmp_path / "m.parquet", {"image": cells}))


@pytest.mark.parametrize("frame", ["9" * 20, "9" * 5000])
def test_frames_are_numbers_of_64_bits(tmp_path, frame):
    layouts.write_image(tmp_path / "a.png")
    layouts.write_text(tmp_path / "m.csv", "image,frame", f"a.png,{frame}")
    dataset = open_dataset("manifest", tmp_path, DatasetRecipe(name="manifest", file="m.csv"))
    with pytest.raises(UserError, match=r"m\.csv, line 2, has"):
        dataset.sources()
    if len(frame) < 200:
        layouts.write_image(tmp_path / "video" / "img1" / f"{frame}.jpg")
        with pytest.raises(UserError, match="has a frame number above"):
            open_dataset("mot", tmp_path).sources()


@pytest.mark.parametrize("name", ["a" * 300, "a" * 5000, "a\0"])
def test_names_that_no_file_has_are_refused_in_one_sentence(tmp_path, name):
    with pytest.raises(UserError, match=r"cannot be (read|followed)"):
        path_below(tmp_path, name)
    with pytest.raises(UserError, match=r"cannot be (read|followed)"):
        open_dataset("manifest", tmp_path, DatasetRecipe(name="manifest", file=name)).sources()
    if "\0" not in name:
        layouts.write_text(tmp_path / "train.txt", f"/x/train/{name} /x/trainannot/{name}")
        with pytest.raises(UserError, match=r"cannot be (read|followed)|is missing and listed in .*train\.txt, line 1"):
            open_dataset("camvid", tmp_path).sources()


def test_pipes_and_large_files_are_no_annotations(tmp_path):
    os.mkfifo(tmp_path / "pipe.txt")
    with pytest.raises(UserError, match=r"pipe\.txt cannot be read \(it is not a file\)"):
        read_text(tmp_path / "pipe.txt")
    (tmp_path / "large.txt").write_bytes(bytes(2 << 20))
    with pytest.raises(UserError, match=r"large\.txt has more than 1 MiB"):
        require_file(tmp_path / "large.txt", 1 << 20)


UNREADABLE = """
from pathlib import Path
from pipeline.datasets import open_dataset
from pipeline.dataset_recipe import DatasetRecipe
from pipeline.rows.samples import make_samples
from pipeline.rows.sources import FileDigests
from stores import Store
from stores.errors import UserError
from stores.specs import FrameSpec, Size
A = {"name": "a", "ids": (0,)}
frame = FrameSpec(input=Size(height=32, width=32))
for folder, dataset, locked in (
    ("m", {"name": "manifest", "file": "m.csv", "classes": [A]}, "m.csv"),
    ("m", {"name": "manifest", "file": "m.csv", "classes": [A]}, "0m.png"),
    ("m", {"name": "manifest", "file": "m.csv", "classes": [A]}, "0.png"),
    ("camvid", {"name": "camvid"}, "train.txt"),
    ("camvid", {"name": "camvid"}, "trainannot"),
    ("cityscapes", {"name": "cityscapes"}, "gtFine/val/fr"),
    ("cityscapes", {"name": "cityscapes"}, "leftImg8bit/val"),
):
    root = Path("data", folder)
    path = root / locked
    path.chmod(0)
    for bad_samples in ("stop", "keep-invalid"):
        try:
            read = open_dataset(dataset["name"], root, DatasetRecipe(**dataset, bad_samples=bad_samples))
            digests = FileDigests(Store("store"), root)
            make_samples(read, read.sources(), frame, digests, keep_invalid=bad_samples != "stop")
            print("read", locked)
        except UserError as error:
            print("refused", locked, locked in str(error))
    path.chmod(0o755)
"""


@pytest.mark.skipif(os.geteuid() == 0 and not shutil.which("setpriv"), reason="root reads every file")
def test_files_and_folders_that_may_not_be_read_are_named(tmp_path):
    data = tmp_path / "data"
    for path in (data / "m/0.png", data / "camvid/train/a_0.png"):
        layouts.write_image(path, width=32, height=32)
    for path in (data / "m/0m.png", data / "camvid/trainannot/a_0.png"):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((32, 32), np.uint8)).save(path)
    layouts.write_text(data / "m/m.csv", "image,mask", "0.png,0m.png")
    layouts.write_text(data / "camvid/train.txt", "/x/train/a_0.png /x/trainannot/a_0.png")
    layouts.write_image(data / "cityscapes/leftImg8bit/val/fr/fr_0_0_leftImg8bit.png")
    layouts.write_image(data / "cityscapes/gtFine/val/fr/fr_0_0_gtFine_labelIds.png")
    drop = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-dac_override,-dac_read_search"]
    done = subprocess.run(
        [*(drop if os.geteuid() == 0 else []), sys.executable, "-c", UNREADABLE],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 14
    assert {line.split()[0] for line in lines} == {"refused"}, lines
    assert all(line.endswith("True") for line in lines), lines
