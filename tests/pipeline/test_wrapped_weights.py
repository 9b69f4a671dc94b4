"""Weights are found in whatever a training code wrapped them in, and what was read is recorded."""

import hashlib
from pathlib import Path

import pytest
import safetensors.torch
import torch

from pipeline.extraction import run
from pipeline.extraction.compute import Compute
from pipeline.models import build_model
from pipeline.recipe import ModelRecipe
from stores import Store
from stores.errors import MissingError, UserError
from stores.specs import Size
from tests.pipeline import tiny

SIZE = Size(height=32, width=32)


@pytest.fixture(scope="module")
def state():
    return build_model(ModelRecipe(name="test_vit", weights="random", seed=5), SIZE, Path()).module.state_dict()


def drawn(state, seed):
    generator = torch.Generator().manual_seed(seed)
    return {key: torch.randn(value.shape, generator=generator) for key, value in state.items()}


def under(prefix, state):
    return {f"{prefix}{key}": value for key, value in state.items()}


def built(tmp_path, content, **settings):
    path = tmp_path / "w.pth"
    torch.save(content, path)
    return build_model(ModelRecipe(name="test_vit", weights=str(path), **settings), SIZE, tmp_path)


WRAPPINGS = {
    "lightning": (lambda s: {"state_dict": under("model.", s), "epoch": 3}, "state_dict.model."),
    "lightning-module": (lambda s: {"state_dict": under("net.backbone.", s)}, "state_dict.net.backbone."),
    "vit": (lambda s: under("vit.", s), "vit."),
    "compiled": (lambda s: {"model": under("_orig_mod.", s)}, "model._orig_mod."),
    "compiled-parallel": (lambda s: under("module._orig_mod.", s), "module._orig_mod."),
    "net": (lambda s: {"net": s, "acc": 0.5}, "net."),
    "model_state_dict": (lambda s: {"model_state_dict": s, "optimizer_state_dict": {}}, "model_state_dict."),
    "teacher-backbone": (
        lambda s: {**under("student.backbone.", drawn(s, 1)), **under("teacher.backbone.", s)},
        "teacher.backbone.",
    ),
    "moco": (
        lambda s: {
            "state_dict": {**under("module.momentum_encoder.", drawn(s, 1)), **under("module.base_encoder.", s)}
        },
        "state_dict.module.base_encoder.",
    ),
    "with-a-head": (
        lambda s: {"model": {**s, "head.weight": torch.ones(3, 4)}, "optimizer": {"a": torch.ones(2)}},
        "model.",
    ),
    "plain": (lambda s: s, "all keys"),
}


@pytest.mark.parametrize("name", WRAPPINGS)
def test_known_wrappings_are_unwrapped_and_named(tmp_path, state, name):
    wrap, read = WRAPPINGS[name]
    model = built(tmp_path, wrap(state))
    assert all(torch.equal(model.module.state_dict()[key], value) for key, value in state.items())
    sha256 = hashlib.sha256((tmp_path / "w.pth").read_bytes()).hexdigest()
    assert model.origin == {"file": "w.pth", "sha256": sha256, "read": read}


def test_a_moving_average_is_asked_for(tmp_path, state):
    average = drawn(state, 2)
    content = {"state_dict": state, "state_dict_ema": average}
    with pytest.raises(
        UserError, match=r"'state_dict\.'\) and their moving average \('state_dict_ema\.'\): set use_ema"
    ):
        built(tmp_path, content)
    for use_ema, wanted in ((True, average), (False, state)):
        model = built(tmp_path, content, use_ema=use_ema)
        assert torch.equal(model.module.state_dict()["pos_embed"], wanted["pos_embed"])
    with pytest.raises(UserError, match="holds no moving average"):
        built(tmp_path, state, use_ema=True)
    assert built(tmp_path, {"ema": average}).origin["read"] == "ema."
    with pytest.raises(UserError, match="moving averages of the weights alone"):
        built(tmp_path, {"ema": average}, use_ema=False)


def test_several_weights_need_a_prefix(tmp_path, state):
    other = drawn(state, 2)
    content = {"first": state, "second": other}
    with pytest.raises(UserError, match=r"under 'first\.' and 'second\.': set key_prefix"):
        built(tmp_path, content)
    model = built(tmp_path, content, key_prefix="second.")
    assert torch.equal(model.module.state_dict()["pos_embed"], other["pos_embed"])
    with pytest.raises(UserError, match=r"no key in .*w\.pth begins with 'third\.'; the first is 'first\."):
        built(tmp_path, content, key_prefix="third.")
    assert built(tmp_path, {"first": state, "same": dict(state)}).origin["read"] in ("first.", "same.")


def test_settings_of_files_belong_to_files():
    for settings in ({"key_prefix": "model."}, {"use_ema": True}):
        with pytest.raises(ValueError, match="belongs to weights from a file"):
            ModelRecipe(name="test_vit", weights="random", **settings)


@pytest.mark.timeout(60)
def test_dictionaries_that_hold_themselves_end(tmp_path, state):
    content = dict(state)
    content["model"] = content
    torch.save(content, tmp_path / "w.pth", _use_new_zipfile_serialization=False)
    recipe = ModelRecipe(name="test_vit", weights=str(tmp_path / "w.pth"))
    assert torch.equal(build_model(recipe, SIZE, tmp_path).module.state_dict()["pos_embed"], state["pos_embed"])
    empty: dict = {}
    empty["model"] = empty
    torch.save(empty, tmp_path / "w.pth", _use_new_zipfile_serialization=False)
    with pytest.raises(UserError, match="contains no weights"):
        build_model(recipe, SIZE, tmp_path)
    doubled: dict = {"a": torch.ones(1)}
    for _ in range(60):
        doubled = {"left": doubled, "right": doubled}
    torch.save(doubled, tmp_path / "w.pth")
    with pytest.raises(UserError, match="does not fit test_vit"):
        build_model(recipe, SIZE, tmp_path)


def test_expanded_tensors_are_read(tmp_path, state):
    first = state["pos_embed"][:, :1]
    expanded = {**state, "pos_embed": first.expand(-1, state["pos_embed"].shape[1], -1)}
    model = built(tmp_path, expanded)
    assert torch.equal(model.module.state_dict()["pos_embed"], expanded["pos_embed"])


def test_a_safetensors_file_is_read_under_any_name(tmp_path, state):
    safetensors.torch.save_file({key: value.contiguous() for key, value in state.items()}, tmp_path / "model.bin")
    model = build_model(ModelRecipe(name="test_vit", weights="model.bin"), SIZE, tmp_path)
    assert model.origin["file"] == "model.bin"
    torch.save(state, tmp_path / "model.safetensors")
    build_model(ModelRecipe(name="test_vit", weights="model.safetensors"), SIZE, tmp_path)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n", "a pointer of git-lfs.*git lfs pull"),
        (b"\n<!DOCTYPE html><html>404</html>", "is a web page and not weights"),
        (b"<html>", "is a web page and not weights"),
    ],
)
@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
def test_what_is_no_file_of_weights_is_called_what_it_is(tmp_path, content, sentence, name):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=sentence):
        build_model(ModelRecipe(name="test_vit", weights=name), SIZE, tmp_path)


def test_a_name_that_is_too_long_is_refused_in_one_sentence(tmp_path):
    with pytest.raises(UserError, match=r"cannot be read \(File name too long\): check `weights`"):
        build_model(ModelRecipe(name="test_vit", weights="a" * 5000), SIZE, tmp_path)
    with pytest.raises(MissingError, match="there are no weights"):
        build_model(ModelRecipe(name="test_vit", weights="none.pth"), SIZE, tmp_path)


@pytest.mark.parametrize("name", ["test_vit", "mae-base", "resnet18"])
@pytest.mark.parametrize(
    "argument",
    ["checkpoint_path", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir", "features_only", "url"],
)
def test_arguments_load_no_file(tmp_path, name, argument):
    """`checkpoint_path` ran pickles with timm 1.0.24, and gives other weights than `weights` says."""
    torch.save({}, tmp_path / "evil.pth")
    recipe = ModelRecipe(name=name, weights="random", arguments={argument: str(tmp_path / "evil.pth")})
    with pytest.raises(UserError, match=rf"{name} cannot be built with {argument} = .*weights are named by `weights`"):
        build_model(recipe, SIZE, tmp_path)


@pytest.mark.parametrize("arguments", [{"num_heads": 0}, {"act_layer": "os.system"}, {"norm_layer": "nothing"}])
def test_arguments_that_make_no_model_are_refused_in_one_sentence(tmp_path, arguments):
    with pytest.raises(UserError, match="test_vit can"):
        build_model(ModelRecipe(name="test_vit", weights="random", arguments=arguments), SIZE, tmp_path)


@pytest.mark.parametrize("settings", [{"mean": (float("nan"), 0.5, 0.5)}, {"std": (float("inf"), 1.0, 1.0)}])
def test_statistics_are_finite_numbers(settings):
    with pytest.raises(ValueError, match="finite"):
        ModelRecipe(name="test_vit", weights="random", **settings)
    with pytest.raises(ValueError, match="arguments must be finite"):
        ModelRecipe(name="test_vit", weights="random", arguments={"init_values": float("nan")})


def test_what_was_read_stands_in_the_provenance_of_the_set(tmp_path, state):
    tiny.write_camvid(tmp_path / "data" / "camvid", n_train=1, n_val=1)
    torch.save({"state_dict": under("model.", state)}, tmp_path / "w.pth")
    recipe = tiny.recipe(ModelRecipe(name="test_vit", weights="w.pth"))
    where = run.Workspace(Store(tmp_path / "store"), tmp_path / "data", tmp_path)
    made = run.extract_recipe(recipe, where, Compute("cpu", 4, 1)).outcomes[0].set
    assert made.provenance["weights"]["read"] == "state_dict.model."
    assert made.provenance["weights"]["file"] == "w.pth"
