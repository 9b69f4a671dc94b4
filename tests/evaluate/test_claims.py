"""Every claim comes out as holds and as fails on planted numbers, and as neither where nothing is shown."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from evaluate.claims import CLAIMS, decide, decide_all
from evaluate.claims.estimates import Estimate, difference, ratio
from evaluate.claims.evidence import Evidence
from evaluate.claims.gate import beats
from evaluate.claims.verdicts import MissingEvidenceError, verdict_of
from tests.evaluate.planted_claims import KNN, PROBE, paper_world, patches, whole_world

PATCHES = ("patch-classification", "patch_miou")
TREATED = ("feature-treatments", "patch_miou_difference")
TRACKED = ("tracking", "instance_accuracy")

CONTRARY = {
    1: ("mae", *PATCHES, 0.35, {"classifier": "knn", "m": 0, "n_train": 72}),
    2: ("dino", *PATCHES, 0.5, {"classifier": "knn", "m": 200}),
    3: ("mae", *PATCHES, 0.4, {"m": 600}),
    4: ("mae", *PATCHES, 0.3, {"classifier": "probe", "m": 200}),
    5: ("dino", "variance-spectrum", "share_of_variance", 0.8, {}),
    6: ("dino", "variance-spectrum", "max_to_median_variance", 300.0, {}),
    7: ("mae", "ranking-overlap", "overlap_share", 0.7, {"reference": "fair1m.toml"}),
    8: ("simmim", *TREATED, 0.1, {"classifier": "probe"}),
    9: ("dinov2", *PATCHES, 0.14, {"m": 0, "n_train": 72, "x_value": 11.0}),
    10: (("mae", "dino", "simmim"), *PATCHES, 0.8, {"classifier": "knn", "n_train": 72, "x_value": 11.0}),
    11: ("dinov2", *PATCHES, 0.45, {"classifier": "knn", "x_value": 8.0}),
    12: ("dinov2", "retrieval", "share", 0.99, {"view": "blur", "level": 40.0}),
    13: ("mae", "retrieval", "share", 0.8, {"view": "noise", "outcome": "same-patch", "m": 0}),
    14: ("dinov2", "retrieval", "share", 0.1, {"view": "noise", "level": 40.0}),
    15: ("mae", *TRACKED, 0.3, {"m": 200}),
    16: ("scale-mae", "image-knn", "image_accuracy", 0.65, {"token": "mean-patch", "m": 200}),
    17: ("mae", "reconstruction", "mse_normalised_ratio", 3.0, {"x_value": 0.75}),
    18: ("mae", "global-context", "r2_difference", 0.05, {"outcome": "top-alone"}),
    19: ("mae", *PATCHES, 0.1, {"classifier": "probe", "m": 0, "n_train": 72}),
    20: ("mae", "robustness", "largest_predicted_share", 0.4, {"view": "blur", "level": 10.0}),
}
"""For every claim the rows that are changed, and to what, so that it is false."""


def claim(number):
    return next(one for one in CLAIMS if one.number == number)


def judged(number, world, **bounds):
    return decide(claim(number), world.evidence(*([whole_world()] if number == 19 else []), **bounds))


def contradict(world, number):
    roles, analysis, metric, value, where = CONTRARY[number]
    for role in [roles] if isinstance(roles, str) else roles:
        world.change(role, analysis, metric, value, **where)


def test_the_claims_are_numbered_as_in_the_catalogue():
    assert [one.number for one in CLAIMS] == list(range(1, 21))
    assert set(CONTRARY) == set(range(1, 21))


@pytest.mark.parametrize("number", range(1, 21))
def test_a_claim_holds_where_it_is_so_and_fails_where_it_is_not(number):
    world = paper_world()
    found = judged(number, world)
    assert found.verdict == "holds", found
    assert found.numbers
    assert all("[" in line and line.endswith("yes") for line in found.numbers), "a number without its interval"
    contradict(world, number)
    found = judged(number, world)
    assert found.verdict == "fails", found
    assert any(line.endswith("no") for line in found.numbers)


@pytest.mark.parametrize("number", range(1, 21))
def test_no_point_value_decides(number):
    """The same values with wide intervals decide nothing, whichever side of the threshold they are on."""
    for change in (False, True):
        world = paper_world()
        if change:
            contradict(world, number)
        beside = [whole_world()] if number == 19 else []
        rule = claim(number).rule(world.evidence(*beside, low=-1e9, high=1e9))
        verdict, numbers, reason = verdict_of(rule)
        assert verdict == "not testable", (numbers, reason)
        assert "covers" in reason


@pytest.mark.parametrize("number", range(1, 21))
def test_without_an_interval_nothing_is_decided(number):
    found = judged(number, paper_world(), low=pd.NA, high=pd.NA)
    assert found.verdict == "not testable"
    assert "has no interval" in found.reason


def _opens_the_gate(key):
    where = {"m": 0, "token": "class-token", "classifier": "probe", "train": "", **dict(key[3:])}
    known = key[1] in ("patch-classification", "tracking", "image-knn") and where.get("n_train") != 36
    first = where.get("x_value", 1.0) in (1.0, 11.0)
    return known and first and (where["m"], where["token"], where["classifier"]) == (0, "class-token", "probe")


@pytest.mark.parametrize("number", range(1, 21))
def test_an_empty_table_says_what_to_add(number):
    world = paper_world()
    roles = (*claim(number).needs, "random")
    world.found = {key: value for key, value in world.found.items() if key[0] in roles and _opens_the_gate(key)}
    found = judged(number, world)
    assert found.verdict == "not testable"
    assert any(word in found.reason for word in ("[[analyses]]", "[[views]]", "beside")), found.reason


@pytest.mark.parametrize("number", range(1, 21))
def test_without_a_control_or_a_model_nothing_is_testable(number):
    world = paper_world()
    world.without("random")
    found = judged(number, world)
    assert found.verdict == "not testable"
    assert 'weights = "random" as control' in found.reason
    world = paper_world()
    world.without(claim(number).needs[0])
    assert f'role = "{claim(number).needs[0]}"' in judged(number, world).reason


DINOV2_ALONE = (1, 2, 10, 11, 14)
"""Claims of which DINOv2 alone decides a part."""


def only(*roles):
    world = paper_world()
    for role in {key[0] for key in world.found} - {*roles, "random"}:
        world.without(role)
    return world


@pytest.mark.parametrize("number", range(1, 21))
def test_models_that_are_there_decide_their_part_without_the_others(number):
    found = judged(number, only("dinov2"))
    assert found.verdict == "not testable"
    assert found.part == ("holds" if number in DINOV2_ALONE else "not testable"), found
    assert all(line.endswith(": yes") for line in found.numbers)
    whole = judged(number, paper_world())
    assert whole.part == whole.verdict
    assert judged(number, only()).part == "not testable"


def test_there_is_no_part_where_all_models_are_there_and_an_interval_covers_a_threshold():
    world = paper_world()
    probe = next(v for k, v in world.found.items() if k[:3] == ("dino", *PATCHES) and ("classifier", "probe") in k[3:])
    world.change("dino", *PATCHES, 0.8 * probe, classifier="knn", m=0)  # the threshold
    found = judged(1, world)
    assert (found.verdict, found.part) == ("not testable", "not testable"), found
    assert "covers 0.8" in found.reason
    assert {line.rpartition(": ")[2] for line in found.numbers} == {"yes", "open"}
    world.without("mae")
    assert judged(1, world).part == "not testable", "what is open of the models that are there decides nothing either"


def test_a_part_fails_where_its_model_is_not_as_the_paper_has_it_and_is_closed_by_the_gate():
    world = only("dinov2", "dino")
    world.change("dinov2", *PATCHES, 0.2, classifier="knn", m=0)
    found = judged(1, world)
    assert (found.verdict, found.part) == ("not testable", "fails")
    assert "no model plays MAE" in found.reason
    assert len(found.numbers) == 2
    world.change("random", *PATCHES, 0.95, classifier="probe")
    assert judged(1, world).part == "not testable"
    assert not judged(1, world).numbers


@pytest.mark.parametrize("number", sorted({*range(1, 21)} - {15, 16}))
@pytest.mark.parametrize("floor", ["random", "majority"])
def test_a_probe_that_beats_no_baseline_closes_the_gate(number, floor):
    world = paper_world()
    worst = claim(number).needs[-1]
    if floor == "random":
        world.change("random", *PATCHES, 0.374 if worst == "mae" else 0.9, classifier="probe")
    else:
        world.change(worst, "patch-classification", "majority_miou", 0.9)
    found = judged(number, world)
    assert found.verdict == "not testable"
    assert "does not beat" in found.reason


def test_a_model_that_joins_in_without_passing_the_gate_is_left_out_and_named():
    world = paper_world()
    world.change("supervised", *PATCHES, 0.05, classifier="probe")
    found = judged(1, world)
    assert found.verdict == "holds"
    assert "Supervised was left out: probe mIoU of Supervised 0.05" in found.reason
    assert found.models == ("MAE", "DINO", "SimMIM", "DINOv2")
    assert not any("Supervised" in line for line in found.numbers)
    assert judged(1, paper_world()).models == ("MAE", "DINO", "SimMIM", "DINOv2", "Supervised")


def test_tracking_and_whole_images_have_gates_of_their_own():
    world = paper_world()
    world.change("random", *TRACKED, 0.499, x_value=1.0)
    world.change("random", "image-knn", "image_accuracy", 0.7)
    assert "does not beat" in judged(15, world).reason
    assert "does not beat" in judged(16, world).reason
    world = paper_world()
    world.change("mae", "tracking", "chance", 0.498)
    world.change("scale-mae", "image-knn", "majority_accuracy", 0.7)
    assert "chance" in judged(15, world).reason
    assert "most common class" in judged(16, world).reason


@pytest.mark.parametrize("number", [12, 13, 14])
def test_an_experiment_without_probes_borrows_those_of_the_same_models(number):
    world, other = paper_world(), paper_world()
    world.found = {key: value for key, value in world.found.items() if key[1] != "patch-classification"}
    assert "probe mIoU" in judged(number, world).reason
    assert decide(claim(number), world.evidence(other)).verdict == "holds"
    other.change("random", *PATCHES, 0.9, classifier="probe")
    assert "does not beat" in decide(claim(number), world.evidence(other)).reason
    other = paper_world()
    other.rename = "-large"
    assert "probe mIoU" in decide(claim(number), world.evidence(other)).reason


def test_a_part_that_fails_is_not_hidden_by_one_that_is_missing():
    world = paper_world()
    contradict(world, 19)
    assert decide(claim(19), world.evidence(whole_world())).verdict == "fails"
    whole = whole_world()
    whole.found = {key: value for key, value in whole.found.items() if key[1] != "tracking"}
    assert decide(claim(19), world.evidence(whole)).verdict == "fails"
    assert decide(claim(19), paper_world().evidence(whole)).verdict == "not testable"


@pytest.mark.parametrize("masking", [0.0, 0.75])
@pytest.mark.parametrize("over", [1.0, 1.4])
def test_a_mild_change_of_a_picture_that_shows_nothing_is_no_evidence(masking, over):
    """Random weights' error hardly changes either, and a decoder that fails has nothing to lose."""
    world = paper_world()
    world.change("mae", "reconstruction", "mse_normalised_over_mean_patch", over, x_value=masking)
    found = judged(17, world)
    assert found.verdict == "not testable"
    assert "over that of the mean patch" in found.reason
    assert "shows nothing here" in found.reason
    world.change("mae", "reconstruction", "mse_normalised_over_mean_patch", 0.99, x_value=masking)
    assert judged(17, world).verdict == "holds"
    contradict(world, 17)
    assert judged(17, world).verdict == "fails"


def test_cosine_rows_are_no_evidence():
    world = paper_world()
    table = world.table()
    other = table[(table["model"] == "MAE") & (table["metric"] == "patch_miou")].copy()
    other["value"], other["low"], other["high"], other["distance"] = 0.5, 0.49, 0.51, "cosine"
    evidence = world.evidence()
    before = decide(claim(1), evidence)
    assert decide(claim(1), Evidence(pd.concat([other, table]), world.models_info())) == before


def test_narrow_models_remove_in_proportion():
    world = paper_world()
    world.width = 384
    assert "100" in judged(5, world).reason
    assert world.models_info()[0].scaled(10) == 5


def test_decisions_come_in_order():
    found = decide_all(paper_world().evidence(whole_world()))
    assert [one.claim for one in found] == list(range(1, 21))
    assert {one.verdict for one in found} == {"holds"}


def test_a_lucky_draw_is_not_beaten_by_a_luckier_one():
    """Two scores of the same images whose difference is sure while their intervals meet do not open the gate."""
    drawn = np.random.default_rng(0).normal(0.3, 0.05, 1000)
    score, control = (
        Estimate("", value, value - 0.1, value + 0.1, drawn + value - 0.3, "same") for value in (0.3, 0.28)
    )
    assert difference("", score, control).low > 0
    with pytest.raises(MissingEvidenceError, match="does not beat"):
        beats(score, control)
    beats(score, replace(control, high=0.19))


def with_sizes():
    """The paper's world with 36 and 144 training images too, at the last layer and without a removal alone."""
    world = paper_world()
    for role in ("mae", "simmim", "dino", "dinov2", "supervised"):
        for classifier, scores, growth in (("knn", KNN, 1.8 if role == "mae" else 1.1), ("probe", PROBE, 1.1)):
            patches(world, role, classifier, scores[role] * growth, n_train=144)
    return world


@pytest.mark.parametrize("number", [2, 3, 9])
def test_a_larger_training_set_without_removals_changes_no_claim(number):
    before, after = (judged(number, world) for world in (paper_world(), with_sizes()))
    assert (after.verdict, after.numbers) == (before.verdict, before.numbers)


def test_tiles_and_whole_images_are_compared_at_the_same_training_size():
    world, whole = with_sizes(), whole_world()
    for classifier, scores in (("probe", PROBE), ("knn", KNN)):  # whole images 5 % better at 72 images
        for role in ("dino", "mae"):
            patches(whole, role, classifier, scores[role] * 1.05 + 0.02)
    decision = decide(claim(19), world.evidence(whole))
    assert decision.verdict == "fails", decision


def test_scores_of_different_training_sets_are_not_compared():
    one, other = Estimate("a", 1.0, 0.9, 1.1, n_train=72), Estimate("b", 1.0, 0.9, 1.1, n_train=144)
    for compare in (difference, ratio):
        with pytest.raises(MissingEvidenceError, match="different numbers of images"):
            compare("", one, other)
    assert difference("", one, other, any_training=True).n_train is None


def test_claim_3_holds_with_the_counts_that_cityscapes_toml_has():
    world = paper_world()
    for m, value in ((250, 0.293), (300, 0.290), (400, 0.2), (500, 0.15)):
        patches(world, "mae", "knn", value, m)
    assert judged(3, world).verdict == "holds"
    patches(world, "mae", "knn", 0.35, 300)
    assert judged(3, world).verdict == "fails"


def test_both_ways_that_say_too_little_are_not_called_missing():
    """Four videos give tracking no interval, on tiles as on whole images."""
    world, whole = paper_world(), whole_world()
    tables = [one.table() for one in (world, whole)]
    for table in tables:
        tracked = table["analysis"] == "tracking"
        table.loc[tracked, ["low", "high"]] = None
        table.loc[tracked, "n_units"] = 4
        table.loc[tracked, "unit"] = "video"
    beside = Evidence(tables[1], whole.models_info())
    decision = decide(claim(19), Evidence(tables[0], world.models_info(), beside=[beside]))
    assert decision.verdict == "not testable"
    assert decision.reason.startswith("tracking accuracy of MAE has no interval (4 videos)"), decision.reason
    alone = decide(claim(19), world.evidence())
    assert "was not scored both on tiles and on whole images" in alone.reason
