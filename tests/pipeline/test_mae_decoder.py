"""MAE's decoder against a reference in plain torch, from stored tokens back to pixels."""

import numpy as np
import pytest
import torch

from evaluate.decoder import BlockDecoder, PatchDecoder
from pipeline.captures.table import wanted_arrays
from pipeline.extraction.model_pass.running import ModelPass
from pipeline.models import build_model
from pipeline.models.loading.patch_pixels import patchify, unpatchify
from pipeline.models.mae_decoder import build_decoder, decoder_of
from pipeline.recipe import DecoderRecipe, FeatureRecipe, MaskRecipe, ModelRecipe
from pipeline.rows.masking import ids_restore, visible_ids
from stores.errors import UserError
from stores.specs import Size
from tests.pipeline.reference_models import mae

SIZE = Size(height=32, width=32)
ARGUMENTS = {"embed_dim": 24, "depth": 3, "num_heads": 2, "patch_size": 8}
RECIPE = ModelRecipe(name="vit_tiny_patch16_224", weights="mae_visualize.pth", arguments=ARGUMENTS)
PLACES = [(f"{number}.png", (0, 0, 32, 32)) for number in range(3)]


@pytest.fixture
def official(tmp_path):
    weights = mae.random_weights()
    torch.save({"model": weights}, tmp_path / "mae_visualize.pth")
    return weights


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)


def stored_tokens(model, pixels, **mask):
    """What the store holds of the last layer, class token first, and the visible ids."""
    features = FeatureRecipe(layers=(-1,), store_dtype="float32", masked=MaskRecipe(**mask))
    stored, _ = ModelPass(model, wanted_arrays(model, features), "float32")(torch.from_numpy(pixels).float(), PLACES)
    arrays = {name: values.numpy() for name, values in stored.items()}
    title = f"mask{100 * mask['ratio']:g}.seed{mask['seed']}"
    full = np.concatenate([arrays["prefix/block.2.norm"], arrays["tokens/block.2.norm"]], axis=1)
    masked = np.concatenate([arrays[f"prefix/{title}.block.2.norm"], arrays[f"visible/{title}.block.2.norm"]], axis=1)
    return full, masked, arrays[f"visible/{title}.ids"]


def test_decoded_patches_equal_the_reference_with_and_without_masking(tmp_path, official, pixels):
    """The judge shuffles as MAE does: any order of the masked patches, mask tokens appended, then ids_restore."""
    model = build_model(RECIPE, SIZE, tmp_path)
    decoder: PatchDecoder = build_decoder(RECIPE, model, tmp_path, heads=2)
    assert isinstance(decoder, PatchDecoder)
    assert decoder.encoder == model.record.weights
    full, masked, ids = stored_tokens(model, pixels, ratio=0.75, seed=0)
    inputs = model.normalise(torch.from_numpy(pixels).float())

    every = torch.arange(16).expand(3, -1)
    expected = mae.decode(official, mae.encode(official, inputs, 2)[1], every, heads=2)
    np.testing.assert_allclose(decoder(full, None), expected, rtol=0, atol=1e-5)

    rng = np.random.default_rng(1)
    hidden = [rng.permutation(np.setdiff1d(np.arange(16), row)) for row in ids]
    shuffle = torch.from_numpy(np.concatenate([ids, np.array(hidden)], axis=1)).long()
    latent = mae.encode(official, inputs, 2, ids_shuffle=shuffle, n_keep=4)[1]
    expected = mae.decode(official, latent, shuffle.argsort(dim=1), heads=2)
    np.testing.assert_allclose(decoder(masked, ids), expected, rtol=0, atol=1e-5)
    assert expected.std() > 0.1


def test_tokens_of_the_blocks_end_in_the_prediction(tmp_path, official, pixels):
    model = build_model(RECIPE, SIZE, tmp_path)
    decoder = build_decoder(RECIPE, model, tmp_path, heads=2)
    assert isinstance(decoder, BlockDecoder)
    full, _, _ = stored_tokens(model, pixels, ratio=0.75, seed=0)
    module, found = decoder.module, []
    for tokens in decoder.block_tokens(full):
        assert not torch.is_inference_mode_enabled()
        found.append(torch.from_numpy(tokens))
    assert len(found) == len(module.blocks) + 1
    entered = module.embed(torch.from_numpy(full).float()) + module.pos_embed
    torch.testing.assert_close(found[0], entered[:, 1:])
    torch.testing.assert_close(found[1], module.blocks[0](entered)[:, 1:])
    predicted = module.pred(module.norm(found[-1]))
    np.testing.assert_allclose(predicted, decoder(full, None), rtol=0, atol=1e-5)
    with pytest.raises(UserError, match="the decoder takes 17 tokens"):
        next(decoder.block_tokens(full[:, 1:]))


def test_visible_tokens_may_come_in_any_order(tmp_path, official, pixels):
    model = build_model(RECIPE, SIZE, tmp_path)
    decoder = build_decoder(RECIPE, model, tmp_path, heads=2)
    _, masked, ids = stored_tokens(model, pixels, ratio=0.5, seed=3)
    order = np.random.default_rng(0).permutation(8)
    shuffled = np.concatenate([masked[:, :1], masked[:, 1:][:, order]], axis=1)
    np.testing.assert_array_equal(decoder(shuffled, ids[:, order]), decoder(masked, ids))


def test_all_patches_visible_is_no_mask(tmp_path, official, pixels):
    model = build_model(RECIPE, SIZE, tmp_path)
    decoder = build_decoder(RECIPE, model, tmp_path, heads=2)
    full, _, _ = stored_tokens(model, pixels, ratio=0.5, seed=0)
    every = np.tile(np.arange(16, dtype=np.int32), (3, 1))
    np.testing.assert_array_equal(decoder(full, every), decoder(full, None))


def test_ids_restore_is_the_inverse_of_maes_shuffle():
    ids = visible_ids(PLACES, 16, 0.75, 0)
    restore = ids_restore(ids, 16)
    for row in range(3):
        assert sorted(restore[row]) == list(range(16))
        np.testing.assert_array_equal(restore[row][ids[row]], np.arange(4))


def test_targets_and_images_equal_the_reference(tmp_path, official, pixels):
    """Pixel targets, and per-patch normalised ones with torch's unbiased variance."""
    model = build_model(RECIPE, SIZE, tmp_path)
    inputs = model.normalise(torch.from_numpy(pixels).float())
    expected = mae.patches_of(inputs, 8)
    plain = build_decoder(RECIPE, model, tmp_path, heads=2)
    np.testing.assert_allclose(plain.targets(pixels), expected, rtol=0, atol=1e-5)
    normalised = build_decoder(RECIPE, model, tmp_path, heads=2, target="normalised")
    mean, variance = expected.mean(dim=-1, keepdim=True), expected.var(dim=-1, keepdim=True)
    np.testing.assert_allclose(
        normalised.targets(pixels), (expected - mean) / (variance + 1e-6) ** 0.5, rtol=0, atol=1e-5
    )
    assert plain.digest != normalised.digest
    for decoder in (plain, normalised):
        np.testing.assert_allclose(decoder.images(decoder.targets(pixels), pixels), pixels / 255, rtol=0, atol=1e-5)


def test_flat_patches_have_no_contrast_and_are_still_drawn(tmp_path, official):
    model = build_model(RECIPE, SIZE, tmp_path)
    decoder = build_decoder(RECIPE, model, tmp_path, heads=2, target="normalised")
    flat = np.full((1, 32, 32, 3), 90, dtype=np.uint8)
    targets = decoder.targets(flat)
    assert np.isfinite(targets).all()
    np.testing.assert_allclose(decoder.images(targets, flat), 90 / 255, rtol=0, atol=1e-5)


@pytest.mark.parametrize("grid", [(4, 4), (2, 5)])
def test_patches_are_put_back_where_they_were(grid):
    images = np.random.default_rng(0).random((2, grid[0] * 6, grid[1] * 6, 3), dtype=np.float32)
    patches = patchify(images, grid)
    np.testing.assert_array_equal(patches[1, grid[1]], images[1, 6:12, :6].reshape(-1))
    np.testing.assert_array_equal(unpatchify(patches, grid), images)


def test_random_decoders_depend_on_the_seed_alone(tmp_path):
    recipe = RECIPE.model_copy(update={"weights": "random"})
    model = build_model(recipe, SIZE, tmp_path)
    one, two = (build_decoder(recipe, model, tmp_path, width=16, depth=2, heads=2) for _ in range(2))
    other = build_decoder(recipe.model_copy(update={"seed": 1}), model, tmp_path, width=16, depth=2, heads=2)
    assert one.digest == two.digest != other.digest
    np.testing.assert_allclose(one.module.pos_embed[0], mae.sin_cos_table(16, 4, 4), rtol=0, atol=1e-6)
    tokens = np.random.default_rng(0).standard_normal((2, 17, 24)).astype(np.float16)
    assert one(tokens).shape == (2, 16, 8 * 8 * 3)


def test_decoders_that_cannot_be_built(tmp_path, official, pixels):
    model = build_model(RECIPE, SIZE, tmp_path)
    encoder_only = {key: value for key, value in official.items() if not key.startswith(("decoder", "mask"))}
    torch.save({"model": encoder_only}, tmp_path / "mae_pretrain.pth")
    for weights in ("mae_pretrain.pth", "pretrained"):
        with pytest.raises(UserError, match=r"hold no decoder: .*mae_visualize_vit_base\.pth"):
            build_decoder(RECIPE.model_copy(update={"weights": weights}), model, tmp_path, heads=2)
    with pytest.raises(UserError, match="width 16 with 5 heads"):
        build_decoder(RECIPE, model, tmp_path, heads=5)
    larger = build_model(RECIPE, Size(height=48, width=48), tmp_path)
    with pytest.raises(UserError, match=r"does not fit the decoder of .* at 36 patches.*pos_embed"):
        build_decoder(RECIPE, larger, tmp_path, heads=2)
    registers = ModelRecipe(name="vit_small_patch14_reg4_dinov2", weights="random", arguments=ARGUMENTS)
    with pytest.raises(UserError, match="5 prefix tokens"):
        build_decoder(registers, build_model(registers, SIZE, tmp_path), tmp_path)


def test_tokens_of_another_set_are_refused(tmp_path, official, pixels):
    model = build_model(RECIPE, SIZE, tmp_path)
    decoder = build_decoder(RECIPE, model, tmp_path, heads=2)
    full, masked, ids = stored_tokens(model, pixels, ratio=0.75, seed=0)
    with pytest.raises(UserError, match="takes 17 tokens of 24 channels, class token included, not 16"):
        decoder(full[:, 1:], None)
    with pytest.raises(UserError, match="takes 5 tokens"):
        decoder(full, ids)
    with pytest.raises(UserError, match=r"outside of 0\.\.15"):
        decoder(masked, ids + 16)
    with pytest.raises(UserError, match="predicts 32x32 pixels"):
        decoder.targets(pixels[:, :16])


@pytest.mark.slow
def test_the_published_size_equals_the_reference(tmp_path):
    official = mae.random_weights(width=768, depth=12, patch=16, grid=14, decoder_width=512, decoder_depth=8)
    official = {key: value * 0.2 if value.ndim == 2 else value for key, value in official.items()}
    torch.save({"model": official}, tmp_path / "mae_visualize.pth")
    recipe = ModelRecipe(name="vit_base_patch16_224.mae", weights="mae_visualize.pth")
    model = build_model(recipe, Size(height=224, width=224), tmp_path)
    decoder = build_decoder(recipe, model, tmp_path)
    pixels = np.random.default_rng(0).integers(0, 256, (1, 224, 224, 3), dtype=np.uint8)
    inputs = model.normalise(torch.from_numpy(pixels).float())
    ids = visible_ids(PLACES[:1], 196, 0.75, 0)
    arrays = wanted_arrays(model, FeatureRecipe(layers=(-1,), store_dtype="float32", masked=MaskRecipe()))
    stored, _ = ModelPass(model, arrays, "float32")(torch.from_numpy(pixels).float(), PLACES[:1])
    latent = mae.encode(official, inputs, 12, ids_shuffle=torch.from_numpy(ids), n_keep=49)[1]
    visible = torch.cat([stored["prefix/mask75.seed0.block.11.norm"], stored["visible/mask75.seed0.block.11.norm"]], 1)
    np.testing.assert_allclose(visible, latent, rtol=1e-4, atol=1e-4)
    expected = mae.decode(official, latent, torch.from_numpy(ids_restore(ids, 196)), heads=16)
    np.testing.assert_allclose(decoder(visible.numpy(), ids), expected, rtol=1e-4, atol=1e-4)
    every = np.concatenate([stored["prefix/block.11.norm"], stored["tokens/block.11.norm"]], axis=1)
    expected = mae.decode(official, mae.encode(official, inputs, 12)[1], torch.arange(196)[None], heads=16)
    np.testing.assert_allclose(decoder(every), expected, rtol=1e-4, atol=1e-4)


def test_an_experiments_decoder_is_built_from_its_recipe_alone(tmp_path, official, monkeypatch):
    decoder = RECIPE.model_copy(update={"decoder": DecoderRecipe(target="normalised", heads=2)})
    made = decoder_of(decoder, SIZE, tmp_path)
    model = build_model(RECIPE, SIZE, tmp_path)
    assert made.digest == build_decoder(RECIPE, model, tmp_path, heads=2, target="normalised").digest
    assert (made.encoder, made.layer) == (model.record.weights, 2)
    drawn = DecoderRecipe(width=16, depth=1, heads=2)
    random = RECIPE.model_copy(update={"weights": "random", "decoder": drawn})
    assert len(decoder_of(random, SIZE, tmp_path).module.blocks) == 1
    monkeypatch.setattr("pipeline.models.mae_decoder.build_model", lambda *arguments: pytest.fail("it was built"))
    with pytest.raises(UserError, match=r"\(pretrained\) hold no decoder"):
        decoder_of(RECIPE.model_copy(update={"weights": "pretrained"}), SIZE, tmp_path)
    with pytest.raises(UserError, match="a module of your own, for which no decoder"):
        decoder_of(RECIPE.model_copy(update={"weights": "own"}), SIZE, tmp_path)
