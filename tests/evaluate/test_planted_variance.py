"""Planted high variance ruins 1-NN by as much as float64 Monte Carlo says, and its removal undoes it as much."""

import numpy as np
import pytest

from evaluate.analyses.patch_classification import PatchClassification
from evaluate.registry import EvaluationSettings
from evaluate.results.table import ResultStore
from evaluate.runner import evaluate
from evaluate.selection import SelectionRule
from evaluate.settings import Selection
from stores.specs import VOID
from tests.evaluate.planted import planted

IMAGES, CHANNELS, PLANTED = 100, 128, 4
DRAWS = 200
SELECTION = Selection(train=SelectionRule(split="train"), validation=SelectionRule(split="val"))


def measured_errors(folder, n_planted, seed):
    """1-NN error of `evaluate` for m = 0 and m = PLANTED, and the patch labels of both halves, void ones among them."""
    measured = planted(folder / "store", n_images=IMAGES, channels=CHANNELS, planted=n_planted, seed=seed, tiles=1)
    analysis = PatchClassification(kind="patch-classification", classifiers=("knn",), remove=(0, PLANTED), resamples=0)
    settings = EvaluationSettings(selection=SELECTION, analyses=(analysis,))
    table = evaluate("t", [measured], settings, ResultStore(folder / "results")).table
    scores = table[table["metric"] == "patch_accuracy"].set_index("m")["value"]
    labels = measured.labels["patches/2x2"][:]
    half = len(labels) // 2
    return [1.0 - scores[m] for m in (0, PLANTED)], (labels[:half].reshape(-1), labels[half:].reshape(-1))


def drawn_errors(train, validation, n_planted, seed):
    """The same process in plain float64 numpy, DRAWS times: two means of norm 3, unit noise, variance 900 planted.

    The direction of the means is random, and so is their distance: it is drawn again too.
    """
    rng = np.random.default_rng(seed)
    bank_rows, query_rows = train != VOID, validation != VOID
    errors = np.empty((DRAWS, 2))
    for draw in errors:
        means = rng.normal(size=(2, CHANNELS))
        means *= 3.0 / np.linalg.norm(means, axis=1, keepdims=True)
        means[:, CHANNELS - n_planted :] = 0.0
        tokens = []
        for labels in (train, validation):
            values = rng.normal(size=(len(labels), CHANNELS))
            values[labels != VOID] += means[labels[labels != VOID]]
            values[:, CHANNELS - n_planted :] = rng.normal(size=(len(labels), n_planted)) * 30.0
            tokens.append(values)
        order = np.argsort(-tokens[0].var(axis=0), kind="stable")
        for place, m in enumerate((0, PLANTED)):
            bank, queries = tokens[0][bank_rows][:, order[m:]], tokens[1][query_rows][:, order[m:]]
            # Norms and a product, in float64: variances of 900 beside 1 leave a dozen digits.
            squared = (bank**2).sum(axis=1) - 2.0 * queries @ bank.T
            draw[place] = (train[bank_rows][squared.argmin(axis=1)] != validation[query_rows]).mean()
    return errors


@pytest.mark.parametrize("n_planted", [PLANTED, 0])
def test_the_error_of_nearest_neighbours_is_what_monte_carlo_expects(tmp_path, n_planted):
    measured, labels = measured_errors(tmp_path, n_planted, seed=0)
    drawn = drawn_errors(*labels, n_planted, seed=1)
    low, high = np.quantile(drawn, [0.005, 0.995], axis=0)
    for place, error in enumerate(measured):
        assert low[place] <= error <= high[place]
    low, high = np.quantile(drawn[:, 0] - drawn[:, 1], [0.005, 0.995])
    gain = measured[0] - measured[1]
    assert low <= gain <= high
    # The intervals are narrow enough to tell the two apart: removal undoes planted variance and nothing else.
    if n_planted:
        assert low > 0.1
    else:
        assert low < 0.0 < high < 0.1
