"""Probes choose their penalty by the score that is reported, and may be trained for fixed epochs instead."""

import json

import numpy as np
import pytest

from evaluate.analyses.feature_treatments import FeatureTreatments
from evaluate.kernels.probing.first_order import fit_adamw
from evaluate.kernels.probing.lbfgs import Head
from evaluate.kernels.probing.penalties import choose_penalty
from evaluate.kernels.probing.probes import fit_probes, predict, predict_side_by_side
from evaluate.results.table import ResultStore
from evaluate.runner import evaluate
from tests.evaluate.planted import planted
from tests.evaluate.test_patch_classification import classification, settings_of


def long_tailed(seed, n_rows=2000, n_images=15, classes=16, channels=64):
    """Classes of Zipf frequency 1 / rank², with an effect of the image on every patch."""
    rng = np.random.default_rng(seed)
    share = 1.0 / np.arange(1, classes + 1) ** 2
    means = 0.3 * rng.standard_normal((classes, channels))
    labels = rng.choice(classes, n_rows, p=share / share.sum())
    images = np.arange(n_rows) * n_images // n_rows
    effects = 0.5 * rng.standard_normal((n_images, channels))
    features = means[labels] + rng.standard_normal((n_rows, channels)) + effects[images]
    return features.astype(np.float16), labels.astype(np.uint8), images


def test_the_penalty_is_that_of_the_best_held_out_miou():
    lost = []
    for seed in (0, 2):
        data = long_tailed(seed)
        by_miou, by_accuracy = (
            choose_penalty(*data, 16, standardise=True, seed=0, score=score)
            for score in ("patch_miou", "patch_accuracy")
        )
        best, other = (by_miou.penalties.index(one.probe.head.penalty) for one in (by_miou, by_accuracy))
        assert by_miou.scores[best] == by_miou.scores.max()
        lost.append(by_miou.scores[best] - by_miou.scores[other])
    assert min(lost) > 0.01, "choosing by accuracy costs mIoU where classes are rare"
    default = choose_penalty(*data, 16, standardise=True, seed=0)
    np.testing.assert_array_equal(default.scores, by_miou.scores)


def test_one_penalty_needs_no_held_out_image():
    features, labels, images = long_tailed(0)
    choice = choose_penalty(features, labels, np.zeros_like(images), 16, standardise=False, seed=0, penalties=(1e-3,))
    [alone] = fit_probes(features, labels, 16, [Head(1e-3)], standardise=False)
    np.testing.assert_array_equal(choice.probe.weight, alone.weight)
    assert (choice.held_out, choice.trials) == ((), ())


def test_results_name_the_criterion_and_whether_the_trials_converged(tmp_path):
    analysis = classification(classifiers=("probe",), penalties=(1e-2, 1e-3))
    tables = []
    for score in ("patch_miou", "patch_accuracy"):
        experiment = settings_of(analysis.model_copy(update={"penalty_score": score}))
        table = evaluate("t", [planted(tmp_path / "store")], experiment, ResultStore(tmp_path / "r")).table
        assert {json.loads(params)["penalty_score"] for params in table["params"]} == {score}
        [share] = table[table["metric"] == "trials_converged"]["value"]
        assert share in (0.0, 0.5, 1.0)
        tables.append(table)
    assert set(tables[0]["result"]) != set(tables[1]["result"])


def badly_scaled(seed=0, n_rows=4000, channels=64, classes=4):
    """A spectrum of few large features that say little and a long tail of tiny ones that tell the classes apart."""
    rng = np.random.default_rng(seed)
    scale = np.concatenate([10 ** np.linspace(1.3, 0.0, 16), 10 ** np.linspace(-1.5, -2.5, channels - 16)])
    means = 0.6 * rng.normal(size=(classes, channels))
    means[:, :16] *= 0.1
    labels = rng.integers(0, classes, n_rows).astype(np.uint8)
    return ((means[labels] + rng.normal(size=(n_rows, channels))) * scale).astype(np.float32), labels


def test_fixed_epochs_show_what_batchnorm_changes_and_a_converged_fit_does_not():
    features, labels = badly_scaled()
    train, test = slice(0, 3000), slice(3000, 4000)

    def accuracy(probe):
        return float((predict(probe, features[test]) == labels[test]).mean())

    def adamw(standardise, **options):
        [probe] = fit_adamw(features[train], labels[train], 4, [None], standardise=standardise, seed=0, **options)
        return probe

    plain, normed = adamw(False, epochs=60), adamw(True, epochs=60)
    converged = [
        fit_probes(features[train], labels[train], 4, [Head(1e-6)], standardise=how)[0] for how in (False, True)
    ]
    assert accuracy(normed) - accuracy(plain) > 0.2
    assert abs(accuracy(converged[1]) - accuracy(converged[0])) < 0.05
    assert normed.iterations == 60 * 3
    assert adamw(True, epochs=5).objective > normed.objective
    np.testing.assert_array_equal(adamw(True, epochs=60).weight, normed.weight)


def test_removed_features_play_no_part_in_fixed_epochs():
    features, labels = badly_scaled()
    kept = np.ones(64, dtype=np.bool_)
    kept[:2] = False
    whole, without = fit_adamw(features, labels, 4, [None, kept], standardise=False, seed=0)
    assert not without.weight[:, :2].any()
    alone = fit_adamw(np.ascontiguousarray(features[:, 2:]), labels, 4, [None], standardise=False, seed=0)[0]
    np.testing.assert_array_equal(alone.weight, without.weight[:, 2:])
    assert (predict_side_by_side([whole, without], features)[1] == predict(without, features)).all()


@pytest.mark.parametrize("settings", [classification(classifiers=("probe",)), FeatureTreatments(
    kind="feature-treatments", classifiers=("probe",), treatments=("batchnorm",), resamples=0)])  # fmt: skip
def test_an_experiment_asks_for_fixed_epochs(settings, tmp_path):
    experiment = settings_of(settings.model_copy(update={"probe": "adamw", "epochs": 3, "learning_rate": 0.01}))
    table = evaluate("t", [planted(tmp_path / "store")], experiment, ResultStore(tmp_path / "r")).table
    params = json.loads(table["params"].iloc[0])
    assert (params["probe"], params["epochs"], params["learning_rate"]) == ("adamw", 3, 0.01)
    assert "penalties" not in params
    assert not table["metric"].isin(["penalty", "converged"]).any()
    assert (table[table["metric"] == "training_loss"]["value"] > 0).all()
