"""Scale-MAE against a reference in plain torch, at several resolutions and input sizes."""

import numpy as np
import pytest
import torch

from pipeline.captures.table import wanted_arrays
from pipeline.extraction.model_pass.running import ModelPass
from pipeline.models import build_model
from pipeline.recipe import FeatureRecipe, MaskRecipe, ModelRecipe
from stores.errors import UserError
from stores.specs import Size
from tests.pipeline.reference_models import mae, scale_mae

DIMENSIONS = {"patch_size": 8, "embed_dim": 24, "depth": 3, "num_heads": 2}
SIZE = Size(height=32, width=32)


def images(size, n=3):
    shape = (n, size.height, size.width, 3)
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, shape).astype(np.float32))


def built(folder, size=SIZE, dimensions=DIMENSIONS, **arguments):
    recipe = ModelRecipe(name="scalemae-large", weights="scalemae.pth", arguments={**dimensions, **arguments})
    return build_model(recipe, size, folder)


@pytest.fixture
def weights(tmp_path):
    official = scale_mae.random_weights()
    torch.save({"model": official, "epoch": 799}, tmp_path / "scalemae.pth")
    return official


@pytest.mark.parametrize("size", [SIZE, Size(height=16, width=40)], ids=str)
@pytest.mark.parametrize("resolution", [1.0, 3.5])
def test_layers_equal_the_reference(tmp_path, weights, size, resolution):
    model = built(tmp_path, size, input_res=resolution)
    pixels = images(size)
    arrays = wanted_arrays(model, FeatureRecipe(norm="both", store_dtype="float32"))
    stored, _ = ModelPass(model, arrays, "float32")(pixels)
    layers, normed = scale_mae.encode(weights, model.normalise(pixels), 2, [resolution] * 3)
    for number, expected in enumerate(layers):
        np.testing.assert_allclose(stored[f"tokens/block.{number}"], expected[:, 1:], rtol=0, atol=1e-5)
        np.testing.assert_allclose(stored[f"prefix/block.{number}"], expected[:, :1], rtol=0, atol=1e-5)
    np.testing.assert_allclose(stored["tokens/block.2.norm"], normed[:, 1:], rtol=0, atol=1e-5)


def test_one_module_takes_every_size_and_a_resolution_a_sample(tmp_path, weights):
    model = built(tmp_path)
    for size in (SIZE, Size(height=16, width=24)):
        inputs = model.normalise(images(size))
        resolutions = torch.tensor([0.3, 1.0, 10.0])
        with torch.inference_mode():
            ours = model.module.forward_features(inputs, resolutions)
        _, normed = scale_mae.encode(weights, inputs, 2, resolutions)
        np.testing.assert_allclose(ours, normed, rtol=0, atol=1e-5)


def test_masked_input_keeps_the_positions_of_the_visible_patches(tmp_path, weights):
    model = built(tmp_path, input_res=2.0)
    features = FeatureRecipe(layers=(-1,), store_dtype="float32", masked=MaskRecipe(ratio=0.5))
    places = [(f"{number}.png", (0, 0, 32, 32)) for number in range(3)]
    stored, _ = ModelPass(model, wanted_arrays(model, features), "float32")(images(SIZE), places)
    ids = stored["visible/mask50.seed0.ids"].long()
    table = mae.sin_cos_table(24, 4, 4, scale=2.0)[None]
    _, normed = mae.encode(weights, model.normalise(images(SIZE)), 2, ids_shuffle=ids, n_keep=8, table=table)
    np.testing.assert_allclose(stored["visible/mask50.seed0.block.2.norm"], normed[:, 1:], rtol=0, atol=1e-5)


def test_the_resolution_names_the_set_and_not_the_weights(tmp_path, weights):
    one, two, default = built(tmp_path, input_res=1.0), built(tmp_path, input_res=2.0), built(tmp_path)
    assert one.record.weights == two.record.weights
    assert one.record != two.record
    assert default.record.arguments["input_res"] == 224 / 32
    assert built(tmp_path, Size(height=64, width=64)).record.arguments["input_res"] == 224 / 64


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "scalemae-huge"}, "use scalemae-large"),
        ({"weights": "pretrained"}, r"download https://.*scalemae-vitlarge-800\.pth"),
        ({"arguments": {"resolution": 1.0}}, "has no argument 'resolution'"),
        ({"arguments": {"input_res": 0.0}}, "above 0"),
        ({"arguments": {"input_res": "low"}}, "above 0, not 'low'"),
        ({"arguments": {"depth": 2.5}}, "whole numbers"),
        ({"arguments": {"embed_dim": 26, "num_heads": 2}}, "embed_dim that 4"),
        ({"arguments": {"patch_size": 12}}, "multiple of 12"),
    ],
)
def test_recipes_that_cannot_be_built(tmp_path, changes, message):
    recipe = ModelRecipe(name="scalemae-large", weights="random").model_copy(update=changes)
    with pytest.raises(UserError, match=message):
        build_model(recipe, SIZE, tmp_path)


@pytest.mark.slow
def test_the_published_size_equals_the_reference(tmp_path):
    official = scale_mae.random_weights(width=1024, depth=24, patch=16)
    # Twenty-four random layers of this width would saturate; a tenth keeps activations of order one.
    official = {key: value * 0.1 if value.ndim == 2 else value for key, value in official.items()}
    torch.save({"model": official}, tmp_path / "scalemae.pth")
    size = Size(height=224, width=224)
    model = built(tmp_path, size, {})
    model.module.double()  # float32 sums of 1,024 products in another order would hide whatever is smaller than 1e-4
    inputs = model.normalise(images(size, 1)).double()
    _, expected = scale_mae.encode({key: value.double() for key, value in official.items()}, inputs, 16, [1.0])
    with torch.inference_mode():
        ours = model.forward(inputs)
    np.testing.assert_allclose(ours, expected, rtol=1e-6, atol=1e-6)
