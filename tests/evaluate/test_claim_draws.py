"""Two numbers of the same images are compared draw by draw: decided where worst-case bounds leave a claim open."""

import json
from dataclasses import replace

import numpy as np
import pytest

from evaluate.analyses.image_knn import ImageKnn
from evaluate.analyses.retrieval import Retrieval
from evaluate.analyses.robustness import Robustness
from evaluate.analyses.tracking import Tracking
from evaluate.claims import CLAIMS, decide
from evaluate.claims.estimates import difference
from evaluate.claims.evidence import Evidence
from evaluate.claims.roles import model_info
from evaluate.kernels.bootstrap import quantiles, resampled_ratio
from evaluate.registry import EvaluationSettings
from evaluate.results.draws import DRAWS, BootstrapDraws, draws_of, units_of, with_draws
from evaluate.results.table import ResultStore
from evaluate.runner import evaluate
from tests.evaluate.planted_claims import SAME, paper_world
from tests.evaluate.planted_report import FRAMES
from tests.evaluate.planted_video import videos
from tests.evaluate.planted_views import viewed_sets
from tests.evaluate.test_patch_classification import SELECTION

CLOSE = {
    12: ("dinov2", "retrieval", "share", 0.99, {"view": "blur", "level": 40.0}),
    13: ("mae", "retrieval", "share", 0.8, {"view": "noise", "outcome": "same-patch", "m": 200}),
    14: ("dino", "retrieval", "share", 0.94, {"view": "rotation", "level": 5.0}),
    15: ("mae", "tracking", "instance_accuracy", 0.45, {"m": 200}),
    16: ("scale-mae", "image-knn", "image_accuracy", 0.65, {"token": "mean-patch", "m": 200}),
    20: ("mae", "robustness", "patch_miou", 0.33, {"view": "frequency-noise", "level": 0.875}),
}
"""What makes a claim false by less than the width of an interval."""


@pytest.mark.parametrize("number", sorted(CLOSE))
@pytest.mark.parametrize("true", [True, False])
def test_pairs_decide_what_worst_cases_leave_open(number, true):
    claim = next(one for one in CLAIMS if one.number == number)
    world = paper_world()
    for role, value in SAME.items():  # rotation and scale hurt, though not by more than an interval
        for view in ("rotation", "scale"):
            world.change(role, "retrieval", "share", value - 0.1, view=view)
    if not true:
        role, analysis, metric, value, where = CLOSE[number]
        world.change(role, analysis, metric, value, **where)
    apart, paired = (decide(claim, evidence) for evidence in world.with_common_draws(0.04))
    assert apart.verdict == "not testable", apart
    assert "covers" in apart.reason
    assert paired.verdict == ("holds" if true else "fails"), paired


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """Two models on the same images and videos, with all analyses that store draws."""
    folder = tmp_path_factory.mktemp("drawn")
    titles = ("dino", "dinov2")
    views = [
        replace(viewed_sets(folder / f"views{n}", n_images=24, own=1.0 + n, seed=n), title=title, role=title)
        for n, title in enumerate(titles)
    ]
    tracks = [
        replace(videos(folder / f"videos{n}", noise=1.0 + n, seed=n), title=title, role=title)
        for n, title in enumerate(titles)
    ]
    asked = [
        (views, SELECTION, (Robustness(kind="robustness", remove=(0, 4), penalties=(1e-2,), resamples=60),)),
        (views, SELECTION, (ImageKnn(kind="image-knn", remove=(0, 4), k=3, resamples=60),)),
        (views, None, (Retrieval(kind="retrieval", remove=(0, 4), resamples=60),)),
        (tracks, FRAMES, (Tracking(kind="tracking", gaps=(1, 4), remove=(0, 4), resamples=60),)),
    ]
    found = []
    for models, selection, analyses in asked:
        settings = EvaluationSettings(selection=selection, analyses=analyses)
        evaluation = evaluate("t", models, settings, ResultStore(folder / "results"))
        arrays = {name: result.arrays for name, (_, result) in evaluation.results.items()}
        found.append(
            (evaluation.table, arrays, Evidence(evaluation.table, [model_info(one) for one in models], arrays))
        )
    return found


KEPT = {
    "robustness": {"patch_miou"},
    "image-knn": {"image_accuracy"},
    "retrieval": {"share", "upper_bound"},
    "tracking": {"instance_accuracy"},
}


def test_the_draws_kept_are_those_of_the_interval_of_their_row(evaluated):
    for table, arrays, _ in evaluated:
        [analysis] = table["analysis"].unique()
        for result, rows in table.groupby("result", sort=False):
            seen = set()
            for place, (_, row) in enumerate(rows.iterrows()):
                drawn = draws_of(arrays[result], place)
                assert (drawn is not None) == (row["metric"] in KEPT[analysis]), (analysis, row["metric"])
                if drawn is not None:
                    seen.add(row["metric"])
                    assert len(drawn.values) == 60
                    bounds = np.nanquantile(drawn.values, [0.025, 0.975])
                    np.testing.assert_allclose(bounds, [row["low"], row["high"]])
            assert seen == KEPT[analysis]


def test_models_share_the_draws_of_the_same_images(evaluated):
    asked = {
        "robustness": {"metric": "patch_miou", "classifier": "knn", "m": 4, "view": "noise", "level": 40.0},
        "image-knn": {"metric": "image_accuracy", "token": "mean-patch", "m": 4},
        "retrieval": {"metric": "share", "view": "noise", "level": 40.0, "m": 4, "outcome": "same-category"},
        "tracking": {"metric": "instance_accuracy", "m": 4, "x_value": 4.0},
    }
    for table, _, evidence in evaluated:
        [analysis] = table["analysis"].unique()
        where = dict(asked[analysis])
        if analysis == "retrieval":
            where["reference"] = "tile left out"
        metric = where.pop("metric")
        one, other = (
            evidence.estimate(evidence.rows(evidence.info(role), analysis, metric, **where), role, "")
            for role in ("dino", "dinov2")
        )
        assert one.units == other.units != ""
        paired = difference("", one, other)
        np.testing.assert_array_equal(paired.drawn, one.drawn - other.drawn)
        low, high = np.nanquantile(one.drawn, [0.025, 0.975])
        np.testing.assert_allclose([low, high], [one.low, one.high])


def test_a_harder_video_is_harder_for_both_models(tmp_path):
    """By sets: half of the videos are hopeless, which says nothing of the two models' difference."""
    noise = np.where(np.arange(16) % 2, 3.0, 60.0)
    models = [
        replace(videos(tmp_path / role, n_videos=16, n_frames=12, noise=noise * factor), title=role, role=role)
        for role, factor in (("dino", 1.0), ("mae", 1.5))
    ]
    settings = EvaluationSettings(selection=FRAMES, analyses=(Tracking(kind="tracking", gaps=(1,), resamples=500),))
    found = evaluate("t", models, settings, ResultStore(tmp_path / "results"))
    arrays = {name: result.arrays for name, (_, result) in found.results.items()}
    gaps = []
    for kept in ({}, arrays):
        evidence = Evidence(found.table, [model_info(one) for one in models], kept)
        one, other = (
            evidence.estimate(evidence.rows(evidence.info(role), "tracking", "instance_accuracy"), role, "")
            for role in ("dino", "mae")
        )
        gaps.append(difference("", one, other))
    apart, paired = gaps
    assert apart.low < 0 < apart.high
    assert 0 < paired.low < paired.value == apart.value < paired.high < apart.high


def test_units_are_named_by_images_seed_and_number_of_draws():
    base = units_of(["a", "b"], 0, 100)
    assert base == units_of(("a", "b"), 0, 100)
    others = [units_of(["b", "a"], 0, 100), units_of(["a"], 0, 100), units_of(["a", "b"], 1, 100)]
    assert len({base, units_of(["a", "b"], 0, 99), *others}) == 5


def test_draws_that_are_not_whole_are_no_draws():
    drawn = BootstrapDraws(np.arange(3.0), "images")
    rows = [{"metric": "share"}, {"metric": "share", DRAWS: drawn}, {"metric": "recall", DRAWS: drawn}]
    result = with_draws(rows, ("share",), {"figure": np.zeros(1)})
    assert result.rows == [{"metric": "share"}, {"metric": "share"}, {"metric": "recall"}]
    assert json.dumps(result.arrays["drawn_row"].tolist()) == "[1]"
    np.testing.assert_array_equal(draws_of(result.arrays, 1).values, drawn.values)
    assert draws_of(result.arrays, 0) is None
    for name, value in (
        ("drawn", np.zeros((1, 3), np.float32)),
        ("drawn", np.zeros(3)),
        ("drawn_row", np.array([1, 1])),
        ("drawn_units", np.array([], dtype=str)),
    ):
        assert draws_of({**result.arrays, name: value}, 1) is None, name


def test_a_resample_that_counts_nothing_is_undefined():
    counted = np.zeros(12)
    counted[0] = 1.0
    drawn = resampled_ratio(counted, counted, seed=0, resamples=50)
    assert np.isnan(drawn).any()
    assert set(drawn[~np.isnan(drawn)]) == {1.0}
    assert quantiles(drawn) == (1.0, 1.0)
    assert resampled_ratio(counted[:9], counted[:9], seed=0, resamples=50) is None
