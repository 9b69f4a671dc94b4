"""Rankings compared between two experiments from the command line, and what is said of models that meet nobody."""

import json

import pandas as pd
import pytest

from evaluate.results.table import ResultStore
from tests.pipeline.tiny import write_camvid

HERE = """
[dataset]
name = "camvid"
folder = "{folder}"
[frame]
tile = 32
input = 32
edge = "shift-last"
[features]
layers = [-1]
[[models]]
name = "test_vit"
title = "Shared"
weights = "random"
[[models]]
name = "test_vit"
title = "{other}"
weights = "random"
seed = {seed}
[selection.train]
split = "train"
"""
ASKS = """
[[analyses]]
kind = "ranking-overlap"
m = [5]
experiments = ["far/there.toml"]
"""


@pytest.fixture
def site(tmp_path, monkeypatch):
    for folder in ("near", "distant"):
        write_camvid(tmp_path / "data" / folder, n_train=1 + (folder == "near"), n_val=1)
    (tmp_path / "far").mkdir()
    (tmp_path / "here.toml").write_text(HERE.format(folder="near", other="Only here", seed=1) + ASKS)
    (tmp_path / "far" / "there.toml").write_text(HERE.format(folder="distant", other="Only there", seed=2))
    monkeypatch.chdir(tmp_path)
    for name in ("PATCHBANK_STORE", "PATCHBANK_DATA", "PATCHBANK_RESULTS"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def test_models_meet_by_title_and_others_are_named(site, run):
    assert run("extract", "here.toml")[0] == 0
    code, _, err = run("evaluate", "here.toml")
    assert code == 2
    assert "patchbank extract far/there.toml" in err
    assert run("extract", "far/there.toml")[0] == 0
    code, out, err = run("evaluate", "here.toml")
    assert (code, out.splitlines()[0]) == (0, "made    2 results"), err
    said = "note: ranking-overlap compares Only here with nothing in far/there.toml, which has no model of this title"
    assert said in err
    assert err.count("nothing in far/there.toml") == 1
    table = pd.read_parquet(site / "results" / "here" / "results.parquet")
    shares = table[table["metric"] == "overlap_share"]
    assert set(zip(shares["model"], shares["reference"], strict=True)) == {
        ("Shared", "Only here"),
        ("Shared", "far/there.toml"),
    }
    assert "Overlap of the features that vary most" in (site / "results" / "here" / "report.html").read_text()

    written = site / "far" / "there.toml"
    written.write_text(written.read_text().replace('title = "Shared"', 'title = "Stranger"'))
    before = sorted(path.name for path in (site / "results" / "answers").iterdir())
    code, _, err = run("evaluate", "here.toml")
    assert code == 2
    [line] = [line for line in err.splitlines() if "no model of far/there.toml" in line]
    assert line.endswith("there are Stranger, Only there, here Shared, Only here; give the same model the same title")
    assert sorted(path.name for path in (site / "results" / "answers").iterdir()) == before


TREATS = """
[selection.validation]
split = "val"
[[analyses]]
kind = "feature-treatments"
classifiers = ["knn"]
treatments = ["remove-top"]
m = [5]
experiments = ["far/there.toml"]
"""


def test_features_are_removed_by_the_ranking_of_another_experiment(site, run):
    head = HERE.format(folder="near", other="Only here", seed=1)
    (site / "here.toml").write_text(head + TREATS)
    assert run("extract", "here.toml")[0] == 0
    code, _, err = run("evaluate", "here.toml")
    assert code == 2
    assert "patchbank extract far/there.toml" in err
    assert run("extract", "far/there.toml")[0] == 0
    code, out, err = run("evaluate", "here.toml")
    assert (code, out.splitlines()[0]) == (0, "made    2 results"), err
    assert "note: feature-treatments compares Only here with nothing in far/there.toml" in err
    table = pd.read_parquet(site / "results" / "here" / "results.parquet")
    by_model = table.groupby("model")["outcome"].unique().map(set)
    assert by_model["Shared"] == {"none", "remove-top", "remove-other far/there.toml"}
    assert by_model["Only here"] == {"none", "remove-top"}
    assert "highest variance in far/there.toml left out" in (site / "results" / "here" / "report.html").read_text()
    [inputs] = table[table["model"] == "Shared"]["inputs"].unique()
    read = json.loads(inputs)
    assert read["far/there.toml features"] != read["features"]
    assert read["far/there.toml features"] in ResultStore(site / "results").cited(), (
        "gc would remove what it was made from"
    )
