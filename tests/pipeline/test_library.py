"""Extraction from Python: a module of one's own, described and stored."""

import numpy as np
import pytest
import torch
from torch import nn

import stores
from pipeline.library import extract
from pipeline.models import build_model
from pipeline.models.own_module import own_model
from pipeline.recipe import ModelRecipe
from stores.errors import MissingError, UserError
from stores.specs import Size
from tests.pipeline.tiny import write_camvid

TABLES = {
    "dataset": {"name": "camvid"},
    "frame": {"tile": 32, "input": 32, "edge": "shift-last"},
    "features": {"norm": "both", "store_dtype": "float32"},
}


class Tiny(nn.Module):
    """A convolution, two token mixers and a norm, with a class token."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.patches = nn.Conv2d(3, 12, 8, 8)
        self.token = nn.Parameter(torch.randn(1, 1, 12))
        self.mixers = nn.ModuleList(nn.Linear(12, 12) for _ in range(2))
        self.norm = nn.LayerNorm(12)
        self.unused = nn.Linear(12, 1)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], dim=1)
        for mixer in self.mixers:
            x = x + mixer(x).tanh()
        return self.norm(x)


@pytest.fixture
def data(tmp_path):
    write_camvid(tmp_path / "data" / "camvid")
    return {"data": tmp_path / "data", "store": tmp_path / "store"}


def described(net, **changes):
    options = {"layers": ["mixers.0", "mixers.1"], "input": 32, "n_prefix": 1, "norm": "norm", **changes}
    return own_model(net, name="tiny-net", **options)


def test_layers_of_an_own_module_are_its_outputs(data):
    net = Tiny()
    [made] = extract(TABLES, model=described(net), **data)
    assert sorted(made.arrays) == [
        *(
            f"{group}/block.{layer}{norm}"
            for group in ("prefix", "tokens")
            for layer in (0, 1)
            for norm in ("", ".norm")
        ),
    ]
    assert made.sealed("tokens/block.1.norm")
    assert made.spec.model.family == "own"
    row = made.samples.iloc[5]
    from PIL import Image

    image = Image.open(data["data"] / "camvid" / row["source"]).convert("RGB")
    tile = np.asarray(image.crop((row["left"], row["top"], row["right"], row["bottom"]))) / 255.0
    pixels = (tile - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])
    kept = {}
    hook = net.mixers[1].register_forward_hook(lambda module, inputs, output: kept.update(out=output))
    with torch.inference_mode():
        net(torch.from_numpy(pixels).float().permute(2, 0, 1)[None])
        normed = net.norm(kept["out"])[0].numpy()
    hook.remove()
    np.testing.assert_allclose(made["block.1.norm"][5], normed[1:], atol=1e-5)
    np.testing.assert_allclose(made["prefix/block.1.norm"][5], normed[:1], atol=1e-5)


def test_a_second_extraction_finds_everything_and_other_weights_another_set(data):
    [first] = extract(TABLES, model=described(Tiny()), **data)

    class Explodes(Tiny):
        calls = 0

        def forward(self, x):
            type(self).calls += 1
            assert self.calls == 1, "the description runs it once, the extraction must not"
            return super().forward(x)

    [again] = extract(TABLES, model=described(Explodes()), **data)
    assert again.digest == first.digest
    other = Tiny()
    nn.init.ones_(other.norm.bias)
    [changed] = extract(TABLES, model=described(other), **data)
    assert changed.digest != first.digest


def test_maps_become_patch_tokens(data):
    net = nn.Sequential(nn.Conv2d(3, 5, 4, 4), nn.ReLU(), nn.Conv2d(5, 7, 2, 2))
    model = own_model(net, name="maps", layers=["1", "2"], input=32)
    [made] = extract({**TABLES, "features": {}}, model=model, **data)
    assert made["stage.0"].shape[1:] == (64, 5)
    assert made["stage.1"].shape[1:] == (16, 7)


def test_an_experiment_file_is_read_and_the_command_evaluates_it(data, tmp_path, monkeypatch):
    from commands.evaluate import evaluate
    from tests.tiny_experiment import EXPERIMENT

    path = tmp_path / "own.toml"
    path.write_text(EXPERIMENT.replace('name = "test_vit"\nweights = "random"', 'name = "tiny-net"\nweights = "own"'))
    with pytest.raises(UserError, match="extract it from Python"):
        extract(path, **data)
    extract(path, model=described(Tiny()), **data)
    evaluate(path, store=str(data["store"]), results=tmp_path / "results")
    assert (tmp_path / "results" / "own" / "report.html").exists()


def test_any_built_model_can_be_handed_in(data, tmp_path):
    model = build_model(ModelRecipe(name="test_vit", weights="random"), Size(height=32, width=32), tmp_path)
    [made] = extract(TABLES, model=model, **data)
    assert stores.open(made.digest, data["store"]).spec == made.spec


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"layers": ["mixers.7"]}, "has no submodule 'mixers.7': it has patches, mixers"),
        ({"layers": []}, "no layer of tiny-net is named"),
        ({"layers": ["unused"]}, "is not called by"),
        ({"n_prefix": 0}, "form no grid"),
        ({"layers": ["patches"]}, "gives a map, which has no prefix tokens"),
    ],
)
def test_descriptions_that_do_not_fit_say_so(changes, sentence):
    with pytest.raises(UserError, match=sentence):
        described(Tiny(), **changes)


def test_what_does_not_fit_the_experiment_says_so(data, tmp_path):
    with pytest.raises(UserError, match="described for inputs of 32x32 pixels, not for 64x64"):
        extract({**TABLES, "frame": {"tile": 32, "input": 64}}, model=described(Tiny()), **data)
    with pytest.raises(UserError, match="frame of the experiment: field required"):
        extract({"dataset": {"name": "camvid"}}, model=described(Tiny()), **data)
    with pytest.raises(MissingError, match="there is no experiment file"):
        extract(tmp_path / "none.toml", model=described(Tiny()), **data)


class AddsInPlace(nn.Module):
    """As residual blocks of torchvision: the captured output is changed by what follows."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 8, 8), nn.Conv2d(8, 8, 1)

    def forward(self, x):
        x = self.first(x)
        out = self.second(x)
        out += x
        return out


@pytest.mark.parametrize(
    ("make", "layer"),
    [
        (lambda: nn.Sequential(nn.Conv2d(3, 8, 8, 8), nn.ReLU(inplace=True)), "0"),
        (AddsInPlace, "second"),
    ],
)
def test_what_follows_a_layer_does_not_change_it(data, make, layer):
    torch.manual_seed(0)
    net = make()
    seen = []
    net.get_submodule(layer).register_forward_hook(lambda module, inputs, output: seen.append(output.clone()))
    model = own_model(net, name="in-place", layers=[layer], input=32)
    seen.clear()
    [made] = extract({**TABLES, "features": {"store_dtype": "float32"}}, model=model, **data)
    whole = torch.cat(seen)[: len(made.samples)]  # the last batch is padded
    np.testing.assert_array_equal(made["stage.0"][:], whole.flatten(2).transpose(1, 2).numpy())


class ChannelsLast(nn.Module):
    """A map (sample, row, column, channel), as Swin's stages give."""

    def __init__(self, width):
        super().__init__()
        torch.manual_seed(0)
        self.patches, self.stage = nn.Conv2d(3, width, 8, 8), nn.Linear(width, width)

    def forward(self, x):
        return self.stage(self.patches(x).permute(0, 2, 3, 1))


def test_maps_with_channels_last_are_read_as_such(data):
    net = ChannelsLast(6)
    model = own_model(net, name="last", layers=["stage"], input=32)
    [made] = extract({**TABLES, "features": {"store_dtype": "float32"}}, model=model, **data)
    assert made["stage.0"].shape[1:] == (16, 6)
    assert model.layers[0].grid == (4, 4)
    assert made.spec.model.arguments["channels_last"] == "stage"
    given = own_model(net, name="last", layers=["stage"], input=32, layout="channels-last")
    assert given.record == model.record


def test_a_layout_that_cannot_be_told_is_asked_for():
    net = ChannelsLast(4)
    with pytest.raises(UserError, match=r"stage of last gives \(1, 4, 4, 4\), and which axis .* set layout"):
        own_model(net, name="last", layers=["stage"], input=32)
    given = [
        own_model(net, name="last", layers=["stage"], input=32, layout=f"channels-{one}") for one in ("first", "last")
    ]
    ones = torch.randn(2, 3, 32, 32)
    tokens = [model.tokens(ones, [0])[0] for model in given]
    torch.testing.assert_close(tokens[1], net(ones).flatten(1, 2))
    assert not torch.equal(*tokens)
    assert given[0].record != given[1].record
    with pytest.raises(UserError, match="layout = 'NHWC' is unknown"):
        own_model(net, name="last", layers=["stage"], input=32, layout="NHWC")
    oblong = own_model(ChannelsLast(4), name="last", layers=["stage"], input=Size(height=32, width=64))
    assert oblong.layers[0].grid == (4, 8)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_modules_of_half_precision(data, dtype):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 6, 8, 8), nn.Conv2d(6, 5, 1)).to(dtype)
    again = nn.Sequential(nn.Conv2d(3, 6, 8, 8), nn.Conv2d(6, 5, 1))
    again.load_state_dict(net.state_dict())
    tables = {**TABLES, "features": {"store_dtype": "float32"}}
    [made] = extract(tables, model=own_model(net, name="half", layers=["1"], input=32), **data)
    [same] = extract(tables, model=own_model(again, name="whole", layers=["1"], input=32), **data)
    np.testing.assert_array_equal(made["stage.0"][:], same["stage.0"][:])


def test_a_second_precision_starts_from_the_module_s_own_weights(data, tmp_path):
    net = Tiny()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    half = TABLES | {"features": TABLES["features"] | {"compute_dtype": "bfloat16"}}
    extract(half, model=described(net), **data)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    [made] = extract(TABLES, model=described(net), **data)
    [fresh] = extract(TABLES, model=described(Tiny()), data=data["data"], store=tmp_path / "fresh")
    np.testing.assert_array_equal(made["block.1.norm"][:], fresh["block.1.norm"][:])


def test_a_submodule_that_runs_twice_is_no_layer():
    shared = nn.ReLU()
    net = nn.Sequential(nn.Conv2d(3, 6, 8, 8), shared, nn.Conv2d(6, 4, 1), shared)
    with pytest.raises(UserError, match="1 of shared is called several times"):
        own_model(net, name="shared", layers=["1"], input=32)


def test_a_module_that_cannot_run_says_so():
    with pytest.raises(UserError, match="flat cannot be run on an input of 32x32 pixels"):
        own_model(nn.Sequential(nn.Linear(5, 2)), name="flat", layers=["0"], input=32)
