"""Reconstruction from the command line: painted street scenes, a random MAE with its decoder, a page with pictures."""

import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from demo.street import write_street_world
from pipeline.models.mae_decoder import DecoderModule
from tests.pipeline.reference_models import mae
from tests.tiny_experiment import wrong

EXPERIMENT = """
seed = 0
[dataset]
name = "cityscapes"
folder = "street-world-tiny"
[frame]
tile = 32
input = 32
[features]
layers = [-1]
masked = { ratio = 0.75, seed = 0 }
input_pixels = true
[[models]]
name = "vit_tiny_patch16_224"
title = "MAE"
weights = "random"
arguments = { embed_dim = 24, depth = 3, num_heads = 2, patch_size = 8 }
decoder = { width = 16, depth = 2, heads = 2 }
[selection.train]
split = "train"
[selection.validation]
split = "val"
[[analyses]]
kind = "variance-spectrum"
top = [3]
[[analyses]]
kind = "reconstruction"
m = 6
draws = 2
pictures = 1
resamples = 20
"""


@pytest.fixture
def site(here):
    scenes = {"train": {"alpha": 1}, "val": {"beta": 2}}
    write_street_world(here / "data" / "street-world-tiny", images_per_city=scenes, size=(64, 96))
    (here / "tiny.toml").write_text(EXPERIMENT)
    return here


@pytest.mark.usefixtures("svg_alone")
def test_from_painted_scenes_to_the_page(site, run, monkeypatch):
    assert run("extract", "tiny.toml", "--batch-size", 4)[1].startswith("made    18 rows of features, 18 of labels\n")
    code, out, err = run("evaluate", "tiny.toml")
    assert (code, out.splitlines()[:2]) == (0, ["made    3 results", "reused  0 results"]), err
    table = pd.read_parquet(site / "results" / "tiny" / "results.parquet")
    mine = table[(table["analysis"] == "reconstruction") & (table["x_name"] == "mask_ratio")]
    assert set(mine["outcome"]) == {"none", "top", "random", "all-but-top"}
    assert set(mine["x_value"]) == {0.0, 0.75}
    assert mine["value"].notna().all()
    assert mine["low"].isna().all(), "two images have no interval"
    page = (site / "results" / "tiny" / "report.html").read_text()
    assert "Reconstruction with features zeroed" in page
    assert (site / "results" / "tiny" / "figures" / "reconstruction-pictures.svg").exists()

    monkeypatch.setattr("evaluate.report.writing.FIGURES", ())  # once drawn is enough
    (site / "data").rename(site / "elsewhere")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DecoderModule, "forward", lambda *arguments: pytest.fail("it was decoded again"))
        assert run("evaluate", "tiny.toml")[1].startswith("made    0 results\nreused  3 results\n")
    (site / "tiny.toml").write_text(wrong(EXPERIMENT, "m = 6", "m = 5"))
    assert run("evaluate", "tiny.toml")[1].startswith("made    2 results\nreused  1 result\n")
    (site / "tiny.toml").write_text(wrong(EXPERIMENT, "depth = 2, heads", "depth = 1, heads"))
    assert run("evaluate", "tiny.toml")[1].startswith("made    2 results\nreused  1 result\n"), "the same encoder"


def test_what_is_missing_gets_one_sentence(site, run):
    def evaluated(text):
        (site / "tiny.toml").write_text(text)
        code, _, err = run("evaluate", "tiny.toml")
        assert code == 2
        assert err.count("\n") == 1, err
        assert not (site / "results").exists(), "something was half-written"
        return err

    without = wrong(EXPERIMENT, "input_pixels = true", "input_pixels = false")
    (site / "tiny.toml").write_text(without)
    code, _, err = run("extract", "tiny.toml")
    assert code == 2
    assert "set `input_pixels = true` in [features]" in err
    assert not list((site / "store").glob("features/*")), "something was extracted"
    (site / "tiny.toml").write_text(without.partition("[[analyses]]")[0])
    assert run("extract", "tiny.toml")[0] == 0
    err = evaluated(EXPERIMENT)
    assert "inputs/pixels.bicubic is not complete" in err
    assert "set `input_pixels = true` in [features] and run `patchbank extract tiny.toml`" in err
    assert "of width 16 with 5 heads" in evaluated(
        wrong(EXPERIMENT, "heads = 2 }\n[selection", "heads = 5 }\n[selection")
    )

    weights = mae.random_weights()
    encoder = {key: value for key, value in weights.items() if not key.startswith(("decoder", "mask"))}
    torch.save({"model": encoder}, site / "mae.pth")
    text = wrong(EXPERIMENT, '"random"', '"mae.pth"')
    (site / "tiny.toml").write_text(text.partition("[[analyses]]")[0])
    assert run("extract", "tiny.toml")[0] == 0
    assert "the weights of vit_tiny_patch16_224 (mae.pth) hold no decoder" in evaluated(text)
    torch.save({"model": mae.random_weights(seed=1)}, site / "mae.pth")
    assert "encoder with other weights than set" in evaluated(text)
    (site / "mae.pth").unlink()
    assert "there are no weights at mae.pth" in evaluated(text)


def lacking(weights, key):
    return {name: value for name, value in weights.items() if name != key}


@pytest.mark.parametrize("kind", ["torch", "safetensors"])
@pytest.mark.parametrize(
    ("made", "says"),
    [
        (None, "there are no weights at mae.pth"),
        (lambda weights: {}, "mae.pth contains no weights"),
        (lambda weights: lacking(weights, "decoder_pred.weight"), "hold no decoder"),
        (lambda weights: lacking(weights, "decoder_norm.weight"), "1 key missing (such as norm.weight)"),
        (lambda weights: weights | {"decoder_pos_embed": torch.zeros(1, 5, 16)}, "1 key of another shape"),
        (lambda weights: weights | {"decoder_blocks.7.x": torch.zeros(1)}, "(such as blocks.2.attn.proj.bias"),
    ],
)
def test_a_decoder_that_does_not_fit_is_said_before_any_model_runs(site, run, monkeypatch, kind, made, says):
    monkeypatch.setattr(
        "pipeline.extraction.model_pass.running.ModelPass.__call__", lambda *arguments: pytest.fail("a model ran")
    )
    (site / "tiny.toml").write_text(wrong(EXPERIMENT, '"random"', '"mae.pth"'))
    if made is not None and kind == "torch":
        torch.save({"model": made(mae.random_weights())}, site / "mae.pth")
    elif made is not None:
        save_file(made(mae.random_weights()), site / "mae.pth")
    for command in ("plan", "extract"):
        code, _, err = run(command, "tiny.toml")
        assert code == 2
        assert says in err
        assert "`patchbank evaluate` would refuse tiny.toml: " in err
        assert err.count("\n") == 1, err
    assert not list((site / "store").glob("features/*"))


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('"random"', '"pretrained"', "(pretrained) hold no decoder"),
        ("depth = 2, heads = 2 }", "depth = 2, heads = 5 }", "of width 16 with 5 heads"),
    ],
)
def test_a_decoder_that_cannot_be_is_said_before_any_model_runs(site, run, old, new, says):
    (site / "tiny.toml").write_text(wrong(EXPERIMENT, old, new))
    for command in ("plan", "extract"):
        code, _, err = run(command, "tiny.toml")
        assert (code, says in err) == (2, True), err
    assert not list((site / "store").glob("features/*"))
