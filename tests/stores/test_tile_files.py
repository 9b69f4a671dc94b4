"""Files in the layout of CLAM and TRIDENT, read back the way those tools read theirs."""

import h5py
import numpy as np
import pandas as pd
import pytest

from stores.errors import MissingError, UserError
from stores.hdf5.clam import choose_tokens, export_tile_files, file_names
from tests.stores.sealed_sets import prefix, rows_of, stored, tile_table, tokens
from tests.stores.specs_for_tests import FEATURES, LABELS


@pytest.fixture
def made(tmp_path):
    table = tile_table(10)
    table.loc[3, "valid"] = False
    arrays = [tokens(0), tokens(1), tokens(1, norm=True), prefix(1), prefix(1, norm=True)]
    return stored(tmp_path / "here", arrays, tables={"samples": table})


def as_those_tools_read(path):
    """CLAM: dataset_modules/dataset_generic.py; TRIDENT: read_coords in trident/IO.py."""
    with h5py.File(path, "r") as file:
        return file["features"][:], file["coords"][:], dict(file["coords"].attrs), dict(file["features"].attrs)


def test_one_file_an_image_with_the_mean_of_the_patch_tokens(tmp_path, made):
    files = export_tile_files(made, tmp_path / "slides", choose_tokens(made, "mean"))
    assert [path.name for path in files] == [f"folder__image{number:02d}.h5" for number in range(5)]
    values = rows_of(tokens(1, norm=True)).astype(np.float64)
    for number, path in enumerate(files):
        features, coords, place, origin = as_those_tools_read(path)
        rows = [row for row in (2 * number, 2 * number + 1) if row != 3]  # row 3 is marked invalid
        assert features.dtype == np.float32
        np.testing.assert_array_equal(features, values[rows].mean(1).astype(np.float32))
        assert coords.dtype == np.int64
        np.testing.assert_array_equal(coords, [[8 * (row % 2), 4] for row in rows])
        assert place["patch_size"] == place["patch_size_level0"] == 8
        assert place["level0_magnification"] == place["target_magnification"]
        assert (place["patch_level"], place["overlap"], place["name"]) == (0, 0, path.stem)
        assert origin["source"] == f"folder/image{number:02d}.png"
        assert origin["array"] == "tokens/block.1.norm"
        assert origin["content_sha256"] == made.content["tokens/block.1.norm"]
    listed = pd.read_csv(tmp_path / "slides" / "slides.csv")
    assert list(listed["slide_id"]) == [path.stem for path in files]
    assert list(listed["image_class"]) == [0, 1, 2, 3, 4]
    assert sorted(path.name for path in (tmp_path / "slides").iterdir())[-1] == "slides.csv"


def test_clam_can_append_to_them(tmp_path, made):
    path = export_tile_files(made, tmp_path / "slides", "tokens/block.0")[0]
    with h5py.File(path, "a") as file:
        for key in ("features", "coords"):
            file[key].resize(len(file[key]) + 1, axis=0)
        assert file["features"].shape == (3, 6)


def test_prefix_tokens_and_every_patch(tmp_path, made):
    array = choose_tokens(made, "prefix")
    assert array == "prefix/block.1.norm"
    files = export_tile_files(made, tmp_path / "prefix", array, "prefix", "float16")
    features, _, _, origin = as_those_tools_read(files[0])
    np.testing.assert_array_equal(features, rows_of(prefix(1, norm=True))[:2, 0])
    assert origin["vector"] == "prefix"
    files = export_tile_files(made, tmp_path / "patches", "tokens/block.0", "patches")
    features, coords, place, _ = as_those_tools_read(files[0])
    np.testing.assert_array_equal(features, rows_of(tokens(0))[:2].reshape(8, 6).astype(np.float32))
    corners = [(x, y) for tile in (0, 8) for y in (4, 8) for x in (tile, tile + 4)]
    np.testing.assert_array_equal(coords, corners)
    assert place["patch_size"] == 4


def test_choosing_what_stands_for_a_tile(made):
    assert choose_tokens(made, "mean") == "tokens/block.1.norm"
    assert choose_tokens(made, "patches", layers=[0]) == "tokens/block.0"
    assert choose_tokens(made, "mean", arrays=["block.1"]) == "tokens/block.1"
    with pytest.raises(UserError, match="hold one layer and 2 are chosen"):
        choose_tokens(made, "mean", layers=[0, 1])
    with pytest.raises(UserError, match="choose another --vector"):
        choose_tokens(made, "prefix", layers=[0])
    with pytest.raises(MissingError):
        choose_tokens(made, "mean", layers=[5])


def test_what_cannot_be_written_is_refused_and_leaves_nothing(tmp_path, made):
    labels = stored(tmp_path / "labels", [], spec=LABELS)
    with pytest.raises(UserError, match="holds labels"):
        choose_tokens(labels, "mean")
    bare = stored(
        tmp_path / "bare",
        [tokens(0)],
        spec=FEATURES.model_copy(update={"samples": "9" * 64}),
        tables={"samples": pd.DataFrame({"sample": list("abcdefghij")})},
    )
    with pytest.raises(UserError, match="have no bottom, left, right, source, top"):
        export_tile_files(bare, tmp_path / "slides", "tokens/block.0")
    large = stored(tmp_path / "large", [tokens(0, dtype="float32")], change=lambda name, rows: rows * 1e6)
    with pytest.raises(UserError, match="beyond the largest float16"):
        export_tile_files(large, tmp_path / "slides", "tokens/block.0", dtype="float16")
    assert not list(tmp_path.glob("slides*"))
    (tmp_path / "slides").mkdir()
    with pytest.raises(UserError, match="exists already"):
        export_tile_files(made, tmp_path / "slides", "tokens/block.0")


def test_file_names_are_flat_and_never_shared():
    assert file_names(["train/a.b.png", "val/a.png"]) == {"train/a.b.png": "train__a.b.h5", "val/a.png": "val__a.h5"}
    assert file_names(["a.png", "a.jpg"]) == {"a.png": "a.png.h5", "a.jpg": "a.jpg.h5"}
    with pytest.raises(UserError, match="the same file name"):
        file_names(["a/b.png", "a__b.png"])
    with pytest.raises(UserError, match="cannot name a file"):
        file_names(["../a.png"])
