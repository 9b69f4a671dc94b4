"""Stored tokens are those of a plain timm forward, for every layer, norm and number of prefix tokens."""

import numpy as np
import pytest
import safetensors.torch
import timm
import torch

from pipeline.captures.table import wanted_arrays
from pipeline.extraction.model_pass.running import ModelPass
from pipeline.models import build_model
from pipeline.models.loading.weights import random_weights, weights_digest
from pipeline.models.loading.wrappings import read_checkpoint
from pipeline.models.timm_vit import final_norm
from pipeline.recipe import FeatureRecipe, ModelRecipe
from stores.errors import MissingError, UserError
from stores.specs import Size

SIZE = Size(height=32, width=32)
SMALL = {"embed_dim": 24, "depth": 3, "num_heads": 2, "patch_size": 8}
MODELS = {
    0: ModelRecipe(
        name="vit_tiny_patch16_224",
        weights="random",
        arguments={**SMALL, "class_token": False, "global_pool": "avg"},
    ),
    1: ModelRecipe(name="vit_tiny_patch16_224", weights="random", arguments=SMALL),
    5: ModelRecipe(name="vit_small_patch14_reg4_dinov2", weights="random", arguments=SMALL),
}


@pytest.fixture
def pixels():
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3)).astype(np.float32))


@pytest.mark.parametrize("n_prefix", MODELS)
def test_tokens_equal_a_plain_timm_forward(tmp_path, pixels, n_prefix):
    """timm's own forward_intermediates is the judge, on a model built without our code."""
    recipe = MODELS[n_prefix]
    model = build_model(recipe, SIZE, tmp_path)
    check_samples = timm.create_model(recipe.name, num_classes=0, img_size=(32, 32), **recipe.arguments).eval()
    check_samples.load_state_dict(model.module.state_dict())
    assert model.n_prefix == check_samples.num_prefix_tokens == n_prefix
    mean, std = (torch.tensor(check_samples.pretrained_cfg[key]).view(3, 1, 1) for key in ("mean", "std"))
    inputs = (pixels.permute(0, 3, 1, 2) / 255 - mean) / std
    arrays = wanted_arrays(model, FeatureRecipe(norm="both", store_dtype="float32"))
    stored, sums = ModelPass(model, arrays, "float32")(pixels)
    assert torch.isfinite(sums).all()
    norm = final_norm(check_samples)
    with torch.inference_mode():
        raw = check_samples.forward_intermediates(
            inputs, output_fmt="NLC", return_prefix_tokens=True, norm=False, intermediates_only=True
        )
        last = check_samples.forward_features(inputs)
        if isinstance(check_samples.norm, torch.nn.Identity):
            last = norm(last)
    assert len(raw) == 3
    for layer, (patch, *prefix) in enumerate(raw if n_prefix else [(tokens,) for tokens in raw]):
        np.testing.assert_allclose(stored[f"tokens/block.{layer}"], patch, rtol=1e-5, atol=1e-5)
        with torch.inference_mode():
            np.testing.assert_allclose(stored[f"tokens/block.{layer}.norm"], norm(patch), rtol=1e-4, atol=1e-5)
        if n_prefix:
            np.testing.assert_allclose(stored[f"prefix/block.{layer}"], prefix[0], rtol=1e-5, atol=1e-5)
            assert stored[f"prefix/block.{layer}"].shape == (3, n_prefix, 24)
    np.testing.assert_allclose(stored["tokens/block.2.norm"], last[:, n_prefix:], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("n_prefix", MODELS)
def test_capture_leaves_the_forward_pass_alone(tmp_path, pixels, n_prefix):
    model = build_model(MODELS[n_prefix], SIZE, tmp_path)
    inputs = model.normalise(pixels)
    with torch.inference_mode():
        before = model.forward(inputs)
    ModelPass(model, wanted_arrays(model, FeatureRecipe(norm="both")), "float32")(pixels)
    with torch.inference_mode():
        after = model.forward(inputs)
    assert torch.equal(before, after)
    assert not any(block._forward_hooks for block in model.blocks)


def test_float16_is_the_rounded_float32(tmp_path, pixels):
    model = build_model(MODELS[1], SIZE, tmp_path)
    single = ModelPass(model, wanted_arrays(model, FeatureRecipe(store_dtype="float32")), "float32")(pixels)[0]
    half = ModelPass(model, wanted_arrays(model, FeatureRecipe(store_dtype="float16")), "float32")(pixels)[0]
    for name, values in half.items():
        np.testing.assert_array_equal(values.numpy(), single[name].numpy().astype(np.float16))


def test_layers_are_counted_from_0_and_negative_ones_from_the_end(tmp_path):
    model = build_model(MODELS[1], SIZE, tmp_path)
    names = [a.name for a in wanted_arrays(model, FeatureRecipe(layers=(-1, 0), norm="none", prefix=False))]
    assert names == ["tokens/block.0", "tokens/block.2"]
    with pytest.raises(UserError, match="no block 3"):
        wanted_arrays(model, FeatureRecipe(layers=(3,)))


def test_drawn_weights_are_golden(tmp_path):
    """Seeded weights must survive torch and numpy upgrades: golden features of the demo and the tests hang on them."""
    module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.LayerNorm(2))
    random_weights(module, 0)
    assert weights_digest(module) == "fd2ad90a03e0078957f648b84d1cb9f663601f97c73af79b4107e4396e9e8eb7"
    random_weights(module, 1)
    assert weights_digest(module) != "fd2ad90a03e0078957f648b84d1cb9f663601f97c73af79b4107e4396e9e8eb7"


def test_weights_from_files(tmp_path, pixels):
    model = build_model(MODELS[1], SIZE, tmp_path)
    weights = {key: value.clone() for key, value in model.module.state_dict().items()}
    safetensors.torch.save_file(weights, tmp_path / "plain.safetensors")
    wrapped = {f"module.backbone.{key}": value for key, value in weights.items()}
    torch.save(
        {"epoch": 3, "state_dict": {**wrapped, "module.backbone.head.weight": torch.ones(2)}}, tmp_path / "w.pth"
    )
    for file in ("plain.safetensors", "w.pth"):
        again = build_model(MODELS[1].model_copy(update={"weights": file}), SIZE, tmp_path)
        assert again.record.weights == model.record.weights


def test_weights_of_another_architecture_are_named(tmp_path):
    model = build_model(MODELS[1], SIZE, tmp_path)
    weights = {key: value.clone() for key, value in model.module.state_dict().items() if "blocks.2" not in key}
    safetensors.torch.save_file({**weights, "extra": torch.ones(1)}, tmp_path / "short.safetensors")
    with pytest.raises(UserError, match=r"missing \(such as blocks\.2.*too many \(such as extra\)"):
        build_model(MODELS[1].model_copy(update={"weights": "short.safetensors"}), SIZE, tmp_path)


def test_untrusted_files_are_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return (print, ("executed",))

    torch.save({"model": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(UserError, match="could run code"):
        read_checkpoint(tmp_path / "evil.pth")
    (tmp_path / "text.pth").write_text("not weights")
    with pytest.raises(UserError, match=r"text\.pth"):
        read_checkpoint(tmp_path / "text.pth")
    with pytest.raises(MissingError, match="there are no weights"):
        read_checkpoint(tmp_path / "absent.pth")


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (ModelRecipe(name="vit_smal_patch16_224", weights="random"), "did you mean vit_small_patch16_224"),
        (ModelRecipe(name="crossvit_9_240", weights="random"), "no plain vision transformer"),
        (ModelRecipe(name="resnet18", weights="random", arguments={"wings": 2}), "wings"),
        (ModelRecipe(name="vit_tiny_patch16_224", weights="random", arguments={"wings": 2}), "wings"),
    ],
)
def test_models_that_cannot_be_built(tmp_path, recipe, message):
    with pytest.raises(UserError, match=message):
        build_model(recipe, Size(height=224, width=224), tmp_path)


@pytest.mark.parametrize(
    ("name", "small"),
    [
        ("cait_xxs24_224", {"embed_dim": 24, "depth": 3, "num_heads": 2, "patch_size": 8}),
        ("xcit_nano_12_p16_224", {"embed_dim": 32, "depth": 2, "num_heads": 2}),
    ],
)
def test_a_class_token_that_joins_after_the_blocks_is_no_prefix(tmp_path, pixels, name, small):
    model = build_model(ModelRecipe(name=name, weights="random", arguments=small), SIZE, tmp_path)
    assert model.n_prefix == 0
    assert any("class token joins after the blocks" in note for note in model.notes)
    arrays = wanted_arrays(model, FeatureRecipe(norm="none", store_dtype="float32"))
    assert {array.group for array in arrays} == {"tokens"}
    stored, _ = ModelPass(model, arrays, "float32")(pixels)
    kept = {}
    with torch.inference_mode():
        model.module.blocks[-1].register_forward_hook(lambda module, inputs, output: kept.update(out=output))
        model.module.forward_features(model.normalise(pixels))
    last = arrays[-1]
    assert stored[last.name].shape == (3, model.n_patches, model.width)
    np.testing.assert_array_equal(stored[last.name], kept["out"])


def test_a_class_token_that_joins_on_the_way_is_refused(tmp_path):
    small = {"embed_dim": 24, "depth": 3, "num_heads": 2, "local_up_to_layer": 2}
    recipe = ModelRecipe(name="convit_tiny", weights="random", arguments=small)
    with pytest.raises(UserError, match=r"the blocks of convit_tiny do not all give one token .* choose another model"):
        build_model(recipe, SIZE, tmp_path)
