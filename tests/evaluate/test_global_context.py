"""What one patch knows of the image: against scikit-learn, and where it knows everything or nothing."""

import numpy as np
import pytest
from sklearn.linear_model import RidgeCV
from sklearn.metrics import r2_score
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from evaluate.analyses.global_context import GlobalContext, _variants, central_tokens, class_shares
from evaluate.inputs.rows import select_rows
from evaluate.kernels.probing.ridge import PENALTIES, r2, ridge
from evaluate.results.table import ResultStore
from evaluate.runner import evaluate
from stores.errors import UserError
from tests.evaluate.planted import planted
from tests.evaluate.test_patch_classification import SELECTION, settings_of


def analysis(**changes):
    return GlobalContext(kind="global-context", **{"classes": ("road", "tree"), "m": 4, "draws": 2, **changes})


def test_r2_equals_scikit_learn():
    rng = np.random.default_rng(0)
    truth, predicted = rng.random((40, 3)), rng.random((40, 3))
    times = rng.integers(0, 4, 40).astype(np.float64)
    np.testing.assert_allclose(r2(truth, predicted), r2_score(truth, predicted, multioutput="raw_values"))
    weighted = r2_score(truth, predicted, sample_weight=times, multioutput="raw_values")
    np.testing.assert_allclose(r2(truth, predicted, times), weighted)
    assert np.isnan(r2(np.ones((5, 1)), np.zeros((5, 1)))).all()


def test_a_linear_target_is_found_and_noise_is_not():
    rng = np.random.default_rng(1)
    inputs, queries = rng.normal(size=(200, 6)), rng.normal(size=(100, 6))
    images = np.repeat(np.arange(20), 10)
    weights = rng.normal(size=(6, 1))
    noise = rng.normal(size=(300, 1))
    predicted = ridge(inputs, np.hstack([inputs @ weights, noise[:200]]), images, queries)
    scores = r2(np.hstack([queries @ weights, noise[200:]]), predicted)
    assert scores[0] > 0.999
    assert scores[1] < 0.1


@pytest.mark.parametrize("channels", [4, 90])
def test_predictions_are_those_of_scikit_learns_search(channels):
    rng = np.random.default_rng(2)
    inputs, queries = rng.normal(size=(60, channels)), rng.normal(size=(10, channels))
    images = np.repeat(np.arange(12), 5)
    targets = inputs @ rng.normal(size=(channels, 3)) + rng.normal(size=(60, 3)) * [0.01, 3.0, 30.0]
    targets[:, 2] = images == 0  # no held-out fold but one has any
    folds = list(GroupKFold(5).split(inputs, groups=images))
    search = [make_pipeline(StandardScaler(), RidgeCV(PENALTIES, cv=folds)).fit(inputs, target) for target in targets.T]
    assert len({found[-1].alpha_ for found in search}) > 1
    np.testing.assert_array_equal(
        ridge(inputs, targets, images, queries), np.stack([found.predict(queries) for found in search], axis=1)
    )


def test_a_fold_of_one_row_has_no_say_and_no_other_is_refused():
    rng = np.random.default_rng(3)
    inputs = rng.normal(size=(9, 3))
    targets = rng.normal(size=(9, 1))
    folds = [fold for fold in GroupKFold(5).split(inputs, groups=np.arange(9)) if len(fold[1]) > 1]
    assert len(folds) == 4
    search = make_pipeline(StandardScaler(), RidgeCV(PENALTIES, cv=folds)).fit(inputs, targets[:, 0])
    assert search[-1].alpha_ > PENALTIES[0], "which it is where a fold without R² has a say"
    np.testing.assert_array_equal(ridge(inputs, targets, np.arange(9), inputs)[:, 0], search.predict(inputs))
    with pytest.raises(UserError, match="no fold of 5 training rows holds two: train on more images"):
        ridge(inputs[:5], targets[:5], np.arange(5), inputs)


def test_inputs_and_targets_are_the_central_patch_and_the_shares_of_pixels(tmp_path):
    measured = planted(tmp_path)
    chosen = select_rows(measured, SELECTION.validation)
    stored, pixels = measured.features["block.0.norm"][chosen.rows], measured.labels["pixels/classes"][chosen.rows]
    np.testing.assert_array_equal(central_tokens(measured, "tokens/block.0.norm", chosen), stored[:, 3])
    shares = class_shares(measured, chosen, ("tree", "road"), "tile")
    np.testing.assert_allclose(shares[:, 0], (pixels == 1).mean(axis=(1, 2)))
    whole = class_shares(measured, chosen, ("tree", "road"), "image")
    np.testing.assert_allclose(whole[0], shares[:2].mean(axis=0))
    np.testing.assert_allclose(whole[0], whole[1])


def test_every_variant_is_a_row_with_an_interval(tmp_path):
    measured = planted(tmp_path / "store", planted=4)
    found = evaluate("t", [measured], settings_of(analysis(resamples=100)), ResultStore(tmp_path / "r")).table
    differences = found[found["metric"] == "r2_difference"]
    found = found[found["metric"] == "r2"]
    assert found["outcome"].value_counts().to_dict() == {
        "all": 3,
        "without-top": 3,
        "random-alone": 6,
        "without-random": 6,
        "top-alone": 3,
    }
    means = found[found["class"].isna()]
    assert (means["low"] <= means["value"]).all()
    assert (means["value"] <= means["high"]).all()
    one = found[(found["outcome"] == "all") & found["class"].notna()]["value"].mean()
    assert means[means["outcome"] == "all"]["value"].iloc[0] == pytest.approx(one)
    by_outcome = means.groupby("outcome")["value"].mean()
    for row in differences.to_dict("records"):
        assert row["value"] == pytest.approx(by_outcome[row["outcome"]] - by_outcome[row["reference"]])
        assert row["low"] <= row["value"] <= row["high"]
    assert len(differences) == 4


def test_unknown_classes_and_too_many_features_are_refused(tmp_path):
    measured = planted(tmp_path / "store")
    with pytest.raises(UserError, match="'lake'; the classes are road, tree, sky"):
        evaluate("t", [measured], settings_of(analysis(classes=("lake",))), ResultStore(tmp_path / "r"))
    with pytest.raises(UserError, match="choose a smaller m"):
        evaluate("t", [measured], settings_of(analysis(m=16)), ResultStore(tmp_path / "r"))


def test_random_alone_keeps_the_random_features_that_without_random_leaves_out():
    """Few features that carry the signal: m random ones alone miss most of them, the others hardly any."""
    ranking = np.arange(40)
    variants = list(_variants(ranking, analysis(m=10, draws=4), seed=0))
    kept = {(outcome, draw): mask for outcome, draw, mask in variants}
    for draw in range(4):
        assert kept["random-alone", draw].sum() == 10
        np.testing.assert_array_equal(kept["random-alone", draw], ~kept["without-random", draw])
    rng = np.random.default_rng(0)
    latent = rng.normal(size=(400, 12))
    inputs = latent @ rng.normal(size=(12, 40)) + 2.0 * rng.normal(size=(400, 40))
    targets = (latent @ rng.normal(size=(12, 1))) * 1.0
    images = np.arange(400) // 4

    def score(mask):
        predicted = ridge(inputs[:300, mask], targets[:300], images[:300], inputs[300:, mask])
        return r2(targets[300:], predicted)[0]

    alone = np.mean([score(kept["random-alone", draw]) for draw in range(4)])
    without = np.mean([score(kept["without-random", draw]) for draw in range(4)])
    assert alone < without - 0.1, "the two experiments answer different questions"
