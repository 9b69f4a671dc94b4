"""`patchbank export` and `patchbank import` as people type them."""

import json
import re
import shutil

import h5py
import pytest

from stores import HDF5Set, Store
from tests.pipeline.tiny import write_camvid
from tests.stores.sealed_sets import prefix, stored, tokens
from tests.stores.specs_for_tests import FEATURES


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    stored(folder, [tokens(0), tokens(1, norm=True), prefix(1, norm=True)])
    return folder


@pytest.fixture(autouse=True)
def folder_with_a_set(here, whole):
    shutil.copytree(whole, here / "store")


NAME = FEATURES.digest[:12]


def test_there_and_back(run, tmp_path):
    code, out, _ = run("export", NAME, "set.h5")
    assert code == 0
    assert out.splitlines() == [
        f"wrote   3 arrays of {NAME}, 31.2 kB",
        "where   set.h5 (described in set.README.md)",
    ]
    code, out, _ = run("import", "set.h5", "--store", "there")
    assert code == 0
    assert out.splitlines() == [
        f"added   3 arrays of {NAME}",
        "kept    0 arrays that the store already has",
        f"where   {tmp_path / 'there'}",
    ]
    assert run("verify", "--store", "there")[0] == 0
    there = Store("there").open(NAME)
    assert there.stored_digest() == Store("store").open(NAME).stored_digest()
    done = json.loads(run("import", "set.h5", "--store", "there", "--json")[1])
    assert done == {
        "set": FEATURES.digest,
        "store": str(tmp_path / "there"),
        "added": [],
        "there": sorted(there.seals),
    }


def test_chosen_layers_and_another_dtype(run, tmp_path):
    code, out, _ = run("export", NAME, "out/last.h5", "--layers", "-1", "--dtype", "float32", "--json")
    assert code == 0
    told = json.loads(out)
    assert told["reading_only"] is True
    assert sorted(told["arrays"]) == ["prefix/block.1.norm", "tokens/block.1.norm"]
    with HDF5Set("out/last.h5") as read:
        assert told["arrays"]["tokens/block.1.norm"]["content"] == read.content["tokens/block.1.norm"]
    assert (tmp_path / "out" / "last.README.md").exists()
    code, _, err = run("import", "out/last.h5")
    assert code == 2
    assert "for reading only" in err
    code, out, _ = run("export", NAME, "one.h5", "--arrays", "block.0, prefix/block.1.norm")
    assert out.startswith("wrote   2 arrays")


def test_tile_files(run, tmp_path):
    code, out, _ = run("export", NAME, "slides", "--style", "clam")
    assert code == 0
    assert out.splitlines() == [
        "wrote   5 files with features (tokens/block.1.norm, mean) and coords",
        "where   slides (listed in slides.csv)",
    ]
    code, out, _ = run("export", NAME, "all", "--style", "clam", "--vector", "patches", "--layers", 0, "--json")
    assert json.loads(out) == {
        "set": FEATURES.digest,
        "folder": "all",
        "array": "tokens/block.0",
        "vector": "patches",
        "files": 5,
    }
    with h5py.File("all/folder__image00.h5") as file:
        assert file["features"].shape == (8, 6)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("export", "ffff", "set.h5"), "no set in .* begins with 'ffff'"),
        (("export", NAME, "there.h5"), r"there\.h5 exists already"),
        (("export", NAME, "set.h5", "--layers", "five"), "--layers takes numbers .* not 'five'"),
        (("export", NAME, "set.h5", "--layers", "5"), "no array of layer 5: it has the layers 0, 1"),
        (("export", NAME, "set.h5", "--arrays", "block.7"), r"has no array block\.7"),
        (("export", NAME, "set.h5", "--layers", "0", "--arrays", "block.0"), "give one of them"),
        (("export", NAME, "set.h5", "--dtype", "bfloat16"), "neither float16 nor float32"),
        (("export", NAME, "set.h5", "--style", "npz"), "neither patchbank nor clam"),
        (("export", NAME, "set.h5", "--vector", "patches"), "--vector belongs to --style clam"),
        (("export", NAME, "set", "--style", "clam", "--vector", "max"), "none of mean, prefix and patches"),
        (("export", NAME, "set", "--style", "clam", "--dtype", "int8"), "neither float16 nor float32"),
        (("export", NAME, "there.h5/set.h5"), "cannot write .*Not a directory|cannot write .*File exists"),
        (("import", "absent.h5"), r"there is no file absent\.h5"),
        (("import", "there.h5"), "is not an HDF5 file"),
    ],
)
def test_mistakes_get_one_sentence_and_leave_nothing(run, tmp_path, arguments, says):
    (tmp_path / "there.h5").write_text("mine")
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1, err
    assert re.search(says, err), err
    assert {path.name for path in tmp_path.iterdir()} == {"store", "there.h5"}


def test_a_damaged_file_leaves_with_3(run):
    run("export", NAME, "set.h5")
    with h5py.File("set.h5", "r+") as file:
        file["tokens/block.0"][0] = 7
    code, _, err = run("import", "set.h5", "--store", "there")
    assert code == 3
    assert "array tokens/block.0 in set.h5 holds other values than were exported" in err
    assert not Store("there").has(FEATURES)
    code, _, err = run("import", "set.h5")
    assert code == 0, "the store has these arrays, whatever the file says of its rows"


def test_the_help_names_every_flag(run):
    for command, flags in {
        "export": ("--layers", "--arrays", "--dtype", "--style", "--vector", "--store", "--json"),
        "import": ("--store", "--allow-mixed", "--json"),
    }.items():
        code, out, _ = run(command, "--help")
        assert code == 0
        assert all(flag in out for flag in flags)


EXPERIMENT = """
[dataset]
name = "camvid"
[frame]
tile = 32
input = 32
edge = "shift-last"
[features]
layers = [5]
[[models]]
name = "test_vit"
weights = "random"
[selection.train]
split = "train"
per_group = 3
[selection.validation]
split = "val"
[[analyses]]
kind = "patch-classification"
classifiers = ["knn"]
remove = [0, 5]
k = [1, 3]
"""


@pytest.mark.usefixtures("undrawn")
def test_imported_sets_are_evaluated_without_images_and_give_the_same_numbers(run, tmp_path):
    write_camvid(tmp_path / "data" / "camvid")
    (tmp_path / "tiny.toml").write_text(EXPERIMENT)
    assert run("extract", "tiny.toml", "--store", "here")[0] == 0
    assert run("evaluate", "tiny.toml", "--store", "here", "--results", "first")[0] == 0
    for number, made in enumerate(Store("here").sets()):
        assert run("export", made.digest, f"{number}.h5", "--store", "here")[0] == 0
    shutil.rmtree(tmp_path / "data")
    shutil.rmtree(tmp_path / "here")
    for number in (0, 1):
        assert run("import", f"{number}.h5", "--store", "there")[0] == 0
    assert run("verify", "--store", "there")[0] == 0
    code, out, _ = run("evaluate", "tiny.toml", "--store", "there", "--results", "second")
    assert code == 0
    assert "reused  0 results" in out
    first, second = (tmp_path / name / "tiny" / "results.parquet" for name in ("first", "second"))
    assert first.read_bytes() == second.read_bytes()
