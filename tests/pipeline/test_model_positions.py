"""Positions on grids the weights were not trained on: each way as the authors' code does it, and recorded."""

import numpy as np
import pytest
import timm
import torch

from pipeline.captures.table import wanted_arrays
from pipeline.extraction.model_pass.running import ModelPass
from pipeline.models import build_model
from pipeline.models.loading.position import fit_bias_table, fit_embedding
from pipeline.models.loading.weights import random_weights
from pipeline.recipe import FeatureRecipe, ModelRecipe
from stores.errors import UserError
from stores.specs import Size
from tests.pipeline.layer_comparison import SMALL, compare, pixels
from tests.pipeline.official_files import CASES, drawn, write
from tests.pipeline.reference_models.dinov2 import DINOv2, hub_positions
from tests.pipeline.reference_models.dinov3 import DINOv3


@pytest.mark.parametrize("registers", [0, 4])
@pytest.mark.parametrize("size", [Size(height=48, width=48), Size(height=24, width=64)])
def test_dinov2_on_other_grids_follows_its_hub(tmp_path, size, registers):
    """Without registers the hub does not antialias and adds 0.1; with registers it does as timm does."""
    reference = drawn(DINOv2(image=72, registers=registers))
    torch.save(dict(reference.state_dict()), tmp_path / "official.pth")
    name = "dinov2-base-reg" if registers else "dinov2-base"
    recipe = ModelRecipe(name=name, weights="official.pth", arguments={**SMALL, "num_heads": 4})
    model = build_model(recipe, size, tmp_path)
    assert model.record.position_embedding == ("timm-resample" if registers else "hub")
    compare(model, reference, pixels(size.height, size.width), atol=1e-5)


def test_dinov3_needs_no_interpolation_and_no_biases(tmp_path):
    reference = drawn(DINOv3())
    weights = dict(reference.state_dict())
    torch.save(weights, tmp_path / "official.pth")
    recipe = ModelRecipe(name="dinov3-base", weights="official.pth", arguments={**SMALL, "num_heads": 4})
    model = build_model(recipe, Size(height=24, width=56), tmp_path)
    assert model.record.position_embedding == "native"
    compare(model, reference, pixels(24, 56))
    weights["blocks.1.attn.qkv.bias"] = torch.ones(3 * 48)
    torch.save(weights, tmp_path / "official.pth")
    with pytest.raises(UserError, match=r"blocks\.1\.attn\.qkv\.bias is not zero.*dinov3_qkvb"):
        build_model(recipe, Size(height=24, width=56), tmp_path)


def test_hub_interpolation_is_torch_s_on_a_real_grid():
    """37 x 37 to 16 x 16, as DINOv2 at 224 pixels; our float64 reference is the judge of torch and of ourselves."""
    embedding = torch.randn(1, 1 + 37 * 37, 6, generator=torch.Generator().manual_seed(0))
    for grid in ((16, 16), (32, 20), (41, 37)):
        fitted, how = fit_embedding(embedding, grid, 1, "hub")
        assert how == "hub"
        np.testing.assert_allclose(fitted[0, 1:], hub_positions(embedding[0, 1:], *grid), atol=2e-5)
        assert torch.equal(fitted[:, :1], embedding[:, :1])
        assert not torch.allclose(fitted, fit_embedding(embedding, grid, 1, "timm")[0], atol=1e-2)
    assert fit_embedding(embedding, (37, 37), 1, "hub") == (embedding, "native")
    with pytest.raises(UserError, match="not a square grid"):
        fit_embedding(embedding[:, :-1], (4, 4), 1, "timm")


def test_plain_timm_names_take_the_hub_s_way_when_asked(tmp_path):
    reference = drawn(DINOv2(image=72))
    torch.save(dict(reference.state_dict()), tmp_path / "official.pth")
    recipe = ModelRecipe(
        name="vit_base_patch14_dinov2",
        weights="official.pth",
        arguments={**SMALL, "num_heads": 4},
        position_embedding="hub",
    )
    model = build_model(recipe, Size(height=48, width=48), tmp_path)
    assert model.record.position_embedding == "hub"
    compare(model, reference, pixels(48, 48), atol=1e-5)
    timms = build_model(recipe.model_copy(update={"position_embedding": None}), Size(height=48, width=48), tmp_path)
    assert timms.record.position_embedding == "timm-resample"
    assert timms.record.weights != model.record.weights


@pytest.mark.parametrize("mode", ["timm", "hub"])
def test_downloaded_weights_come_to_the_grid_in_both_ways(tmp_path, monkeypatch, mode):
    """timm's download is replaced by random weights at the model's own size; the interpolation is the real one."""
    create = timm.create_model

    def downloads(name, pretrained=False, **arguments):
        if not pretrained:
            return create(name, **arguments)
        own = create(name, **{**arguments, "img_size": 72})
        random_weights(own, 0)
        if "img_size" not in arguments:
            return own
        own.set_input_size(arguments["img_size"])
        return own

    monkeypatch.setattr(timm, "create_model", downloads)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)  # or it is refused before it is asked for
    recipe = ModelRecipe(name="dinov2-base", position_embedding=mode, arguments={**SMALL, "num_heads": 4})
    model = build_model(recipe, Size(height=48, width=48), tmp_path)
    assert model.record.position_embedding == {"timm": "timm-resample", "hub": "hub"}[mode]
    source = create("vit_base_patch14_dinov2", num_classes=0, img_size=72, **recipe.arguments)
    random_weights(source, 0)
    if mode == "hub":
        expected = hub_positions(source.pos_embed[0, 1:], 6, 6)
        np.testing.assert_allclose(model.module.pos_embed[0, 1:], expected, atol=1e-5)


def test_bias_tables_and_positions_of_other_grids_are_recorded(tmp_path):
    for kind in ("simmim", "mae", "beit-finetuned"):
        case = CASES[kind]
        write(case.save(dict(drawn(case.reference(**case.options)).state_dict())), tmp_path / "official.pth")
        recipe = ModelRecipe(name=case.name, weights="official.pth", arguments={**SMALL, "num_heads": 4})
        model = build_model(recipe, Size(height=48, width=64), tmp_path)
        assert model.grid == (6, 8)
        assert model.record.position_embedding == ("timm-resample" if kind == "mae" else "beit-resample")
        arrays = wanted_arrays(model, FeatureRecipe())
        assert torch.isfinite(ModelPass(model, arrays, "float32")(pixels(48, 64))[1]).all()
    recipe = ModelRecipe(
        name="simmim-base",
        weights="official.pth",
        position_embedding="hub",
        arguments={**SMALL, "num_heads": 4},
    )
    with pytest.raises(UserError, match="keys"):  # a fine-tuned file is not SimMIM's
        build_model(recipe.model_copy(update={"position_embedding": None}), Size(height=224, width=224), tmp_path)
    case = CASES["simmim"]
    write(case.save(dict(drawn(case.reference()).state_dict())), tmp_path / "official.pth")
    with pytest.raises(UserError, match="no absolute position embedding"):
        build_model(recipe, Size(height=224, width=224), tmp_path)


def test_bias_tables_come_to_other_grids_as_by_beit():
    """The class token's three rows stay; old distances keep their bias where they now lie; constants stay."""
    table = torch.cat([torch.full((49, 2), 0.7), torch.randn(3, 2, generator=torch.Generator().manual_seed(0))])
    fitted, how = fit_bias_table(table, (6, 8))
    assert how == "beit-resample"
    torch.testing.assert_close(fitted[:-3], torch.full(((2 * 6 - 1) * (2 * 8 - 1), 2), 0.7))
    assert torch.equal(fitted[-3:], table[-3:])
    assert fit_bias_table(table, (4, 4)) == (table, "native")

    # BEiT's positions by hand: q with 1 + q + q^2 = 7 (grid 8 from 4), and a bias that is linear in the distance.
    q = (-1 + 25**0.5) / 2
    assert q > 1.5  # beyond BEiT's bound, which then holds
    places = np.cumsum(1.5 ** np.arange(3))
    places = np.concatenate([-places[::-1], [0], places])
    linear = torch.from_numpy(places[:, None] + 10 * places[None, :]).reshape(-1, 1)
    fitted, _ = fit_bias_table(torch.cat([linear, torch.zeros(3, 1)]), (8, 8))
    wanted = np.clip(np.arange(-7, 8), places[0], places[-1])
    np.testing.assert_allclose(fitted[:-3, 0], (wanted[:, None] + 10 * wanted[None, :]).ravel(), atol=1e-4)

    # To a smaller grid the same distances keep the same bias.
    random = torch.randn(49 + 3, 2, generator=torch.Generator().manual_seed(1))
    fitted, _ = fit_bias_table(random, (3, 2))
    kept = random[:-3].unflatten(0, (7, 7))[1:6, 2:5].flatten(0, 1)
    np.testing.assert_allclose(fitted[:-3], kept, atol=1e-5)
    with pytest.raises(UserError, match="fit no square grid"):
        fit_bias_table(random[1:], (3, 2))
