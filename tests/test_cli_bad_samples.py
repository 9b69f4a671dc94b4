"""Bad samples and dead features as a user meets them: the whole chain of commands, and the sentences."""

import json
import re

import pandas as pd
import pytest
import safetensors.torch
import timm
import torch

from tests.tiny_experiment import EXPERIMENT, wrong

KEEP = wrong(EXPERIMENT, 'name = "camvid"', 'name = "camvid"\nbad_samples = "keep-invalid"')
BAD = "train/0001TP_train001.png"


def truncate(site, name=BAD):
    path = site / "data" / "camvid" / name
    path.write_bytes(path.read_bytes()[:-200])


@pytest.mark.slow
@pytest.mark.usefixtures("svg_alone")
def test_a_kept_bad_image_is_told_of_by_every_command(site, run):
    truncate(site)
    code, _, err = run("extract", "tiny.toml")
    assert code == 2
    assert f"data/camvid/{BAD} cannot be read as an image" in err
    assert err.strip().splitlines()[-1].endswith("fetch it again or remove it")

    (site / "tiny.toml").write_text(KEEP)
    code, out, _ = run("plan", "tiny.toml", "--no-time")
    assert code == 0
    assert f"note: 1 of 6 images are bad and kept as invalid: {BAD} cannot be read as an image (" in out
    code, out, err = run("extract", "tiny.toml", "--batch-size", 4)
    assert code == 0
    # A range of the first try may have been complete before the bad image was met: its rows are taken over.
    made = int(re.match(r"made    (\d+) rows of features, 24 of labels", out.splitlines()[0])[1])
    taken = re.search(r"taken   (\d+) rows", out)
    assert made + (int(taken[1]) if taken else 0) == 24
    assert "4 rows are invalid and left out by every analysis: `patchbank show " in err

    code, out, _ = run("evaluate", "tiny.toml")
    assert code == 0
    found = pd.read_csv(site / "results" / "tiny" / "results.csv")
    counted = found[found["metric"] == "invalid_rows"]
    assert list(counted["analysis"]) == ["variance-spectrum", "patch-classification", "label-maps"]
    assert set(counted["value"]) == {4}
    assert set(counted["n_units"]) == {24}
    assert "2 images" in set(found["train"].dropna()), "three were chosen, one of them bad"
    page = (site / "results" / "tiny" / "report.html").read_text()
    assert "rows left out as invalid" in page
    assert f"4 of 24: {BAD} cannot be read as an image" in page
    assert run("report", "tiny")[0] == 0

    code, out, _ = run("ls", "--json")
    sets = [one for one in json.loads(out) if one["invalid_rows"]]  # the run that stopped left others
    assert [(one["kind"], one["state"], one["invalid_rows"]) for one in sets] == [
        ("features", "sealed", 4),
        ("labels", "sealed", 4),
    ]
    assert run("ls")[1].count("24 (4 invalid)") == 2
    code, out, _ = run("show", next(one["digest"] for one in sets if one["kind"] == "features"))
    assert "4 rows are invalid; every analysis leaves them out\n  4: train/0001TP_train001.png cannot be read" in out
    assert run("verify")[0] == 0
    assert run("repair", "tiny.toml")[:2] == (0, "repaired 0 objects, 0 accepted as new, 0 lost, 0 stray\n")


def test_too_many_bad_images_are_one_sentence(site, run):
    truncate(site)
    (site / "data" / "camvid" / "valannot" / "0001TP_val000.png").unlink()
    (site / "tiny.toml").write_text(KEEP)
    code, _, err = run("extract", "tiny.toml")
    assert code == 2
    assert err.startswith(
        "error: 2 of 6 images are bad and at most 1 may be kept as invalid (1 %, and one in any set): "
        "(1) train/0001TP_train001.png cannot be read as an image ("
    )
    assert err.endswith(
        "; (2) valannot/0001TP_val000.png is missing, the labels of val/0001TP_val000.png; unpack them again or remove "
        "the image\n"
    )
    assert err.count("\n") == 1
    assert not (site / "store").exists(), "something was half-written"


def test_a_policy_that_is_none_is_refused(site, run):
    (site / "tiny.toml").write_text(wrong(KEEP, "keep-invalid", "keep"))
    code, _, err = run("extract", "tiny.toml")
    assert code == 2
    assert "dataset.bad_samples: input should be 'stop' or 'keep-invalid', not 'keep'" in err


@pytest.mark.slow
def test_dead_features_stop_before_the_seal_and_can_be_counted_without_computing_again(site, run):
    torch.manual_seed(0)
    weights = timm.create_model("test_vit").state_dict()
    weights["norm.weight"][7] = 0.0
    safetensors.torch.save_file(weights, site / "cut.safetensors")
    asked = wrong(EXPERIMENT, 'weights = "random"', 'weights = "cut.safetensors"')
    (site / "tiny.toml").write_text(asked)
    code, _, err = run("extract", "tiny.toml")
    assert code == 2
    assert err.splitlines()[-1] == (
        "error: test_vit, tokens/block.0.norm has 1 of 64 features dead (channels 7), the same in all 24 valid samples "
        "as in train/0001TP_train000.png[0,0] (5 more arrays have some): check weights and images, or set "
        'dead_features = "count" in [features] to keep the array as it is'
    )
    assert run("extract", "tiny.toml")[0] == 2
    (site / "tiny.toml").write_text(wrong(asked, 'norm = "both"', 'norm = "both"\ndead_features = "count"'))
    code, out, err = run("extract", "tiny.toml")
    assert code == 0
    assert out.startswith("made    0 rows of features, 0 of labels\nreused  24 rows of features\n")
    assert "test_vit: tokens/block.5.norm has 1 of 64 features dead (channels 7)" in err
    features = next(one for one in json.loads(run("ls", "--json")[1]) if one["kind"] == "features")
    out = run("show", features["digest"])[1]
    assert out.count("features dead (channels 7)") == 6
    assert run("verify")[0] == 0


def test_images_left_out_of_a_few_shot_choice_are_told_of(site, run):
    label = site / "data" / "camvid" / "trainannot" / "0001TP_train001.png"
    label.write_bytes(label.read_bytes()[:-60])
    rule = '[dataset.few_shot]\nunit = "images"\nper_class = { train = 9, val = 9 }\n'
    (site / "tiny.toml").write_text(wrong(wrong(KEEP, "[frame]", f"{rule}[frame]"), "per_group = 3", "per_group = 2"))
    code, out, err = run("extract", "tiny.toml", "--batch-size", 4, "--json")
    assert code == 0
    assert "1 images are left out of the few-shot choice, the first: trainannot/0001TP_train001.png cannot be" in err
    [(name, reason)] = json.loads(out)["left_out_of_choice"].items()
    assert name == BAD
    assert reason in run("plan", "tiny.toml", "--no-time")[1]
