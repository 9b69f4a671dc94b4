"""What cannot be evaluated is said by `plan` and `extract` before any model runs."""

import json
import re

import pytest

from tests.tiny_experiment import EXPERIMENT, wrong

VALIDATION = '[selection.validation]\nsplit = "val"\n'
BLUR = '[[views]]\nname = "blur"\nlevels = [3]\n'
ONE_LAYER = '[features]\nnorm = "both"'


@pytest.fixture
def unrun(monkeypatch):
    """The test ends with an error when a model runs."""

    def run(*arguments):
        raise AssertionError("a model was run")

    monkeypatch.setattr("pipeline.extraction.model_pass.running.ModelPass.__call__", run)


def analysis(kind, *lines):
    return f'[[analyses]]\nkind = "{kind}"\n' + "".join(f"{line}\n" for line in lines)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (wrong(EXPERIMENT, ONE_LAYER, f"{ONE_LAYER}\nlayers = [-1]").replace("top = [3]", "layers = [2]"), "block.2"),
        (wrong(EXPERIMENT, 'norm = "both"', 'norm = "none"'), "block.-1.norm of test_vit is not complete"),
        (wrong(EXPERIMENT, VALIDATION, ""), "needs [selection.train] and [selection.validation]"),
        (wrong(EXPERIMENT, 'split = "val"', 'split = "train"'), "are in both the train and the validation selection"),
        (wrong(EXPERIMENT, "k = [1, 3]", "k = [100000]"), "k = 100000 neighbours are more than the"),
        (wrong(EXPERIMENT, "remove = [0, 5]", "remove = [0, 5000]"), "cannot remove 5000 features"),
        (EXPERIMENT + analysis("robustness"), "robustness needs [[views]]"),
        (EXPERIMENT + analysis("robustness", 'views = ["noise"]') + BLUR, "has the view noise, which [[views]]"),
        (EXPERIMENT + analysis("tracking"), "has no objects"),
        (EXPERIMENT + analysis("image-knn"), "needs a class for every image"),
        (EXPERIMENT + analysis("global-context", "m = 64", 'classes = ["sky"]'), "m = 64 of 64 features"),
        (EXPERIMENT + analysis("global-context", "m = 6", 'classes = ["skye"]'), "'skye'; the classes are sky"),
        (
            wrong(
                EXPERIMENT, 'weights = "random"\n', 'weights = "random"\n[[models]]\nname = "vit_tiny_patch14_224"\n'
            ),
            "",
        ),
    ],
)
def test_what_cannot_be_evaluated_stops_extract_and_is_said_by_plan(site, run, unrun, text, says):
    (site / "tiny.toml").write_text(text)
    code, _, err = run("extract", "tiny.toml")
    assert code == 2
    assert says in err
    assert err.count("\n") == 1, err
    assert not list((site / "store").glob("*/*/*")), "something was written"
    code, out, err = run("plan", "tiny.toml")
    assert code == 2
    assert says in err
    assert err.count("\n") == 1, err
    assert says == "" or " images, " in out, "the plan itself is printed too"


def test_plan_tells_what_evaluate_needs(site, run, unrun):
    code, out, _ = run("plan", "tiny.toml", "--no-time", "--json")
    assert code == 0
    planned = json.loads(out)["evaluate"]
    assert planned["problem"] == ""
    assert planned["n_results"] == 4
    assert planned["peak_bytes"] > 1e6
    assert "evaluate computes 4 results in an estimated" in run("plan", "tiny.toml", "--no-time")[1]


def test_the_planned_tasks_are_those_that_evaluate_computes(site, run, undrawn):
    planned = json.loads(run("plan", "tiny.toml", "--no-time", "--json")[1])["evaluate"]
    assert run("extract", "tiny.toml")[0] == 0
    made = json.loads(run("evaluate", "tiny.toml", "--json")[1])["made"]
    assert made == planned["n_results"]


def test_plan_estimates_how_long_evaluate_takes_of_what_is_not_stored(site, run, undrawn):
    def planned():
        found = json.loads(run("plan", "tiny.toml", "--no-time", "--json")[1])["evaluate"]
        return found["n_stored"], found["seconds"], found["gflops"]

    n_stored, seconds, gflops = planned()
    assert (n_stored, 0 < seconds < 60, gflops > 0.1) == (0, True, True)
    [line] = [line for line in run("plan", "tiny.toml", "--no-time")[1].splitlines() if "evaluate computes" in line]
    assert re.search(r"in about .* \(computed from the operations; measured rate \d+ GFLOP/s", line)
    assert not (site / "results").exists(), "plan writes nothing"
    assert run("extract", "tiny.toml")[0] == 0
    assert run("evaluate", "tiny.toml")[0] == 0
    assert planned()[:2] == (4, 0.0)
    assert "4 results (4 of them stored already)" in run("plan", "tiny.toml", "--no-time")[1]
    (site / "tiny.toml").write_text(wrong(EXPERIMENT, "images = 2", "images = 1"))
    n_stored, seconds, _ = planned()
    assert (n_stored, seconds > 0) == (3, True)


def test_layers_of_an_earlier_extraction_count(site, run, undrawn):
    assert run("extract", "tiny.toml")[0] == 0
    few = wrong(EXPERIMENT, ONE_LAYER, f"{ONE_LAYER}\nlayers = [-1]").replace("top = [3]", "layers = [2]")
    (site / "tiny.toml").write_text(few)
    assert run("extract", "tiny.toml")[0] == 0
    assert run("evaluate", "tiny.toml")[0] == 0


def test_a_second_model_of_an_impossible_size_is_said_before_the_first_one_runs(site, run, unrun):
    second = (
        'weights = "random"\n[[models]]\nname = "vit_tiny_patch14_reg4_dinov2"\ntitle = "second"\nweights = "random"\n'
    )
    (site / "tiny.toml").write_text(wrong(EXPERIMENT, 'weights = "random"\n', second))
    code, _, err = run("extract", "tiny.toml")
    assert code == 2
    assert "second" in err or "vit_tiny_patch14_reg4_dinov2" in err
    assert not list((site / "store").glob("*/*/*"))


def test_a_column_label_of_a_manifest_is_hinted_at(site, run, unrun):
    images = sorted((site / "data" / "camvid").glob("*/*.png"))
    lines = ["image,label,split", *(f"{one.relative_to(site / 'data')},x.png,{one.parent.name}" for one in images)]
    (site / "data" / "list.csv").write_text("\n".join(lines))
    (site / "tiny.toml").write_text(wrong(EXPERIMENT, 'name = "camvid"', 'name = "manifest"\nfile = "list.csv"'))
    code, _, err = run("extract", "tiny.toml")
    assert code == 2
    assert "the columns label of list.csv are not read; masks stand in the column `mask`" in err


def test_plan_prints_its_json_before_it_refuses(site, run, unrun):
    (site / "tiny.toml").write_text(EXPERIMENT + analysis("tracking"))
    code, out, err = run("plan", "tiny.toml", "--json")
    assert code == 2
    assert "has no objects" in json.loads(out)["evaluate"]["problem"]
    assert "`patchbank evaluate` would refuse tiny.toml: " in err


OTHER = analysis("ranking-overlap", "m = [5]", 'experiments = ["other.toml"]')
STRANGER = wrong(EXPERIMENT, 'name = "test_vit"', 'name = "test_vit"\ntitle = "Stranger"')


@pytest.mark.parametrize("command", ["plan", "extract"])
@pytest.mark.parametrize(
    ("other", "says"),
    [
        (None, "there is no experiment file other.toml"),
        ("dataset = 1", "other.toml: dataset: "),
        ("[[", "other.toml is not readable as TOML"),
    ],
)
def test_another_experiment_that_cannot_be_read_is_said_first(site, run, unrun, command, other, says):
    (site / "tiny.toml").write_text(EXPERIMENT + OTHER)
    if other is not None:
        (site / "other.toml").write_text(other)
    code, _, err = run(command, "tiny.toml")
    assert code == 2
    assert f"`patchbank evaluate` would refuse tiny.toml: {says}" in err
    assert err.count("\n") == 1, err
    assert not list((site / "store").glob("*/*/*")), "something was written"


def test_another_experiment_that_is_not_extracted_yet_is_a_note(site, run):
    """Two experiments may read each other: one of them is extracted first."""
    (site / "tiny.toml").write_text(EXPERIMENT + OTHER)
    (site / "other.toml").write_text(STRANGER)
    code, out, _ = run("plan", "tiny.toml", "--no-time")
    assert code == 0
    [line] = [line for line in out.splitlines() if "other.toml is needed too, for ranking-overlap" in line]
    assert line.endswith("store yet: run `patchbank extract other.toml`")
    assert run("extract", "other.toml")[0] == 0
    for command in ("plan", "extract"):
        code, _, err = run(command, "tiny.toml")
        assert code == 2
        assert "ranking-overlap finds no model of other.toml with a title of this experiment" in err
    (site / "tiny.toml").write_text(STRANGER + OTHER)
    planned = json.loads(run("plan", "tiny.toml", "--no-time", "--json")[1])["evaluate"]
    assert planned["problem"] == ""
    assert planned["n_results"] == 5, "four, and the comparison with the other experiment"
