"""Treated features against scikit-learn, and on sets where the right answer is planted."""

import json
from dataclasses import replace

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.preprocessing import normalize

from evaluate.analyses.feature_treatments import FeatureTreatments
from evaluate.kernels.moments import variance_ranking
from evaluate.kernels.treatments import Treatment, fit_treatment, kept_features
from evaluate.results.table import ResultStore
from evaluate.runner import evaluate
from stores.errors import UserError
from tests.evaluate.planted import planted, write_set
from tests.evaluate.test_patch_classification import SELECTION, by_hand, miou_by_hand, settings_of


def rows(seed, n=300, channels=12):
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(n, channels)) * np.logspace(1, -1, channels) + 5).astype(np.float16)


def distances(a, b):
    return ((a[:, None].astype(np.float64) - b[None].astype(np.float64)) ** 2).sum(-1)


def test_whitening_and_directions_equal_scikit_learn():
    bank, queries = rows(0), rows(1, 50)
    whiten = fit_treatment(Treatment("whiten"), bank, np.arange(12), 0)
    by_sklearn = PCA(whiten=True, svd_solver="full").fit(bank.astype(np.float64))
    # scikit-learn divides by n - 1, which scales all distances alike.
    expected = distances(by_sklearn.transform(queries), by_sklearn.transform(bank)) * 300 / 299
    np.testing.assert_allclose(distances(whiten(queries), whiten(bank)), expected, rtol=1e-4)
    directions = fit_treatment(Treatment("l2"), bank, np.arange(12), 0)(queries)
    np.testing.assert_allclose(directions, normalize(queries.astype(np.float64)), rtol=1e-5)


def test_a_direction_without_variance_is_left_out_of_whitening():
    bank = rows(0)
    bank[:, 3] = bank[:, 2]
    whitened = fit_treatment(Treatment("whiten"), bank, np.arange(12), 0)(bank)
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
    return evaluate("t", [measured], settings_of(analysis), ResultStore(folder / "r")).table


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


def test_every_probe_says_how_strongly_it_was_held_back(table):
    probes = table[table["classifier"] == "probe"].fillna({"m": 0, "x_value": -1.0})
    treated = ["outcome", "m", "x_value"]
    for metric, value in (("penalty", 0.01), ("converged", 1.0)):
        said = probes[probes["metric"] == metric]
        assert (said["value"] == value).all()
        assert said[treated].values.tolist() == probes.loc[probes["metric"] == "patch_miou", treated].values.tolist()
    assert not table.loc[table["classifier"] == "knn", "metric"].isin(["penalty", "converged"]).any()


def test_a_removal_that_leaves_nothing_is_passed_over(table):
    assert set(table["m"].dropna()) == {4}
    assert len(table[(table["outcome"] == "remove-random") & (table["classifier"] == "knn")]) == 4


def foreign(folder, *, first=0, seed=1, title="planted", channels=16):
    """Another data set of the model, on which four features from ``first`` on vary most where it trains."""
    made = planted(folder, seed=seed, channels=channels)
    kept = made.features["tokens/block.0.norm"][:].astype(np.float64)
    rows = made.samples["split"].eq("train").to_numpy()
    kept[rows, :, first : first + 4] *= 40.0
    kept[~rows, :, 10:14] *= 400.0
    facts = {"layer": 0, "norm": True, "grid_rows": 2, "grid_columns": 2}
    values = {"tokens/block.0.norm": (kept.astype(np.float16), ("sample", "patch", "channel"), facts)}
    features = write_set(folder / "again", made.features.spec, values, {"samples": made.samples})
    return replace(made, title=title, features=features)


OTHER = FeatureTreatments(
    kind="feature-treatments",
    classifiers=("knn",),
    treatments=("remove-top",),
    m=(4, 16),
    experiments=("b.toml",),
    resamples=50,
)


def test_features_that_vary_on_the_training_rows_of_another_set_are_removed(tmp_path):
    here, there = planted(tmp_path / "a", planted=4), foreign(tmp_path / "b")
    found = evaluate(
        "t", [here], settings_of(OTHER), ResultStore(tmp_path / "r"), other_experiments={"b.toml": [(there, SELECTION)]}
    ).table
    (bank, labels), (queries, truth, scored, _) = by_hand(here)
    train = (there.samples["split"] == "train").to_numpy()
    variances = there.features["tokens/block.0.norm"][:][train].astype(np.float64).reshape(-1, 16).var(axis=0)
    kept = np.sort(np.argsort(-variances, kind="stable")[4:])
    assert kept.tolist() == list(range(4, 16)), "validation rows would say 10 to 13"
    nearest = distances(queries[..., kept].reshape(-1, 12), bank[:, kept]).argmin(axis=1)
    predicted = labels[nearest].reshape(truth.shape)
    expected = miou_by_hand(truth[scored], predicted[scored])
    row = score(found, "knn", "remove-other b.toml")
    assert row["value"] == pytest.approx(expected)
    assert row["m"] == 4
    base = score(found, "knn", "none")["value"]
    difference = score(found, "knn", "remove-other b.toml", "patch_miou_difference")
    assert difference["value"] == pytest.approx(expected - base)
    assert difference["reference"] == "none"
    assert score(found, "knn", "remove-top")["value"] > expected + 0.1, "the four that matter here are kept"


def test_the_ranking_of_a_set_that_varies_alike_helps_as_much(tmp_path):
    here, there = planted(tmp_path / "a", planted=4), planted(tmp_path / "b", planted=4, seed=5)
    both = OTHER.model_copy(update={"classifiers": ("knn", "probe"), "penalties": (0.01,)})
    found = evaluate(
        "t", [here], settings_of(both), ResultStore(tmp_path / "r"), other_experiments={"b.toml": [(there, SELECTION)]}
    ).table
    for classifier in ("knn", "probe"):
        own, other = (score(found, classifier, name)["value"] for name in ("remove-top", "remove-other b.toml"))
        assert own == other


def test_the_result_is_named_by_the_other_sets_and_their_selection(tmp_path):
    here, there = planted(tmp_path / "a", planted=4), foreign(tmp_path / "b")
    results = ResultStore(tmp_path / "r")

    def evaluated(other, selection=SELECTION, analysis=OTHER):
        found = evaluate(
            "t", [here], settings_of(analysis), results, other_experiments={"b.toml": [(other, selection)]}
        )
        [digest] = found.table["result"].unique()
        return digest, json.loads(found.table["inputs"][0]), found.table

    digest, inputs, _ = evaluated(there)
    assert inputs["b.toml features"] == there.features.digest
    assert inputs["b.toml labels"] == there.labels.digest
    assert inputs["b.toml tokens/block.0.norm"] == there.features.content["tokens/block.0.norm"]
    fewer = SELECTION.model_copy(update={"train": SELECTION.train.model_copy(update={"per_group": 2})})
    others = {digest, evaluated(there, fewer)[0], evaluated(foreign(tmp_path / "c", first=2))[0]}
    assert len(others) == 3
    # Where every image trains, the features are others than those of the training images alone.
    assert (
        score(evaluated(there, None)[2], "knn", "remove-other b.toml")["value"]
        != score(evaluated(there)[2], "knn", "remove-other b.toml")["value"]
    )


def test_models_that_are_not_there_are_told_and_keep_their_other_treatments(tmp_path):
    here, alone, there = (
        planted(tmp_path / "a", planted=4),
        replace(planted(tmp_path / "b", planted=4, seed=2), title="alone"),
        foreign(tmp_path / "c"),
    )
    other_experiments = {"b.toml": [(there, SELECTION)]}
    found = evaluate(
        "t", [here, alone], settings_of(OTHER), ResultStore(tmp_path / "r"), other_experiments=other_experiments
    )
    assert found.notes == ["feature-treatments compares alone with nothing in b.toml, which has no model of this title"]
    assert set(found.table[found.table["model"] == "alone"]["outcome"]) == {"none", "remove-top"}
    narrow = foreign(tmp_path / "d", channels=14)
    found = evaluate(
        "t",
        [here],
        settings_of(OTHER),
        ResultStore(tmp_path / "r"),
        other_experiments={"b.toml": [(narrow, SELECTION)]},
    )
    assert found.notes == [
        "feature-treatments compares planted with nothing in b.toml: it has 16 features here and 14 there"
    ]
    assert set(found.table["outcome"]) == {"none", "remove-top"}
    with pytest.raises(UserError, match="feature-treatments finds no model of b"):
        evaluate("t", [alone], settings_of(OTHER), ResultStore(tmp_path / "r"), other_experiments=other_experiments)
