"""Treated features against scikit-learn, and on sets where the right answer is planted."""

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.preprocessing import normalize

from evaluate.analyses.feature_treatments import FeatureTreatments
from evaluate.answering import evaluate
from evaluate.moments import variance_ranking
from evaluate.results import Results
from evaluate.treatments import Treatment, fitted, kept_features
from tests.evaluate.planted import planted
from tests.evaluate.test_patch_classification import ask


def rows(seed, n=300, channels=12):
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(n, channels)) * np.logspace(1, -1, channels) + 5).astype(np.float16)


def distances(a, b):
    return ((a[:, None].astype(np.float64) - b[None].astype(np.float64)) ** 2).sum(-1)


def test_whitening_and_directions_equal_scikit_learn():
    bank, queries = rows(0), rows(1, 50)
    whiten = fitted(Treatment("whiten"), bank, np.arange(12), 0)
    by_sklearn = PCA(whiten=True, svd_solver="full").fit(bank.astype(np.float64))
    # scikit-learn divides by n - 1, which scales all distances alike.
    expected = distances(by_sklearn.transform(queries), by_sklearn.transform(bank)) * 300 / 299
    np.testing.assert_allclose(distances(whiten(queries), whiten(bank)), expected, rtol=1e-4)
    directions = fitted(Treatment("l2"), bank, np.arange(12), 0)(queries)
    np.testing.assert_allclose(directions, normalize(queries.astype(np.float64)), rtol=1e-5)


def test_a_direction_without_variance_is_left_out_of_whitening():
    bank = rows(0)
    bank[:, 3] = bank[:, 2]
    whitened = fitted(Treatment("whiten"), bank, np.arange(12), 0)(bank)
    assert whitened.shape == (300, 11)
    np.testing.assert_allclose(np.cov(whitened.T, bias=True), np.eye(11), atol=1e-3)


def test_removals_keep_what_they_say():
    ranking = variance_ranking(np.array([1.0, 9.0, 4.0, 16.0]))
    assert kept_features(Treatment("remove-top", 2), ranking, 0).tolist() == [True, False, True, False]
    assert kept_features(Treatment("remove-lowest", 1), ranking, 0).tolist() == [False, True, True, True]
    first, second = (kept_features(Treatment("remove-random", 2, draw), np.arange(50), 7) for draw in (0, 1))
    assert first.sum() == second.sum() == 48
    assert (first != second).any()
    more = kept_features(Treatment("remove-random", 3, 0), np.arange(50), 7)
    assert (more <= first).all(), "larger random removals hold the smaller ones"


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    folder = tmp_path_factory.mktemp("treated")
    measured = planted(folder / "store", planted=4)
    analysis = FeatureTreatments(kind="feature-treatments", m=(4, 40), draws=2, penalties=(0.01,), resamples=200)
    return evaluate("t", [measured], ask(analysis), Results(folder / "r")).table


def score(table, classifier, outcome, metric="patch_miou"):
    found = table[(table["classifier"] == classifier) & (table["outcome"] == outcome) & (table["metric"] == metric)]
    assert len(found) == 1
    return found.iloc[0]


def test_only_what_removes_or_scales_the_planted_features_helps_neighbours(table):
    base = score(table, "knn", "none")["value"]
    for outcome in ("remove-top", "batchnorm", "whiten"):
        difference = score(table, "knn", outcome, "patch_miou_difference")
        assert difference["low"] > 0.1, outcome
        assert difference["value"] == pytest.approx(score(table, "knn", outcome)["value"] - base)
        assert difference["reference"] == "none"
    assert score(table, "knn", "remove-lowest", "patch_miou_difference")["high"] < 0.15
    assert abs(score(table, "probe", "remove-top", "patch_miou_difference")["value"]) < 0.1


def test_a_removal_that_leaves_nothing_is_passed_over(table):
    assert set(table["m"].dropna()) == {4}
    assert len(table[(table["outcome"] == "remove-random") & (table["classifier"] == "knn")]) == 4
