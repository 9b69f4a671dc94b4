"""Means of patch tokens: what is kept of a layer, in one pass or added to a set later, and that they are the means."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import xarray
from PIL import Image
from pydantic import ValidationError

from pipeline.captures.table import wanted_arrays
from pipeline.dataset_recipe import DatasetRecipe
from pipeline.extraction import job, run
from pipeline.extraction.compute import Compute
from pipeline.extraction.options import ExtractOptions
from pipeline.extraction.recomputing.repair import repair_recipe
from pipeline.models import build_model
from pipeline.recipe import FeatureRecipe, MaskRecipe, ModelRecipe, StorageRecipe
from pipeline.recorded import Recorded
from pipeline.views import CLEAN
from stores import HDF5Set, Store
from stores.errors import UserError
from stores.hdf5.clam import choose_tokens, export_tile_files
from stores.hdf5.exporting import export_set
from stores.hdf5.importing import import_set
from stores.maintenance.verify import verify
from stores.specs import Size
from tests.pipeline.tiny import TINY, recipe, write_camvid

CPU = Compute("cpu", batch_size=4, threads=1)
ONLY_MEANS = FeatureRecipe(norm="both", tokens="none", means=True)
HALF_STEP = 2.0**-11
"""Largest relative error of rounding to float16."""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_camvid(folder / "camvid")
    return folder


def extracted(folder, data, features, **changes):
    where = run.Workspace(Store(folder / "store"), data, folder)
    report = run.extract_recipe(recipe(features=features, **changes), where, CPU, ExtractOptions())
    return report.outcomes[0].set


def contents(folder):
    return {
        path.relative_to(folder): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_means_are_those_of_the_stored_tokens(tmp_path, data):
    """In float32 to 2e-7 of the largest token, in float16 to half a step more; with and without the final norm."""
    both = FeatureRecipe(norm="both", means=True, store_dtype="float32")
    made = extracted(tmp_path / "float32", data, both)
    halves = extracted(tmp_path / "float16", data, both.model_copy(update={"store_dtype": "float16"}))
    means = [name for name in made.arrays if name.startswith("means/")]
    assert sorted(means) == sorted(f"means/block.{n}{norm}" for n in range(6) for norm in ("", ".norm"))
    for name in means:
        tokens = made[name.partition("/")[2]][:].astype(np.float64)
        expected, scale = tokens.mean(axis=1), np.abs(tokens).max()
        assert made.arrays[name].dimension_names == ("sample", "channel")
        np.testing.assert_allclose(made[name][:], expected, rtol=0, atol=2e-7 * scale)
        np.testing.assert_allclose(halves[name][:], expected, rtol=HALF_STEP, atol=2e-7 * scale + 2.0**-25)
        np.testing.assert_array_equal(halves[name][:], made[name][:].astype(np.float16))


def test_deviations_are_those_of_the_stored_tokens(tmp_path, data):
    wanted = FeatureRecipe(norm="both", layers=(0, -1), means=True, deviations=True, store_dtype="float32")
    made = extracted(tmp_path, data, wanted)
    names = [name for name in made.arrays if name.startswith("deviations/")]
    assert len(names) == 4
    for name in names:
        tokens = made[name.partition("/")[2]][:].astype(np.float64)
        np.testing.assert_allclose(made[name][:], tokens.std(axis=1), rtol=0, atol=1e-6 * np.abs(tokens).max())
        assert made.arrays[name].attributes["n_patches"] == tokens.shape[1]


def test_the_forward_pass_and_the_digest_of_a_set_do_not_change(tmp_path, data):
    plain = extracted(tmp_path / "plain", data, FeatureRecipe(norm="both"))
    more = extracted(tmp_path / "more", data, FeatureRecipe(norm="both", means=True))
    fewer = extracted(tmp_path / "fewer", data, ONLY_MEANS)
    assert plain.digest == more.digest == fewer.digest
    assert {name: more.content[name] for name in plain.content} == plain.content
    assert set(fewer.arrays) == {name for name in more.arrays if not name.startswith("tokens/")}
    assert all(np.array_equal(fewer[name][:], more[name][:]) for name in fewer.arrays)


def test_means_are_added_to_a_sealed_set_and_tokens_to_one_of_means(tmp_path, data):
    first = extracted(tmp_path, data, FeatureRecipe(norm="both", layers=(-1,)))
    before = contents(tmp_path / "store" / first.prefix / "tokens")
    later = extracted(tmp_path, data, FeatureRecipe(norm="both", tokens=(-1,), means=True))
    assert contents(tmp_path / "store" / first.prefix / "tokens") == before
    assert [name for name in later.arrays if name.startswith("tokens/")] == ["tokens/block.5", "tokens/block.5.norm"]
    assert sum(name.startswith("means/") for name in later.arrays) == 12
    assert all(map(later.sealed, later.arrays))
    whole = extracted(tmp_path, data, FeatureRecipe(norm="both", means=True))
    assert sum(name.startswith("tokens/") for name in whole.arrays) == 12
    assert all(map(whole.sealed, whole.arrays))
    assert not any(one.findings for one in verify(Store(tmp_path / "store")))


def test_means_are_verified_repaired_exported_and_read_like_any_array(tmp_path, data):
    made = extracted(tmp_path, data, ONLY_MEANS)
    store, name = Store(tmp_path / "store"), "means/block.5.norm"
    values = made[name][:]
    where, wanted = run.Workspace(store, data, tmp_path), recipe(features=ONLY_MEANS)
    chunk = Path(store.location) / made.prefix / name / "c.0.0"
    whole = chunk.read_bytes()
    chunk.write_bytes(whole[::-1])
    assert [finding.key for one in verify(store) for finding in one.findings] == [f"{made.prefix}/{name}/c.0.0"]
    noted = store.recall(wanted.model_key(TINY))
    repair_recipe(wanted, where, [Recorded(TINY, CLEAN, noted["features"], noted["labels"])], lambda: CPU)
    assert chunk.read_bytes() == whole
    export_set(made, tmp_path / "set.h5")
    with HDF5Set(tmp_path / "set.h5") as exported:
        np.testing.assert_array_equal(exported[name][:], values)
        import_set(exported, Store(tmp_path / "imported"))
    assert Store(tmp_path / "imported").open(f"features/{made.digest}").content[name] == made.content[name]
    opened = xarray.open_zarr(f"{store.location}/{made.prefix}", group="means", consolidated=False)
    assert opened["block.5.norm"].dims == ("sample", "channel")


def test_clam_files_of_stored_means_are_those_of_tokens(tmp_path, data):
    """A mean of rounded tokens and a rounded mean of tokens differ by roundings."""
    files = []
    for name, features in (("tokens", FeatureRecipe()), ("means", ONLY_MEANS)):
        made = extracted(tmp_path / name, data, features)
        chosen = choose_tokens(made, "mean")
        assert chosen == f"{name}/block.5.norm"
        files.append(export_tile_files(made, tmp_path / f"{name}-clam", chosen))
    import h5py

    for one, other in zip(*files, strict=True):
        with h5py.File(one) as a, h5py.File(other) as b:
            assert a["features"].shape == b["features"].shape
            np.testing.assert_allclose(a["features"][:], b["features"][:], rtol=0, atol=4e-3)


def test_invalid_rows_have_no_mean(tmp_path):
    write_camvid(tmp_path / "data" / "camvid")
    broken = tmp_path / "data" / "camvid" / "val" / "0001TP_val001.png"
    Image.new("RGB", (8, 8)).save(broken)
    keeping = DatasetRecipe(name="camvid", bad_samples="keep-invalid")
    made = extracted(tmp_path, tmp_path / "data", ONLY_MEANS, dataset=keeping)
    invalid = ~made.samples["valid"].to_numpy(bool)
    values = made["means/block.0"][:]
    assert invalid.any()
    np.testing.assert_array_equal(np.isnan(values).all(axis=1), invalid)
    assert np.isfinite(values[~invalid]).all()


def test_a_first_pass_without_tokens_has_ranges_of_bounded_length(tmp_path, data, monkeypatch):
    monkeypatch.setattr(job, "MOST_SMALL_ROWS", 8)
    made = extracted(tmp_path / "means", data, ONLY_MEANS, storage=StorageRecipe())
    assert made.layout.range_rows == 8
    whole = extracted(tmp_path / "tokens", data, FeatureRecipe(layers=(-1,)), storage=StorageRecipe())
    assert whole.layout.range_rows == 32


def test_what_keeps_nothing_or_names_no_layer_is_refused(tmp_path):
    with pytest.raises(ValidationError, match="keeps nothing of a layer"):
        FeatureRecipe(tokens="none", prefix=False)
    with pytest.raises(ValidationError, match="deviations = true needs means = true"):
        FeatureRecipe(deviations=True)
    model = build_model(TINY, Size(height=32, width=32), tmp_path)
    with pytest.raises(UserError, match="no block 9: change `tokens` in"):
        wanted_arrays(model, FeatureRecipe(tokens=(9,)))
    bare = build_model(
        ModelRecipe(name="test_vit", weights="random", arguments={"class_token": False, "global_pool": "avg"}),
        Size(height=32, width=32),
        tmp_path,
    )
    with pytest.raises(UserError, match="nothing is kept of test_vit"):
        wanted_arrays(bare, FeatureRecipe(tokens="none"))


def test_a_masked_input_and_stages_beside_means(tmp_path):
    model = build_model(TINY, Size(height=32, width=32), tmp_path)
    arrays = wanted_arrays(model, FeatureRecipe(layers=(-1,), tokens="none", means=True, masked=MaskRecipe()))
    groups = [array.group for array in arrays]
    assert groups.count("means") == 1
    assert "visible" in groups
    resnet = build_model(ModelRecipe(name="resnet10t", weights="random"), Size(height=64, width=64), tmp_path)
    means = [array for array in wanted_arrays(resnet, ONLY_MEANS) if array.group == "means"]
    assert [array.name for array in means] == [f"means/stage.{n}" for n in range(len(resnet.layers))]
    assert [array.dimension_names[1] for array in means] == [f"channel_{layer.width}" for layer in resnet.layers]
