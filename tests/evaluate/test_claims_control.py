"""From sets to verdicts: planted structure makes claims hold, random features under the models' names make none."""

from dataclasses import replace

import numpy as np
import pytest

from evaluate.analyses.feature_treatments import FeatureTreatments
from evaluate.analyses.patch_classification import PatchClassification
from evaluate.analyses.ranking_overlap import RankingOverlap
from evaluate.analyses.retrieval import Retrieval
from evaluate.analyses.variance_spectrum import VarianceSpectrum
from evaluate.claims import CLAIMS, decide_all
from evaluate.claims.estimates import ratio
from evaluate.claims.evidence import Evidence
from evaluate.claims.roles import model_info
from evaluate.claims.verdicts import verdict_of
from evaluate.registry import EvaluationSettings
from evaluate.results.table import ResultStore
from evaluate.runner import evaluate
from tests.evaluate.planted import planted
from tests.evaluate.planted_views import viewed_sets
from tests.evaluate.test_patch_classification import SELECTION

ROLES = ("mae", "simmim", "dino", "dinov2", "supervised")
CONTROLLED = {1, 2, 3, 5, 6, 7, 8, 9, 13}
"""Claims that must not hold of random features."""
PATCHES = PatchClassification(
    kind="patch-classification", remove=(0, 1, 4, 8), penalties=(1e-2,), k=(1,), resamples=100
)
ASKED = (
    PATCHES,
    VarianceSpectrum(kind="variance-spectrum", top=(4,), resamples=100),
    FeatureTreatments(
        kind="feature-treatments", m=(4,), treatments=("remove-top", "batchnorm"), penalties=(1e-2,), resamples=100
    ),
    RankingOverlap(kind="ranking-overlap", m=(4,), experiments=("other.toml",), resamples=100),
)


def named(folder, role, seed, **changes):
    made = planted(folder / f"{role}{seed}", n_images=32, tiles=1, seed=seed, **changes)
    return replace(made, title=role, role=role)


def decisions(folder, models, other_experiments, analyses=ASKED):
    settings = EvaluationSettings(selection=SELECTION, analyses=analyses)
    results = ResultStore(folder / "results")
    other = {"other.toml": [(one, SELECTION) for one in other_experiments]}
    found = evaluate("t", models, settings, results, other_experiments=other)
    arrays = {digest: result.arrays for digest, (_, result) in found.results.items()}
    evidence = Evidence(found.table, [model_info(one) for one in models], arrays)
    return evidence, {one.claim: one for one in decide_all(evidence)}


@pytest.fixture(scope="module")
def structured(tmp_path_factory):
    """A model with four features of huge variance beside classes that are told apart, and one without them."""
    folder = tmp_path_factory.mktemp("structured")
    mae, other = (named(folder, "mae", seed, planted=4, spread=0.3, classes=3) for seed in (1, 4))
    models = [mae, named(folder, "dino", 2, spread=0.8, classes=3), named(folder, "random", 3, spread=1e3, classes=3)]
    return decisions(folder, [replace(one, probe_batchnorm=True) for one in models], [other])


def test_planted_structure_makes_claims_hold(structured):
    _, found = structured
    for claim in (1, 2, 4, 5, 6, 7):
        assert found[claim].verdict == "holds", found[claim]
    assert found[12].verdict == "not testable"


def test_scores_of_the_same_images_are_compared_in_pairs(structured):
    evidence, _ = structured
    neighbours, probe = (evidence.patches(evidence.info("random"), name) for name in ("knn", "probe"))
    assert neighbours.units == probe.units != ""
    # The draws are those that made the interval in the table.
    np.testing.assert_allclose(np.quantile(probe.drawn, [0.025, 0.975]), [probe.low, probe.high])
    alone = neighbours.low / probe.high, neighbours.high / probe.low
    one = ratio("", neighbours, probe)
    assert alone[0] < one.low <= one.value <= one.high < alone[1]


@pytest.fixture(scope="module")
def random_weights(tmp_path_factory):
    """The models' names over features that know nothing of the labels."""
    folder = tmp_path_factory.mktemp("random")
    models = [named(folder, role, seed, spread=1e3) for seed, role in enumerate((*ROLES, "random"))]
    return decisions(folder, models, [named(folder, "mae", 30, spread=1e3)])


def test_random_features_under_the_models_names_make_no_claim_hold(random_weights):
    _, found = random_weights
    assert {found[claim].verdict for claim in CONTROLLED} == {"not testable"}
    assert {found[claim].part for claim in CONTROLLED} == {"not testable"}
    assert all("does not beat" in found[claim].reason for claim in CONTROLLED), found
    assert not [one for one in found.values() if one.verdict == "holds"]


def test_without_their_gate_the_rules_do_not_hold_either(random_weights):
    """What the gate would let through by luck must still not be what the paper found."""
    evidence, _ = random_weights
    for claim in CLAIMS:
        if claim.number in CONTROLLED:
            assert verdict_of(claim.rule(evidence))[0] != "holds", claim.sentence


def test_random_features_find_no_patch_as_claim_13_says(tmp_path):
    models = [
        replace(viewed_sets(tmp_path / role, n_images=20, noise=((10, 0.01),), seed=seed), title=role, role=role)
        for seed, role in enumerate(("mae", "dino", "random"))
    ]
    probe = PATCHES.model_copy(update={"classifiers": ("probe",), "remove": (0,)})
    search = Retrieval(kind="retrieval", views=("noise",), left_out=("nothing",), remove=(0, 8), resamples=100)
    _, found = decisions(tmp_path, models, [], (probe, search))
    assert found[13].verdict != "holds"
