"""On a planted world the questions of experiments/cityscapes.toml give whole figures, and claims as planted.

They ask for 36, 72 and 144 training images, but for removals and layers with 72 alone.
"""

import re
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.container import ErrorbarContainer

from evaluate.claims import CLAIMS, decide
from evaluate.claims.evidence import Evidence
from evaluate.claims.roles import model_info
from evaluate.figures import FIGURES
from evaluate.registry import EvaluationSettings
from evaluate.report.headline import headline
from evaluate.results.table import ResultStore
from evaluate.runner import evaluate
from tests.evaluate.planted_cityscapes import CHANNELS, CLASSES, HIGH, LAYERS, MODELS, Plant, city_models
from tests.evaluate.planted_video import videos

pytestmark = pytest.mark.slow  # claims and figures on planted tables are tested by default

EXPERIMENT = Path(__file__).parents[2] / "experiments" / "cityscapes.toml"
PROBED = {"penalties": [1e-2]}
DRAWS = 1
PATCHES = {"kind": "patch-classification", "resamples": 200, **PROBED}
REDUCED = {
    "patch-classification": {"resamples": 200, **PROBED},
    "feature-treatments": {"resamples": 200, "draws": DRAWS, **PROBED},
    "global-context": {"resamples": 20, "draws": DRAWS},
    "label-maps": {},
    "variance-spectrum": {},
}
"""What is asked for less of than in the experiment: resamples, random choices, penalties."""
TRACKING = {"kind": "tracking", "gaps": [1, 2, 3], "resamples": 200}
"""What the experiments on videos ask; claim 19 compares the middle gap."""
FRAMES = {"train": {"split": "val"}, "validation": {"split": "val"}}


def scaled(m):
    """Return a number of features of ViT-B for the width of the planted models."""
    return round(m * CHANNELS / 768)


def asked():
    """Return selection and analyses of experiments/cityscapes.toml, reduced to the planted world's width."""
    file = tomllib.loads(EXPERIMENT.read_text())
    analyses = []
    for analysis in file["analyses"]:
        small = {**analysis, **REDUCED[analysis["kind"]]}
        for name in {"remove", "top", "m"} & small.keys():
            counts = small[name]
            small[name] = scaled(counts) if isinstance(counts, int) else sorted({scaled(m) for m in counts})
        analyses.append(small)
    return {"selection": file["selection"], "analyses": analyses}


REMOVED = next(one["remove"] for one in asked()["analyses"] if one["kind"] == "patch-classification")


def questions(found):
    return EvaluationSettings.model_validate(found, strict=False)


def evaluated(folder, name, models, found):
    """Run the real runner; return the long table, the results and the evidence of claims."""
    results = ResultStore(folder / "results")
    evaluation = evaluate(name, models, questions(found), results)
    arrays = {digest: result.arrays for digest, (_, result) in evaluation.results.items()}
    return evaluation, Evidence(evaluation.table, [model_info(model) for model in models], arrays)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """The tiles' evaluation, and its evidence beside that of whole images and of videos both ways."""
    folder = tmp_path_factory.mktemp("city")
    tiles, evidence = evaluated(folder, "tiles", city_models(folder / "tiles", MODELS), asked())
    worse = {"mae": Plant(0.3, (8000.0, *HIGH[1:])), "dino": Plant(0.3)}
    whole = city_models(folder / "whole", worse, whole=True)
    beside = [evaluated(folder, "whole", whole, {**asked(), "analyses": [PATCHES]})[1]]
    for name, tiles_a_frame, noise in (("video", 2, 4.0), ("whole-video", 1, 0.5)):
        sets = videos(folder / name, n_videos=10, n_frames=4, n_objects=3, tiles=tiles_a_frame, noise=noise)
        of_mae = [replace(sets, title="MAE", role="mae")]
        beside.append(evaluated(folder, name, of_mae, {"selection": FRAMES, "analyses": [TRACKING]})[1])
    evidence.beside = tuple(beside)
    return tiles, evidence


@pytest.fixture(scope="module")
def figures(world):
    """Every figure of the tiles' report that has something to show, by its name."""
    tiles, _ = world
    drawn = {entry.name: entry.draw(tiles.table, list(tiles.results.values())) for entry in FIGURES}
    return {name: figure for name, figure in drawn.items() if figure is not None}


def curves(figure):
    """Return the number of points of every curve, or set of marks, of a figure's panels."""
    marks = [one.lines[0] for axes in figure.axes for one in axes.containers if isinstance(one, ErrorbarContainer)]
    lines = marks or [line for axes in figure.axes for line in axes.lines]
    return [int(np.isfinite(np.asarray(line.get_ydata(), float)).sum()) for line in lines]


@pytest.mark.parametrize(
    ("name", "n_curves", "points"),
    [
        ("variance-spectrum", len(MODELS), CHANNELS),
        ("removal-curve", 2 * len(MODELS), len(REMOVED)),
        ("layer-curve", len(MODELS), LAYERS),
        ("train-size", 2 * len(MODELS), 3),
        ("class-curve", (2 + len(CLASSES)) * len(MODELS), LAYERS),
        ("feature-treatments", 2 * len(MODELS), 5 + DRAWS),
        ("global-context", len(MODELS), 3 + 2 * DRAWS),
    ],
)
def test_every_curve_has_as_many_points_as_were_asked(figures, name, n_curves, points):
    assert curves(figures[name]) == [points] * n_curves


def test_every_label_map_is_drawn(figures):
    columns = 1 + len(MODELS) * (2 + 1)  # the truth; neighbours with and without the top, and the probe
    assert len(figures["label-maps"].axes) == 4 * columns


def test_no_figure_of_the_questions_is_missing(figures):
    patches = ["variance-spectrum", "removal-curve", "layer-curve", "train-size", "class-curve"]
    assert list(figures) == ["main-scores", *patches, "feature-treatments", "global-context", "label-maps"]


def test_the_first_table_has_what_removing_does(world):
    page = headline(world[0].table, {})
    heads = re.findall(r'<th scope="col">(.*?)</th>', page)
    most = f"top {max(REMOVED)} removed"
    scores = [f"{name} mIoU, {m}" for name in ("k-NN", "probe") for m in ("all features", most)]
    assert heads[1:] == [*scores, f"share of variance, top {scaled(200)}"]
    assert page.count("<td></td>") == 0
    assert "72 training images" in page


@pytest.mark.parametrize("number", [2, 3, 9, 19])
def test_a_claim_holds_as_planted_with_equal_training_sizes(world, number, monkeypatch):
    looked_up = []
    estimate = Evidence.estimate
    monkeypatch.setattr(Evidence, "estimate", lambda *asked: looked_up.append(estimate(*asked)) or looked_up[-1])
    decision = decide(CLAIMS[number - 1], world[1])
    assert decision.verdict == "holds", decision
    assert {one.n_train for one in looked_up if "mIoU" in one.name or "gain" in one.name} == {72}


def test_claim_3_fails_where_half_of_the_features_hide_the_classes(tmp_path, no_sync):
    plants = {"mae": Plant(0.02, (400.0, *[2.0] * 31), 0.5), "random": MODELS["random"]}
    swept = {**PATCHES, "remove": REMOVED}
    _, evidence = evaluated(tmp_path, "wide", city_models(tmp_path / "wide", plants), {**asked(), "analyses": [swept]})
    decision = decide(CLAIMS[2], evidence)
    assert decision.verdict == "fails", decision
