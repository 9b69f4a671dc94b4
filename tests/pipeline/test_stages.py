"""Stages are timm's own `features_only` maps, position by position, and find their labels on every grid."""

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
import xarray

from evaluate.inputs.model_sets import ModelSets
from pipeline.captures.table import wanted_arrays
from pipeline.extraction import run
from pipeline.extraction.compute import Compute
from pipeline.extraction.model_pass.running import ModelPass
from pipeline.extraction.plan import plan_models
from pipeline.labels.patch_labels import patch_labels
from pipeline.models import build_model, family_of
from pipeline.recipe import FeatureRecipe, MaskRecipe, ModelRecipe
from stores import Store
from stores.errors import UserError
from stores.specs import FrameSpec, Size
from tests.pipeline.tiny import recipe, write_camvid

SIZE = Size(height=64, width=96)
RESNET = ModelRecipe(name="test_resnet", weights="random", seed=1)


def pixels_of(size, n=2):
    shape = (n, size.height, size.width, 3)
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, shape).astype(np.float32))


def judge_of(name, model):
    """timm's features_only with the same weights; it renames `stages.0` to `stages_0` in some families."""
    check_samples = timm.create_model(name, features_only=True).eval()
    own = {key.replace(".", "_"): value for key, value in model.module.state_dict().items()}
    for key, value in check_samples.state_dict().items():
        value.copy_(own[key.replace(".", "_")])
    return check_samples


@pytest.mark.parametrize("name", ["test_resnet", "test_convnext", "test_efficientnet"])
def test_stages_equal_timms_features_only(tmp_path, name):
    model = build_model(ModelRecipe(name=name, weights="random"), SIZE, tmp_path)
    assert model.record.family == family_of(name) == "stages"
    pixels = pixels_of(SIZE)
    arrays = wanted_arrays(model, FeatureRecipe(store_dtype="float32"))
    stored, sums = ModelPass(model, arrays, "float32")(pixels)
    assert torch.isfinite(sums).all()
    configuration = model.module.pretrained_cfg
    mean, std = (torch.tensor(configuration[key]).view(3, 1, 1) for key in ("mean", "std"))
    with torch.inference_mode():
        maps = judge_of(name, model)((pixels.permute(0, 3, 1, 2) / 255 - mean) / std)
    assert [array.name for array in arrays] == [f"tokens/stage.{k}" for k in range(len(maps))]
    assert len({each.shape[1:] for each in maps}) == len(maps), "stages that look alike would prove less"
    for array, each in zip(arrays, maps, strict=True):
        assert each.std() > 0.01, "zeros equal zeros"
        rows, columns = array.attributes["grid_rows"], array.attributes["grid_columns"]
        assert (rows, columns) == each.shape[2:]
        tokens = stored[array.name].unflatten(1, (rows, columns))
        np.testing.assert_allclose(tokens.permute(0, 3, 1, 2), each, rtol=1e-5, atol=1e-5)


def test_windowed_transformers_are_stages_too(tmp_path):
    """Swin is built for one input size, and its module gives (row, column, channel) where others put channels first."""
    name, size = "swin_tiny_patch4_window7_224", Size(height=64, width=64)
    arguments = {"embed_dim": 24, "window_size": 2}
    model = build_model(ModelRecipe(name=name, weights="random", arguments=arguments), size, tmp_path)
    assert [(stage.grid, stage.width) for stage in model.layers] == [
        ((16, 16), 24),
        ((8, 8), 48),
        ((4, 4), 96),
        ((2, 2), 192),
    ]
    stored, _ = ModelPass(model, wanted_arrays(model, FeatureRecipe(store_dtype="float32")), "float32")(pixels_of(size))
    with torch.inference_mode():
        last = model.module.norm(stored["tokens/stage.3"])
        plain = model.module.forward_features(model.normalise(pixels_of(size)))
    np.testing.assert_allclose(last, plain.flatten(1, 2), rtol=1e-4, atol=1e-5)


def test_layers_are_chosen_and_refused_by_stage(tmp_path):
    model = build_model(RESNET, SIZE, tmp_path)
    for norm in ("final", "none", "both"):
        arrays = wanted_arrays(model, FeatureRecipe(layers=(-1, 1), norm=norm))
        assert [array.name for array in arrays] == ["tokens/stage.1", "tokens/stage.4"]
    chosen, _ = ModelPass(model, arrays, "float32")(pixels_of(SIZE))
    every, _ = ModelPass(model, wanted_arrays(model, FeatureRecipe()), "float32")(pixels_of(SIZE))
    assert all(torch.equal(chosen[name], every[name]) for name in chosen)
    with pytest.raises(UserError, match="5 stages, numbered 0 to 4, and no stage 7"):
        wanted_arrays(model, FeatureRecipe(layers=(7,)))
    with pytest.raises(UserError, match="cannot run on a part of its patches"):
        wanted_arrays(model, FeatureRecipe(masked=MaskRecipe()))
    swin = ModelRecipe(name="swin_tiny_patch4_window7_224", weights="random", arguments={"img_size": 224})
    with pytest.raises(UserError, match=r"cannot take inputs of 96x64 pixels \(.*\): change `input`"):
        build_model(swin, SIZE, tmp_path)
    with pytest.raises(UserError, match="multiple of 32"):
        build_model(RESNET, Size(height=64, width=100), tmp_path)


@pytest.mark.parametrize("name", ["test_resnet", "test_convnext"])
def test_weights_come_from_files_with_or_without_the_head(tmp_path, name):
    official = timm.create_model(name).eval()
    path = tmp_path / "whole.safetensors"
    safetensors.torch.save_file({key: value.clone() for key, value in official.state_dict().items()}, path)
    model = build_model(ModelRecipe(name=name, weights=path.name), SIZE, tmp_path)
    stored, _ = ModelPass(model, wanted_arrays(model, FeatureRecipe(store_dtype="float32")), "float32")(pixels_of(SIZE))
    with torch.inference_mode():
        last = official.forward_intermediates(model.normalise(pixels_of(SIZE)), intermediates_only=True)[-1]
    *_, deepest = stored.values()
    np.testing.assert_allclose(deepest, last.flatten(2).transpose(1, 2), rtol=1e-5, atol=1e-5)


def test_stages_are_extracted_labelled_found_and_opened_with_xarray(tmp_path):
    write_camvid(tmp_path / "data" / "camvid", n_train=2, n_val=1)
    where = run.Workspace(Store(tmp_path / "store"), tmp_path / "data", tmp_path)
    wanted = recipe(RESNET, frame=FrameSpec(input=64, tile=32, edge="shift-last"))
    # Behind a rectifier some channels of random weights are zero everywhere.
    wanted = wanted.model_copy(update={"features": FeatureRecipe(dead_features="count")})
    compute = Compute("cpu", batch_size=4, threads=1)
    (plan,) = plan_models(wanted, where, run.read_samples(wanted, where), compute)
    assert plan.arrays == 5
    assert plan.seconds_per_row > 0
    report = run.extract_recipe(wanted, where, compute)
    features, labels = report.outcomes[0].set, report.labels
    assert plan.bytes == sum(features[f"stage.{k}"][:].nbytes for k in range(5))
    with xarray.open_zarr(tmp_path / "store" / features.prefix / "tokens", consolidated=False) as tokens:
        assert set(tokens.data_vars) == {f"stage.{k}" for k in range(5)}
        assert tokens["stage.4"].dims[1:] == ("patch_2x2", f"channel_{features['stage.4'].shape[2]}")
        np.testing.assert_array_equal(tokens["stage.1"].values, features["stage.1"][:])
    measured = ModelSets("resnet", features, labels, False, "patchbank extract")
    for norm in ("final", "none"):
        assert measured.arrays("all", norm) == [f"tokens/stage.{k}" for k in range(5)]
        assert measured.arrays((-1,), norm) == ["tokens/stage.4"]
    for array in measured.arrays("all", "final"):
        rows, columns = measured.grid(array)
        on_grid = labels[measured.label_array((rows, columns))][:]
        np.testing.assert_array_equal(on_grid, patch_labels(labels["pixels/classes"][:], rows, columns))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet50", "convnext_base"])
def test_published_sizes_equal_timms_features_only(tmp_path, name):
    size = Size(height=224, width=224)
    model = build_model(ModelRecipe(name=name, weights="random"), size, tmp_path)
    pixels = pixels_of(size, 1)
    check_samples = judge_of(name, model).double()
    model.module.double()  # float32 sums in another order would hide whatever is smaller than 1e-4
    wanted = wanted_arrays(model, FeatureRecipe(store_dtype="float32"))
    stored, _ = ModelPass(model, [array.model_copy(update={"dtype": "float64"}) for array in wanted], "float64")(pixels)
    with torch.inference_mode():
        maps = check_samples(model.normalise(pixels).double())
    for tokens, each in zip(stored.values(), maps, strict=True):
        assert each.std() > 0.01, "zeros equal zeros"
        np.testing.assert_allclose(tokens, each.flatten(2).transpose(1, 2), rtol=0, atol=1e-9)
