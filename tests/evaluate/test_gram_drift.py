"""Drift of the likeness of patches: the formula in float64, invariances, and views."""

import dataclasses

import numpy as np
import pytest

from evaluate.analyses.gram_drift import GramDrift
from evaluate.figures.gram_drift import figure
from evaluate.registry import EvaluationSettings
from evaluate.results.table import ResultStore
from evaluate.runner import evaluate
from stores.errors import UserError
from tests.evaluate.planted import planted
from tests.evaluate.planted_views import viewed_sets


def table_of(folder, models, **settings):
    analysis = GramDrift(kind="gram-drift", resamples=50, **settings)
    return evaluate("t", models, EvaluationSettings(analyses=(analysis,)), ResultStore(folder / "results")).table


def reference(one, other):
    """Row by row, pair by pair of patches."""
    total = 0.0
    for row, other_row in zip(one.astype(np.float64), other.astype(np.float64), strict=True):
        for i in range(len(row)):
            for j in range(len(row)):
                cosines = [
                    tokens[i] @ tokens[j] / np.linalg.norm(tokens[i]) / np.linalg.norm(tokens[j])
                    for tokens in (row, other_row)
                ]
                total += (cosines[0] - cosines[1]) ** 2
    return total / (len(one) * one.shape[1] ** 2)


def test_drift_of_layers_and_models_equals_the_formula(tmp_path):
    one, other = (planted(tmp_path / str(seed), layers=2, seed=seed) for seed in (0, 1))
    other = dataclasses.replace(other, title="other")
    table = table_of(tmp_path, [one, other])
    assert set(table["metric"]) == {"gram_drift"}
    assert len(table) == 3 * 2 * 2
    rows = table.set_index(["model", "reference", "layer", "x_value"])
    tokens = [[model.features[f"block.{layer}.norm"][:] for layer in (0, 1)] for model in (one, other)]
    titles = (one.title, "other")
    for (a, b), layer, depth in (((0, 0), 0, 2), ((0, 1), 0, 1), ((0, 1), 1, 1), ((1, 1), 1, 1)):
        expected = reference(tokens[a][layer], tokens[b][depth - 1])
        found = rows.loc[(titles[a], titles[b], layer, float(depth))]
        assert float(found["value"]) == pytest.approx(expected, rel=1e-4, abs=1e-7)
        assert float(found["low"]) <= float(found["value"]) + 1e-9
    assert figure(table, []) is not None


def test_rotated_and_scaled_features_do_not_drift(tmp_path):
    from evaluate.analyses.gram_drift import cosine_grams, drift

    rng = np.random.default_rng(0)
    tokens, turn = rng.normal(size=(9, 6)), np.linalg.qr(rng.normal(size=(6, 6)))[0]
    grams = [cosine_grams(some) for some in (tokens, 3 * tokens @ turn, rng.normal(size=(9, 6)))]
    found = drift(grams, grams)
    assert found[0, 1] == pytest.approx(0, abs=1e-10)
    assert found[0, 2] > 0.05


def test_views_are_compared_with_the_clean_patches_in_the_same_layers(tmp_path):
    model = viewed_sets(tmp_path / "v", noise=((10, 0.5),))
    table = table_of(tmp_path, [model], views=("noise",))
    viewed = table[table["view"] == "noise"]
    assert viewed["level"].tolist() == [10.0]
    clean = model.features["block.0.norm"][:]
    noisy = model.views["noise", 10.0].features["block.0.norm"][:]
    assert float(viewed["value"].iloc[0]) == pytest.approx(reference(clean, noisy), rel=1e-4)
    with pytest.raises(UserError, match="gram-drift has the view blurred"):
        table_of(tmp_path, [model], views=("blurred",))
