"""Every claim of the companion papers holds on planted numbers, fails on changed ones, and else is not testable."""

import pandas as pd
import pytest

from evaluate.claims import decide, decide_all
from evaluate.claims.companions import COMPANION_CLAIMS
from evaluate.claims.roles import ROLES
from evaluate.claims.verdicts import verdict_of
from tests.evaluate.planted_claims import World, paper_world

SMALL = "DINO, small"
"""Title of the second model of DINO's role, of another width."""
IMAGES = {
    "dino": 0.9,
    "dinov2": 0.95,
    "ibot": 0.88,
    "mocov3": 0.86,
    "mae": 0.7,
    "mae-finetuned": 0.8,
    "simmim": 0.5,
    "random": 0.1,
}
"""Accuracy of the linear probe of the last layer's mean patch."""
JOINT = ("dino", "dinov2", "ibot", "mocov3")
MASKED = ("mae", "simmim")
BLOCKS = 12
LATE = {
    ("attention", "attention_distance_unit"): (0.5, 0.3),
    ("attention", "attention_nmi"): (0.1, 0.4),
    ("token-geometry", "head_cosine"): (0.6, 0.2),
    ("token-geometry", "space_cosine"): (0.7, 0.4),
}
"""Values of contrastive and of masked models in every block."""
TESTABLE = range(21, 35)

SIMILARITY, PROBED = ("similarity", "cka"), ("image-classification", "image_accuracy")
CONTRARY = {
    21: ("mae", *SIMILARITY, 0.95, {"reference": "DINO"}),
    22: ("dino", *SIMILARITY, 0.1, {"reference": SMALL}),
    23: ("mae", *SIMILARITY, 0.8, {"reference": "DINO", "layer": 6, "x_value": 7.0}),
    24: ("mae", *SIMILARITY, 0.5, {"reference": "DINO", "outcome": "norm2"}),
    25: ("mae", "invariance", "invariance", 0.8, {"view": "flip"}),
    26: ("dino", "object-positions", "r2", 0.7, {"outcome": "count"}),
    27: ("mae-finetuned", *SIMILARITY, 0.1, {"reference": "DINO"}),
    28: ("mocov3", "attention", "attention_distance_unit", 0.2, {}),
    29: ("dino", "attention", "attention_nmi", 0.8, {}),
    30: ("simmim", "frequency", "delta_log_amplitude_highest", -3.5, {}),
    31: ("mae", "token-geometry", "space_cosine", 0.9, {}),
    32: ("simmim", *PROBED, 0.4, {"x_value": 6.0}),
    33: ("mae", *PROBED, 0.4, {"x_value": 11.0}),
    34: ("dino", "robustness", "patch_miou", 0.01, {"view": "frequency-noise", "level": 0.875}),
}
"""For every claim the rows that are changed, and to what, so that it is false."""


class Companions(World):
    """A world with a second model of DINO's role, narrower, which the others are compared with."""

    def models_info(self):
        """Return the models, the narrow one last."""
        found = super().models_info()
        dino = next(info for info in found if info.role == "dino")
        return [*found, dino.model_copy(update={"title": SMALL, "name": "dino-small", "width": 384})]


def companion_world():
    """Return a world in which all claims of the companion papers that can be tested hold."""
    world = Companions()
    for role, last in IMAGES.items():
        for layer in range(BLOCKS):
            bend = 0.2 * (1 - abs(layer - 6) / 6) if role == "simmim" else -0.02 * (BLOCKS - 1 - layer)
            where = {"classifier": "probe", "token": "mean-patch", "x_name": "layer", "x_value": float(layer)}
            world.put(role, *PROBED, max(0.05, last + bend), **where)
        majority = {"classifier": "probe", "reference": "majority"}
        world.put(role, "image-classification", "majority_accuracy", 0.05, **majority)
    _similarity(world)
    for role in (*JOINT, *MASKED):
        is_masked = role in MASKED
        for (analysis, metric), values in LATE.items():
            for block in range(1, BLOCKS + 1):
                where = {"x_name": "depth", "x_value": float(block)}
                world.put(role, analysis, metric, values[is_masked], **where)
                world.put(role, analysis, metric, 0.99 - values[is_masked], outcome="head 0", **where)
        for depth in range(BLOCKS + 1):
            height = (-2.1 if is_masked else -2.9) + (0.0 if depth == BLOCKS else 0.4 - is_masked)
            where = {"x_name": "depth", "x_value": float(depth)}
            world.put(role, "frequency", "delta_log_amplitude_highest", height, **where)
        _noise(world, role, is_masked)
    for role, few, same, place in (("mae", 0.3, 0.4, 0.6), ("dino", 0.6, 0.7, 0.4)):
        where = {"classifier": "probe", "outcome": "random", "x_name": "features", "x_value": 20.0}
        world.put(role, "information", "image_accuracy", few, **where)
        for view, level in (("flip", 1.0), ("gaussian-blur", 5.0), ("gaussian-blur", 20.0)):
            world.put(role, "invariance", "invariance", same, view=view, level=level, token="mean-patch")
        for target in ("count", "position"):
            world.put(role, "object-positions", "r2", place, outcome=target, token="mean-patch")
    return world


def _similarity(world):
    def put(role, reference, value, **where):
        for layer in range(BLOCKS):
            for other in range(BLOCKS):
                here = {"layer": layer, "x_value": other + 1.0, "x_name": "reference_depth", "token": "patches"}
                world.put(role, *SIMILARITY, value(max(layer, other)), reference=reference, **here, **where)

    for index, role in enumerate(JOINT):
        for other in JOINT[index + 1 :]:
            put(role, ROLES[other], lambda block: 0.8)
    for role in MASKED:
        for other in JOINT:
            put(role, ROLES[other], lambda block: 0.9 - 0.1 * min(block, 6))
    put("dino", SMALL, lambda block: 0.8)
    put("mae-finetuned", "DINO", lambda block: 0.6)
    for point, value in (("mlp", 0.4), ("attention", 0.2), ("norm1", 0.25), ("norm2", 0.3)):
        put("mae", "DINO", lambda block, value=value: value, outcome=point)


def _noise(world, role, is_masked):
    kept = {0.125: (0.5, 0.8), 0.5: (0.7, 0.7), 0.875: (0.9, 0.6)}
    world.put(role, "robustness", "patch_miou", 0.4, classifier="probe", m=0, view="clean")
    for band, shares in kept.items():
        where = {"classifier": "probe", "m": 0, "view": "frequency-noise", "level": band}
        world.put(role, "robustness", "patch_miou", 0.4 * shares[is_masked], **where)


def claim(number):
    """Return a claim by its number."""
    return next(one for one in COMPANION_CLAIMS if one.number == number)


def judged(number, world, **bounds):
    """Return the decision on a claim."""
    return decide(claim(number), world.evidence(**bounds))


def contradict(world, number):
    """Change the numbers that a claim rests on, so that it is false."""
    role, analysis, metric, value, where = CONTRARY[number]
    world.change(role, analysis, metric, value, **where)


@pytest.fixture(scope="module")
def planted():
    """Rows in which the claims hold; tests change copies."""
    return companion_world().found


@pytest.fixture
def world(planted):
    """Return a world of one's own."""
    own = Companions()
    own.found = dict(planted)
    return own


def test_every_claim_that_can_be_tested_has_a_contrary():
    assert [one.number for one in COMPANION_CLAIMS] == list(range(21, 37))
    assert set(CONTRARY) == set(TESTABLE)


@pytest.mark.parametrize("number", TESTABLE)
def test_a_claim_holds_where_it_is_so_and_fails_where_it_is_not(number, world):
    found = judged(number, world)
    assert found.verdict == "holds", found
    assert found.numbers
    assert all("[" in line and line.endswith("yes") for line in found.numbers), "a number without its interval"
    assert found.paper == ("arXiv 2304.13089" if number < 28 else "arXiv 2305.00729")
    contradict(world, number)
    found = judged(number, world)
    assert found.verdict == "fails", found
    assert any(line.endswith("no") for line in found.numbers)


@pytest.mark.parametrize("number", TESTABLE)
def test_no_point_value_decides(number, world):
    """The same values with wide intervals decide nothing, whichever side of the threshold they are on."""
    contradict(world, number)
    verdict, numbers, reason = verdict_of(claim(number).rule(world.evidence(low=-1e9, high=1e9)))
    assert verdict == "not testable", numbers
    assert "covers" in reason


@pytest.mark.slow
@pytest.mark.parametrize("number", TESTABLE)
def test_without_rows_control_or_model_the_reason_says_what_to_add(number, world):
    roles = (*claim(number).needs, "random")
    probes = {
        key: value
        for key, value in world.found.items()
        if key[0] in roles and key[1] == "image-classification" and ("x_value", 0.0) not in key[3:]
    }
    only_last = {key: value for key, value in probes.items() if dict(key[3:]).get("x_value", 11.0) == 11.0}
    full, world.found = world.found, only_last
    if number != 33:  # one layer's probe is all that it needs
        found = judged(number, world)
        assert found.verdict == "not testable"
        assert any(word in found.reason for word in ("[[analyses]]", "add another")), found.reason
    world.found = {key: value for key, value in full.items() if key[0] != "random"}
    assert 'weights = "random" as control' in judged(number, world).reason
    first = next(role for role in claim(number).needs if role != "dino")
    world.found = {key: value for key, value in full.items() if key[0] != first}
    assert f'role = "{first}"' in judged(number, world).reason


@pytest.mark.slow
@pytest.mark.parametrize("number", TESTABLE)
def test_a_needed_model_that_is_no_better_than_random_weights_closes_the_gate(number, world):
    world.change(claim(number).needs[-1], *PROBED, 0.1)
    found = judged(number, world)
    assert found.verdict == "not testable"
    assert "does not beat" in found.reason


@pytest.mark.parametrize("number", [21, 28, 29, 30, 31, 33, 34])
def test_a_model_that_joins_in_without_passing_the_gate_is_left_out_and_named(number, world):
    world.change("simmim", *PROBED, 0.1)
    found = judged(number, world)
    assert found.verdict == "holds", found
    assert "SimMIM was left out" in found.reason
    assert not any("SimMIM" in line for line in found.numbers)


def test_without_intervals_nothing_is_decided(world):
    for number in TESTABLE:
        found = judged(number, world, low=pd.NA, high=pd.NA)
        assert found.verdict == "not testable"
        assert "has no interval" in found.reason


def test_the_order_in_which_two_models_were_compared_changes_nothing(world):
    before = judged(21, world)
    pairs = {key for key in world.found if key[1] == "similarity" and ("reference", "DINO") in key[3:]}
    for key in [key for key in pairs if key[0] == "mae"]:
        value, where = world.found.pop(key), dict(key[3:])
        swapped = {**where, "reference": "MAE", "layer": int(where["x_value"]) - 1, "x_value": where["layer"] + 1.0}
        world.put("dino", *SIMILARITY, value, **swapped)
    assert judged(21, world).numbers == before.numbers
    assert judged(23, world).verdict == "holds"


def test_claims_that_need_training_or_other_data_say_so(world):
    for number, word in ((35, "no such weights are published"), (36, "Stylized-ImageNet")):
        found = judged(number, world)
        assert found.verdict == "not testable"
        assert word in found.reason


def test_companion_claims_are_listed_only_where_one_of_their_analyses_was_run(world):
    assert [one.claim for one in decide_all(world.evidence())][20:] == list(range(21, 37))
    assert len(decide_all(paper_world().evidence())) == 20


def test_bands_of_noise_are_judged_by_images_where_all_models_have_their_accuracy(world):
    assert "mIoU kept" in " ".join(judged(34, world).numbers)
    where = {"classifier": "probe", "token": "mean-patch"}
    for role, kept in (("dino", (0.2, 0.7)), ("mocov3", (0.2, 0.7)), ("mae", (0.6, 0.3)), ("simmim", (0.6, 0.3))):
        world.put(role, "robustness", "image_accuracy", 0.8, view="clean", **where)
        for level, value in zip((0.125, 0.875), kept, strict=True):
            world.put(role, "robustness", "image_accuracy", value, view="frequency-noise", level=level, **where)
    found = judged(34, world)
    assert found.verdict == "holds", found
    assert "accuracy on images kept" in " ".join(found.numbers)
    world.change("dino", "robustness", "image_accuracy", 0.01, view="frequency-noise", level=0.875)
    assert judged(34, world).verdict == "fails", "patches still speak for it"


OF_IMAGES = ("image-classification", "information", "invariance")


def split(world, *analyses):
    """Return the world without the rows of some analyses, and another with these alone."""
    rest, other = Companions(), Companions()
    rest.found = {key: value for key, value in world.found.items() if key[1] not in analyses}
    other.found = {key: value for key, value in world.found.items() if key[1] in analyses}
    return rest, other


def decided(rest, *beside):
    """Return the decisions by number; the experiments beside are called first, second, ..."""
    evidence = rest.evidence(*beside)
    for name, other in zip(("first", "second"), evidence.beside, strict=False):
        other.experiment = name
    return {decision.claim: decision for decision in decide_all(evidence)}


def test_claims_on_whole_images_are_decided_by_an_experiment_beside(world):
    rest, images = split(world, *OF_IMAGES)
    alone = decided(rest)
    rest, boxes = split(rest, "object-positions")
    found = decided(rest, images, boxes)
    for number, name in ((25, "first"), (32, "first"), (33, "first"), (26, "second")):
        assert alone[number].verdict == "not testable"
        assert found[number].verdict == "holds", found[number]
        assert found[number].reason.endswith(f"; by the results of {name}")
    contradict(images, 33)
    assert decided(rest, images, boxes)[33].verdict == "fails"


def test_experiments_beside_with_other_models_decide_nothing(world):
    rest, images = split(world, *OF_IMAGES)
    images.rename = "-other"
    assert decided(rest, images)[33].verdict == "not testable"


def test_what_the_experiment_has_itself_decides_before_what_stands_beside(world):
    _, images = split(world, *OF_IMAGES)
    contradict(images, 33)
    found = decided(world, images)[33]
    assert found.verdict == "holds"
    assert "by the results" not in found.reason


def test_experiments_beside_with_other_weights_decide_nothing(world):
    rest, images = split(world, *OF_IMAGES)
    contradict(images, 33)
    for letters, verdict in (("aa", "fails"), ("ab", "not testable")):
        evidence = rest.evidence(images)
        for experiment, letter in zip((evidence, *evidence.beside), letters, strict=True):
            of_file = {"weights": 64 * letter}
            experiment.models_info = tuple(info.model_copy(update=of_file) for info in experiment.models_info)
        found = {one.claim: one for one in decide_all(evidence)}[33]
        assert found.verdict == verdict
        assert ("by the results" in found.reason) == (letters == "aa")
        assert ("measured other models or weights under the same roles" in found.reason) == (letters == "ab")
