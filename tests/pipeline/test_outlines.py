"""Models without the values of their weights: the same shapes, and plans that need no more."""

import dataclasses

import pytest

from pipeline.captures.table import wanted_arrays
from pipeline.extraction import run
from pipeline.extraction.compute import Compute
from pipeline.extraction.plan import plan_models
from pipeline.models import build_model, build_on_meta
from pipeline.models.known import KNOWN
from pipeline.models.loading.presence import is_offline_and_uncached
from pipeline.recipe import FeatureRecipe, ModelRecipe
from stores import Store
from stores.errors import UserError
from stores.specs import Size
from tests.pipeline.tiny import recipe, write_camvid

SIZE = Size(height=64, width=64)
SMALL = {"embed_dim": 24, "depth": 3, "num_heads": 2, "patch_size": 8}
RECIPES = [
    *(ModelRecipe(name=name, weights="random", arguments=SMALL) for name in ("mae-base", "dinov2-small", "beit-base")),
    ModelRecipe(name="scalemae-large", weights="random", arguments=SMALL),
    ModelRecipe(name="test_vit", weights="random"),
    ModelRecipe(name="test_convnext", weights="random"),
]


@pytest.mark.parametrize("asked", RECIPES, ids=lambda asked: asked.name)
def test_an_outline_is_the_model_but_for_the_values(tmp_path, asked):
    model, outline = build_model(asked, SIZE, tmp_path), build_on_meta(asked, SIZE, tmp_path)
    told = FeatureRecipe(norm="none")
    assert wanted_arrays(outline, told) == wanted_arrays(model, told)
    values, shapes = model.module.state_dict(), outline.module.state_dict()
    assert all(value.is_meta for value in shapes.values())
    assert {name: (value.shape, value.dtype) for name, value in shapes.items()} == {
        name: (value.shape, value.dtype) for name, value in values.items()
    }
    same = outline.record.model_copy(update={"weights": model.record.weights})
    assert same == model.record
    assert outline.record.weights != model.record.weights
    assert outline.record.weights == build_on_meta(asked, SIZE, tmp_path).record.weights


@pytest.mark.parametrize("name", KNOWN)
def test_every_known_model_has_an_outline(tmp_path, name):
    known = KNOWN[name]
    side = 8 * known.patch
    outline = build_on_meta(ModelRecipe(name=name), Size(height=side, width=side), tmp_path)
    assert (outline.grid, outline.width, outline.n_prefix) == ((8, 8), known.width, known.n_prefix)
    assert len(outline.blocks) == known.depth


def test_what_is_asked_wrongly_is_refused_all_the_same(tmp_path):
    for wrong, says in (
        (ModelRecipe(name="tset_vit"), "did you mean test_vit"),
        (ModelRecipe(name="mae-base", arguments={"depht": 3}), "cannot be built with"),
        (ModelRecipe(name="scalemae-large", arguments={"depht": 3}), "has no argument 'depht'"),
    ):
        with pytest.raises(UserError, match=says):
            build_on_meta(wrong, SIZE, tmp_path)


def test_a_plan_without_weights_tells_what_one_with_them_does(tmp_path, monkeypatch):
    write_camvid(tmp_path / "data" / "camvid")
    where = run.Workspace(Store(tmp_path / "store"), tmp_path / "data", tmp_path)
    compute = Compute("cpu", batch_size=4, threads=1)
    drawn, absent = (recipe(ModelRecipe(name="test_vit", weights=weights)) for weights in ("random", "gone.pth"))
    samples = run.read_samples(drawn, where)
    (here,) = plan_models(drawn, where, samples, compute, timed=False)
    (timed,) = plan_models(absent, where, samples, compute)
    assert timed.seconds_per_row > 0, "a model that is timed has values"
    monkeypatch.setattr("pipeline.models.loading.weights.np.random.PCG64", None)  # nothing can be drawn any more
    (gone,) = plan_models(absent, where, samples, compute, timed=False)
    assert (gone.state, gone.set) == ("weights not found", None)
    assert gone == dataclasses.replace(here, state=gone.state, set=None)


def test_offline_a_cache_that_knows_nothing_of_the_weights_is_not_asked(tmp_path, monkeypatch):
    name = "vit_base_patch16_224.mae"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    assert not is_offline_and_uncached(name), "there is the network"
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert is_offline_and_uncached(name)
    monkeypatch.setattr("pipeline.models.timm_vit.timm.create_model", None)
    with pytest.raises(UserError, match=r"mae-base are not in the local cache .* \(HF_HUB_OFFLINE is set\)"):
        build_model(ModelRecipe(name="mae-base"), SIZE, tmp_path)
    (tmp_path / "models--timm--vit_base_patch16_224.mae").mkdir()
    assert not is_offline_and_uncached(name)
    assert not is_offline_and_uncached("vit_tiny_patch16_224.mine"), "what timm does not know, timm shall judge"
