"""Views through the command line, and how `evaluate` finds their sets without images or models."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.rows import preview
from tests.pipeline.tiny import write_camvid

SHEET = Image.new("RGB", (1, 1))

EXPERIMENT = """
[dataset]
name = "camvid"
[frame]
tile = 32
input = 32
edge = "shift-last"
[storage]
range_megabytes = 0.002
[[models]]
name = "test_vit"
title = "Tiny"
weights = "random"
[[views]]
name = "blur"
levels = [3]
[[views]]
name = "frequency-noise"
levels = [0.375]
[[views]]
name = "rotation"
levels = [20.0]
[[views]]
name = "size"
levels = [64]
[selection.train]
split = "train"
[selection.validation]
split = "val"
[[analyses]]
kind = "variance-spectrum"
top = [3]
"""


@pytest.fixture
def site(here):
    write_camvid(here / "data" / "camvid", n_train=2, n_val=1)
    (here / "tiny.toml").write_text(EXPERIMENT)
    return here


def measured(path="tiny.toml"):
    from commands.experiment.reading import load_experiment
    from commands.experiment.stored_sets import model_sets
    from stores import Store

    return model_sets(Path(path), *load_experiment(Path(path)), Store("store"))


@pytest.mark.slow
@pytest.mark.usefixtures("svg_alone")
def test_views_from_plan_to_evaluate(site, run, monkeypatch):
    code, out, _ = run("plan", "tiny.toml", "--json", "--batch-size", 4)
    assert code == 0
    plans = json.loads(out)["models"]
    assert [(one["title"], one["view"], one["level"]) for one in plans] == [
        ("Tiny", "clean", None),
        ("Tiny, blur 3", "blur", 3.0),
        ("Tiny, frequency-noise 0.375", "frequency-noise", 0.375),
        ("Tiny, rotation 20", "rotation", 20.0),
        ("Tiny, size 64", "size", 64.0),
    ]
    assert all(one["rows_missing"] == 12 and one["seconds"] > 0 for one in plans)
    assert not (site / "store").exists(), "plan wrote something"

    code, out, err = run("extract", "tiny.toml", "--batch-size", 4)
    assert code == 0
    assert "Tiny, rotation 20: 12/12 rows" in err
    assert out.splitlines()[-3:-1] == ["made    60 rows of features, 36 of labels", "reused  0 rows of features"]
    assert run("extract", "tiny.toml")[1].startswith("made    0 rows")
    (site / "data").rename(site / "elsewhere")
    monkeypatch.setitem(sys.modules, "timm", None)
    assert run("evaluate", "tiny.toml")[0] == 0

    [model] = measured()
    assert list(model.views) == [("blur", 3.0), ("frequency-noise", 0.375), ("rotation", 20.0), ("size", 64.0)]
    from evaluate.inputs.patches import patch_labels, tokens
    from evaluate.inputs.rows import select_rows
    from evaluate.inputs.views import correspondence

    [array] = model.for_view("rotation", 20.0).arrays((-1,), "final")
    chosen = select_rows(model, None)
    assert model.views["blur", 3.0].labels.digest == model.labels.digest
    same = correspondence(model, model.views["blur", 3.0], array, chosen.rows)
    np.testing.assert_array_equal(same, np.tile(np.arange(4, dtype=np.int32), (12, 1)))
    turned = correspondence(model, model.views["rotation", 20.0], array, chosen.rows)
    np.testing.assert_array_equal(turned, same)
    finer = correspondence(model, model.views["size", 64.0], array, chosen.rows)
    assert finer.shape == (12, 16)
    assert finer.max() == 3
    for name, level in model.views:
        under = model.for_view(name, level)
        assert len(tokens(under, array, chosen)) == len(patch_labels(under, array, chosen))
        assert under.spec.view.name == name
    energy = model.views["frequency-noise", 0.375].features["view/noise_energy"][:]
    assert ((energy > 50) & (energy < 500)).all()


def test_views_that_are_not_there_or_of_other_rows_are_named(site, run):
    from evaluate.inputs.model_sets import ViewSets
    from evaluate.inputs.views import check_rows
    from stores.errors import MissingError, UserError

    short = EXPERIMENT.replace('[[views]]\nname = "frequency-noise"\nlevels = [0.375]\n', "")
    short = short.replace('[[views]]\nname = "size"\nlevels = [64]\n', "")
    (site / "tiny.toml").write_text(short)
    run("extract", "tiny.toml")
    [model] = measured()
    (site / "tiny.toml").write_text(short.replace("levels = [3]", "levels = [3, 5]"))
    code, _, err = run("evaluate", "tiny.toml")
    assert code == 2
    assert "Tiny, blur 5 was not extracted to" in err
    with pytest.raises(MissingError, match=r"under the view blur 5: add it to \[\[views\]\]"):
        model.for_view("blur", 5.0)
    (site / "tiny.toml").write_text(short.replace("tile = 32", "tile = 40"))
    run("extract", "tiny.toml")
    [other] = measured()
    foreign = other.views["blur", 3.0]
    with pytest.raises(UserError, match="holds other rows than the clean view"):
        check_rows(model, ViewSets("blur", 3.0, foreign.features, foreign.labels))


def test_without_the_clean_view_only_views_are_made(site, run):
    (site / "tiny.toml").write_text(EXPERIMENT.replace("[storage]", "[features]\nclean = false\n[storage]"))
    code, out, _ = run("extract", "tiny.toml", "--json")
    assert code == 0
    assert json.loads(out)["made"] == 48
    code, _, err = run("evaluate", "tiny.toml")
    assert code == 2
    assert "with `clean = true` in [features]" in err


def test_preview_is_a_picture_and_writes_nothing_else(site, run, monkeypatch):
    code, out, _ = run("preview", "tiny.toml", "--out", "look.png", "--samples", 3)
    assert code == 0
    assert "where   look.png" in out
    first = (site / "look.png").read_bytes()
    with Image.open(site / "look.png") as picture:
        assert min(picture.size) > 1000
    assert not (site / "store").exists()
    run("preview", "tiny.toml", "--out", "again.png", "--samples", 3)
    assert (site / "again.png").read_bytes() == first
    run("preview", "tiny.toml", "--samples", 3, "--seed", 5)
    assert (site / "tiny-preview.png").read_bytes() != first
    for name, drawn_by in (("nearest", "nearest"), (None, "bicubic")):
        line = f'input = 32\ninterpolation = "{name}"' if name else "input = 32"
        (site / "tiny.toml").write_text(EXPERIMENT.replace("input = 32", line))
        used = []
        monkeypatch.setattr(preview, "contact_sheet", lambda *arguments, used=used: used.append(arguments[4]) or SHEET)
        assert run("preview", "tiny.toml", "--samples", 1)[0] == 0
        assert used == [drawn_by], "the sheet is drawn with the filter that an extraction would use"
    for out, says in (("look.gif", "let its name end in .png"), ("absent/look.png", "choose another --out")):
        code, _, err = run("preview", "tiny.toml", "--out", out)
        assert code == 2
        assert says in err
    code, _, err = run("preview", "tiny.toml", "--patch", 7)
    assert code == 2
    assert "--patch 7 does not divide the input of 32x32 pixels" in err
