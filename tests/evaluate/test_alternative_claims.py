"""Claims of no paper, on planted tables: which treatment does for 1-NN what a removal does, and is it position."""

import pytest

from evaluate.claims import CLAIMS, decide, decide_all
from evaluate.claims.alternatives import ALTERNATIVE_CLAIMS
from tests.evaluate.planted_claims import KNN, paper_world

OUTCOMES = dict(
    enumerate(
        ("remove-position", "remove-first-components", "pca-k", "drop-outlier-tokens", "batchnorm", "whiten", "l2"), 37
    )
)
TREATED = ("feature-treatments", "patch_miou_difference")
SPLIT = ("feature-treatments", "position_share")
ROLES = [role for role in KNN if role != "random"]


def world_of(difference=0.0, share=0.8):
    world = paper_world()
    for role in ROLES:
        for outcome in OUTCOMES.values():
            where = {"classifier": "knn", "outcome": outcome, "reference": "remove-top 200"}
            world.put(role, *TREATED, difference, **where)
        world.put(role, *SPLIT, share, outcome="remove-top", m=200)
        world.put(role, *SPLIT, 0.1, outcome="none")
    return world


def judged(number, world, **bounds):
    [claim] = [one for one in ALTERNATIVE_CLAIMS if one.number == number]
    return decide(claim, world.evidence(**bounds))


@pytest.mark.parametrize("number", range(37, 45))
def test_a_claim_holds_where_it_is_so_of_every_model_and_fails_where_one_is_otherwise(number):
    world = world_of()
    found = judged(number, world)
    assert found.verdict == "holds", found
    assert len(found.numbers) == len(ROLES)
    assert found.paper == "no paper"
    if number in OUTCOMES:
        world.change("dinov2", *TREATED, -0.1, outcome=OUTCOMES[number])
    else:
        world.change("dinov2", *SPLIT, 0.2, outcome="remove-top")
    found = judged(number, world)
    assert found.verdict == "fails"
    assert [line.endswith("no") for line in found.numbers].count(True) == 1
    assert "DINOv2" in found.reason


def test_wide_intervals_decide_nothing():
    assert judged(37, world_of(-0.02)).verdict == "not testable"
    assert judged(44, world_of(share=0.5)).verdict == "not testable"


def test_what_is_missing_is_named():
    asked = decide_all(world_of().evidence())
    assert [one.claim for one in asked][-8:] == list(range(37, 45))
    assert not {one.claim for one in decide_all(paper_world().evidence())}.intersection(range(37, 45))
    found = judged(37, paper_world())
    assert found.verdict == "not testable"
    assert 'references = ["none", "remove-top"]' in found.reason
    assert 'parts = ["scores", "removed"]' in judged(44, paper_world()).reason
    world = world_of()
    for role in ROLES:
        world = world.without(role) or world
    assert "no model with a role passes the gate" in judged(37, world).reason


def test_claims_of_untreated_differences_do_not_read_those_to_a_removal():
    """A row with the same outcome and another reference is no gain."""
    for number, outcome in ((2, "remove-top"), (8, "batchnorm")):
        world = paper_world()
        before = decide(CLAIMS[number - 1], world.evidence())
        for role in ROLES:
            world.put(role, *TREATED, -0.5, classifier="knn", outcome=outcome, m=200, reference="remove-top 100")
        assert decide(CLAIMS[number - 1], world.evidence()) == before
