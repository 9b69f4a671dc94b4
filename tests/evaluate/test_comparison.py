"""Models of several experiments side by side: what is compared, what is refused, and which field is named."""

import csv
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest

from commands.compare import _print_rows
from evaluate.claims.roles import ModelInfo
from evaluate.report.comparison import compare
from evaluate.report.comparison_page import comparison_page
from evaluate.report.reading import StoredResults
from evaluate.results.table import long_table
from stores.errors import UserError
from stores.specs import FrameSpec

DATA = dict.fromkeys(("image files", "label files", "label classes", "facts of images"), 64 * "a")
PARAMS = {"train": ["a.png", "b.png"], "remove": [0, 50], "resamples": 100, "penalties": [0.1, 1.0]}


def row(**changed):
    """Return a row of the long table with its parameters and inputs."""
    params = {**PARAMS, **changed.pop("params", {})}
    inputs = {"labels": 64 * "b", changed.pop("grid", "patches/14x14"): 64 * "c"}
    return {
        "analysis": "patch-classification",
        "metric": "patch_miou",
        "data_set": "camvid",
        "view": "clean",
        "token": "patch",
        "normed": True,
        "layer": 11,
        "array": "block.11.norm",
        "classifier": "knn",
        "m": 0,
        "k": 1,
        "n_train": 2,
        "x_name": "layer",
        "x_value": 11.0,
        "value": 0.5,
        "low": 0.4,
        "high": 0.6,
        "unit": "image",
        "n_units": 7,
        "seed": 0,
        "result": 64 * "d",
        "row": 0,
        "params": json.dumps(params),
        "inputs": json.dumps(inputs),
        **changed,
    }


def results(*rows, title="MAE", experiment="one", data=DATA, revision=1, frame=None):
    """Return the results of one model."""
    table = long_table([{"experiment": experiment, "model": title, **one} for one in rows])
    frame = frame or FrameSpec(input=224)
    info = ModelInfo(title=title, name="m", role="none", data_set="camvid", frame=frame, width=8, data=data)
    return StoredResults(table, [], {}, (info,), (), experiment, {64 * "d": revision})


def test_equal_rows_stand_side_by_side_and_the_last_layers_of_models_of_other_depth_too():
    deep = row(value=0.7, layer=23, array="block.23.norm", x_value=23.0)
    inner = row(value=0.1, layer=22, array="block.22.norm", x_value=22.0)
    compared = compare([results(row()), results(inner, deep, title="DINO", experiment="two")])
    assert compared.models == ("MAE", "DINO")
    assert not compared.refused
    assert compared.n_alone == 0
    assert compared.rows["MAE", "value"].tolist() == [0.5]
    assert compared.rows["DINO", "value"].tolist() == [0.7]
    with pytest.raises(UserError, match="no two models have a row in common"):
        compare([results(row()), results(inner, deep, title="DINO")], layers="all")


@pytest.mark.parametrize(
    ("field", "changed", "of_results"),
    [
        ("n_train", {"n_train": 3}, {}),
        ("train", {"params": {"train": ["a.png", "c.png"]}}, {}),
        ("resamples", {"params": {"resamples": 1000}}, {}),
        ("penalties", {"params": {"penalties": [0.1]}}, {}),
        ("patch grid", {"grid": "patches/16x16"}, {}),
        ("seed", {"seed": 1}, {}),
        ("n_units", {"n_units": 8}, {}),
        ("revision", {}, {"revision": 2}),
        ("image files", {}, {"data": {**DATA, "image files": 64 * "e"}}),
        ("label classes", {}, {"data": {**DATA, "label classes": 64 * "e"}}),
        ("tile", {}, {"frame": FrameSpec(input=224, tile=256)}),
        ("edge", {}, {"frame": FrameSpec(input=224, tile=256, edge="pad")}),
    ],
)
def test_rows_that_were_measured_in_another_way_are_refused_and_the_field_is_named(field, changed, of_results):
    both = row(m=50), row(m=50, value=0.2)
    frame = FrameSpec(input=224, tile=256) if field == "edge" else None
    one = results(row(), both[0], frame=frame)
    other = results(row(**changed), row(**changed, m=50), title="DINO", experiment="two", **of_results)
    with pytest.raises(UserError, match=rf"MAE has {field} .*DINO has {field} .*--allow '{field}'"):
        compare([one, other])
    compared = compare([one, other], allow=[field])
    assert len(compared.rows) == 2
    assert field in {name for _, name in compared.rows.columns}, "what was allowed to differ is not shown"


def test_what_differs_in_part_is_refused_in_part_and_counted_once():
    one = results(row(), row(m=50), row(m=100))
    other = results(row(), row(m=50, seed=3), row(m=200), title="DINO")
    compared = compare([one, other])
    assert compared.rows["m", ""].tolist() == ["0"]
    assert [str(refusal) for refusal in compared.refused] == [
        "1 row of patch-classification are not compared: MAE has seed 0; DINO has seed 3"
    ]
    assert compared.n_alone == 2
    assert [str(one) for one in compared.alone] == [
        "1 row of patch-classification are not compared: only MAE has m 100",
        "1 row of patch-classification are not compared: only DINO has m 200",
    ]


def test_the_last_layer_is_compared_before_and_after_the_final_norm_and_other_layers_are_counted():
    def both(first=0, **changed):
        geometry = {"analysis": "feature-geometry", "metric": "rankme", "x_name": "depth", **changed}
        return [
            row(**geometry, layer=layer, x_value=layer + 1.0, normed=normed, array=f"block.{layer}{'.norm' * normed}")
            for layer in (first + 5, first + 11)
            for normed in (False, True)
        ]

    for other in (both(value=0.7), both(12, value=0.7)):
        compared = compare([results(*both()), results(*other, title="DINO", experiment="two")])
        assert compared.rows["normed", ""].tolist() == ["False", "True"]
        assert compared.rows["DINO", "value"].tolist() == [0.7, 0.7]
        assert (compared.n_inner, compared.n_alone, compared.refused) == (4, 0, ())
    assert "4 rows of layers and points before the last layer" in comparison_page(compared, ["one"])
    every = compare([results(*both()), results(*both(), title="DINO", experiment="two")], layers="all")
    assert (len(every.rows), every.n_inner) == (4, 0)


def test_columns_that_follow_from_a_parameter_do_not_hide_it_and_other_treatments_are_other_measurements():
    euclidean = row(analysis="overclustering", distance="euclidean", params={"normalise": False})
    cosine = row(analysis="overclustering", distance="cosine", params={"normalise": True})
    one = results(row(), cosine, row(treatment="remove-position 9", m=None), row(analysis="lidar"))
    other = results(row(), euclidean, row(treatment="remove-position 18", m=None), title="DINO")
    compared = compare([one, other])
    assert [str(refusal) for refusal in compared.refused] == [
        "1 row of overclustering are not compared: MAE has normalise true, distance cosine; "
        "DINO has normalise false, distance euclidean"
    ]
    assert [str(one).partition(": ")[2] for one in compared.alone] == [
        "only MAE has treatment remove-position 9",
        "only MAE has the whole analysis",
        "only DINO has treatment remove-position 18",
    ]
    assert "only MAE has treatment remove-position 9" in comparison_page(compared, ["one"])


def test_an_analysis_depends_on_the_images_that_it_reads_alone():
    def data(train, validation="c"):
        parts = {"": train + validation, "train ": train, "validation ": validation}
        said = {f"{part}{name}": (64 * key)[:64] for part, key in parts.items() for name in DATA}
        return {**said, "images": "36", "train images": "12", "validation images": "24"}

    names = {"scored": ["c.png"]}
    geometry = row(analysis="feature-geometry") | {"params": json.dumps(names)}
    both = geometry, row(params={"validation": ["c.png"]})
    compared = compare([results(*both, data=data("a")), results(*both, title="DINO", data=data("b"))])
    assert compared.rows["analysis", ""].tolist() == ["feature-geometry"]
    said = str(compared.refused[0])
    assert "MAE has image files 36 with digest acacacacacac" in said
    assert "DINO has image files 36 with digest bcbcbcbcbcbc" in said
    assert said.endswith("; label files and facts of images differ with the images")
    with pytest.raises(UserError, match=r"MAE has image files 24 with digest c{12},.* DINO has image files 24 with"):
        compare([results(*both, data=data("a")), results(*both, title="DINO", data=data("a", "d"))])
    # Notes of earlier versions say nothing of parts: all images are compared.
    with pytest.raises(UserError, match=r"MAE has image files a{12},"):
        compare([results(*both), results(*both, title="DINO", data=data("b"))])


def test_a_parameter_of_an_analysis_that_one_experiment_lacks_is_no_difference():
    more = row(analysis="overclustering", params={"clusters": [100]})
    compared = compare([results(row(), more), results(row(value=0.7), title="DINO", experiment="two")])
    assert len(compared.rows) == 1
    assert not compared.refused


def test_one_model_is_compared_with_nothing():
    with pytest.raises(UserError, match="one has one model: give the folders of two experiments"):
        compare([results(row())])


def test_lists_that_only_choose_rows_and_the_kind_of_device_are_no_difference():
    other = row(params={"remove": [0], "device": "cuda"})
    assert len(compare([results(row()), results(other, title="DINO")]).rows) == 1


def test_models_of_one_title_are_told_apart_by_their_experiments():
    compared = compare([results(row()), results(row(), experiment="two"), results(row(), experiment="two")])
    assert compared.models == ("MAE (one)", "MAE (two, 2)", "MAE (two, 3)")


def test_what_does_not_say_its_data_is_refused():
    with pytest.raises(UserError, match=r"MAE do not say which image files .* run `patchbank evaluate`"):
        compare([results(row(), data={}), results(row(), title="DINO")])
    with pytest.raises(UserError, match=r"there is no such field; choose among .*patch grid"):
        compare([results(row()), results(row(), title="DINO")], allow=["grid"])


def test_the_terminal_shows_numbers_of_whole_models_by_analysis_and_counts_the_others(capsys):
    geometry = {"analysis": "feature-geometry", "metric": "rankme", "x_name": "depth"}
    curve = [row(analysis="feature-geometry", x_name="distance", x_value=float(number)) for number in range(5)]
    rows = [row(), *(row(m=m) for m in range(1, 60)), *(row(**geometry, normed=one) for one in (False, True)), *curve]
    compared = compare([results(*rows), results(*rows, title="DINO", experiment="two")])
    _print_rows(compared, Path("comparison.csv"))
    out = capsys.readouterr().out
    assert "\nfeature-geometry, before the final norm\nmetric  MAE " in out
    assert "\nfeature-geometry, after the final norm\nmetric  MAE " in out
    assert len(re.findall("^patch_miou ", out, re.MULTILINE)) == 50
    assert "more      15 rows" in out
    assert "in comparison.csv: 10 of patch-classification, 5 of feature-geometry" in out
    _print_rows(compare([results(*rows), results(*rows, title="DINO", experiment="two")], layers="all"), Path("c.csv"))
    assert capsys.readouterr().out.count("rankme ") == 2


def test_the_table_and_the_page_are_safe_and_hold_the_numbers():
    title = "=cmd()<script>"
    compared = compare([results(row(), title=title), results(row(value=np.pi / 10), title="DINO")])
    lines = list(csv.reader(io.StringIO(compared.csv().decode())))
    assert "'=cmd()<script> value" in lines[0]
    assert lines[1][lines[0].index("DINO value")] == "0.314159265"
    page = comparison_page(compared, ["one"])
    assert "<script>\n" in page
    assert "=cmd()<script>" not in page
    assert "0.3142 [0.4, 0.6]" in page
