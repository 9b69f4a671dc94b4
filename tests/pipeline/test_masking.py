"""Masked captures: which patches are seen depends on the sample alone, and the tokens are those of MAE's encoder."""

import numpy as np
import pytest
import torch
import xarray

from pipeline.captures.table import wanted_arrays
from pipeline.extraction import run
from pipeline.extraction.compute import Compute
from pipeline.extraction.model_pass.running import ModelPass
from pipeline.extraction.options import ExtractOptions
from pipeline.models import build_model
from pipeline.recipe import FeatureRecipe, MaskRecipe, ModelRecipe
from pipeline.rows.masking import visible_ids
from pipeline.source_choice import ALL_SOURCES, SourceChoice
from stores import Store
from stores.errors import UserError
from stores.specs import FrameSpec, Size
from tests.pipeline.reference_models import mae
from tests.pipeline.tiny import recipe, write_camvid

SIZE = Size(height=32, width=32)
ARGUMENTS = {"embed_dim": 24, "depth": 3, "num_heads": 2, "patch_size": 8}
PLACES = [("a.png", (0, 0, 32, 32)), ("a.png", (32, 0, 64, 32)), ("b.png", (0, 0, 32, 32))]
TITLE = "mask75.seed0"


@pytest.fixture
def official(tmp_path):
    weights = mae.random_weights()
    torch.save({"model": weights}, tmp_path / "mae_visualize.pth")
    recipe = ModelRecipe(name="vit_tiny_patch16_224", weights="mae_visualize.pth", arguments=ARGUMENTS)
    return weights, build_model(recipe, SIZE, tmp_path)


@pytest.fixture
def pixels():
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3)).astype(np.float32))


def test_encoder_layers_equal_the_reference(official, pixels):
    """Every layer, class token included, in grid order: nothing is shuffled when nothing is masked."""
    weights, model = official
    stored, _ = ModelPass(model, wanted_arrays(model, FeatureRecipe(norm="both", store_dtype="float32")), "float32")(
        pixels
    )
    layers, normed = mae.encode(weights, model.normalise(pixels), heads=2)
    for number, expected in enumerate(layers):
        np.testing.assert_allclose(stored[f"tokens/block.{number}"], expected[:, 1:], rtol=0, atol=1e-5)
        np.testing.assert_allclose(stored[f"prefix/block.{number}"], expected[:, :1], rtol=0, atol=1e-5)
    np.testing.assert_allclose(stored["tokens/block.2.norm"], normed[:, 1:], rtol=0, atol=1e-5)


def test_masked_tokens_equal_the_reference_on_the_same_patches(official, pixels):
    weights, model = official
    features = FeatureRecipe(layers=(-1,), store_dtype="float32", masked=MaskRecipe())
    arrays = wanted_arrays(model, features)
    assert [array.name for array in arrays] == [
        "tokens/block.2.norm",
        "prefix/block.2.norm",
        f"visible/{TITLE}.ids",
        f"visible/{TITLE}.block.2.norm",
        f"prefix/{TITLE}.block.2.norm",
    ]
    stored, sums = ModelPass(model, arrays, "float32")(pixels, PLACES)
    assert torch.isfinite(sums).all()
    ids = stored[f"visible/{TITLE}.ids"]
    assert ids.dtype == torch.int32
    np.testing.assert_array_equal(ids, visible_ids(PLACES, 16, 0.75, 0))
    assert len({tuple(row.tolist()) for row in ids}) == 3
    _, normed = mae.encode(weights, model.normalise(pixels), 2, ids_shuffle=ids.long(), n_keep=4)
    np.testing.assert_allclose(stored[f"visible/{TITLE}.block.2.norm"], normed[:, 1:], rtol=0, atol=1e-5)
    np.testing.assert_allclose(stored[f"prefix/{TITLE}.block.2.norm"], normed[:, :1], rtol=0, atol=1e-5)
    plain, _ = ModelPass(model, arrays[:2], "float32")(pixels)
    assert all(torch.equal(plain[name], stored[name]) for name in plain), "the full pass must not notice the mask"
    assert not model.blocks[0]._forward_pre_hooks


def test_ids_depend_on_the_sample_alone():
    together = visible_ids(PLACES, 196, 0.75, 0)
    assert together.shape == (3, 49)
    assert (np.diff(together, axis=1) > 0).all()
    for row, place in enumerate(PLACES):
        np.testing.assert_array_equal(visible_ids([place], 196, 0.75, 0)[0], together[row])
    np.testing.assert_array_equal(visible_ids(PLACES[::-1], 196, 0.75, 0), together[::-1])
    assert (visible_ids(PLACES, 196, 0.75, 1) != together).any()


def test_ids_are_golden():
    """Stored masks must survive numpy upgrades: the stream of PCG64's raw bits is guaranteed."""
    assert visible_ids([("a.png", (0, 0, 32, 32))], 16, 0.75, 0).tolist() == [[0, 5, 6, 9]]


def test_every_patch_is_as_likely_as_any_other():
    places = [(f"{number}.png", (0, 0, 1, 1)) for number in range(4000)]
    counts = np.bincount(visible_ids(places, 16, 0.75, 0).ravel(), minlength=16)
    # Binomial(4000, 1/4): standard deviation 27.
    assert abs(counts - 1000).max() < 4 * 27.4


def test_extracted_masks_do_not_depend_on_batches_order_or_workers(tmp_path):
    write_camvid(tmp_path / "data" / "camvid", n_train=3, n_val=2)
    model = ModelRecipe(name="vit_tiny_patch16_224", weights="random", arguments=ARGUMENTS)
    features = FeatureRecipe(layers=(-1,), masked=MaskRecipe(ratio=0.5, seed=7))
    wanted = recipe(model, frame=FrameSpec(input=32, tile=32, edge="shift-last"), features=features)
    made = []
    for number, (batch, workers, choice) in enumerate(
        [(4, 1, ALL_SOURCES), (3, 3, ALL_SOURCES), (5, 2, SourceChoice(lambda table: table["source"][2:]))]
    ):
        where = run.Workspace(Store(tmp_path / str(number)), tmp_path / "data", tmp_path)
        compute = Compute("cpu", batch_size=batch, threads=1)
        done = run.extract_recipe(wanted, where, compute, ExtractOptions(workers), choice=choice).outcomes[0].set
        places = zip(done.samples["source"], done.samples["left"], done.samples["top"], strict=True)
        ids = done["visible/mask50.seed7.ids"][:]
        assert ids.dtype == np.int32
        made.append(dict(zip(places, ids.tolist(), strict=True)))
    assert made[0] == made[1]
    assert len(made[2]) < len(made[0])
    assert made[2].items() <= made[0].items()
    with xarray.open_zarr(where.store.objects.url + "/" + done.prefix + "/visible", consolidated=False) as visible:
        assert visible["mask50.seed7.block.2.norm"].dims == ("sample", "visible_8", "channel")
    assert done.arrays["visible/mask50.seed7.ids"].attributes["mask_seed"] == 7


def test_a_mask_is_added_to_a_finished_set_without_a_second_full_pass(tmp_path, monkeypatch):
    write_camvid(tmp_path / "data" / "camvid", n_train=1, n_val=1)
    model = ModelRecipe(name="vit_tiny_patch16_224", weights="random", arguments=ARGUMENTS)
    where = run.Workspace(Store(tmp_path / "store"), tmp_path / "data", tmp_path)
    compute = Compute("cpu", batch_size=4, threads=1)

    def extract(masked):
        features = FeatureRecipe(layers=(-1,), masked=masked)
        return run.extract_recipe(recipe(model, features=features), where, compute).outcomes[0].set

    plain = extract(None)
    monkeypatch.setattr(ModelPass, "_full", lambda *arguments: pytest.fail("the stored arrays were made again"))
    masked = extract(MaskRecipe())
    assert masked.digest == plain.digest
    assert {name: masked.content[name] for name in plain.content} == plain.content
    assert masked.sealed(f"visible/{TITLE}.block.2.norm")


def test_masks_that_make_no_sense_are_refused(tmp_path, official):
    _, model = official
    with pytest.raises(UserError, match="leaves no visible patch of 16"):
        wanted_arrays(model, FeatureRecipe(masked=MaskRecipe(ratio=0.99)))
    arguments = {"embed_dim": 24, "depth": 2, "num_heads": 2}
    inside = build_model(
        ModelRecipe(name="beit_base_patch16_224", weights="random", arguments=arguments), SIZE, tmp_path
    )
    with pytest.raises(UserError, match="cannot run on a part of its patches"):
        wanted_arrays(inside, FeatureRecipe(masked=MaskRecipe()))
