"""Drift of the likeness of patches: the formula in float64, invariances, and views."""

import dataclasses

import numpy as np
import pytest

from evaluate.analyses.gram_drift import GramDrift, cosine_grams, drift, pooled, pooling
from evaluate.figures.gram_drift import figure
from evaluate.inputs.model_sets import ModelSets, ViewSets
from evaluate.registry import EvaluationSettings
from evaluate.results.table import ResultStore
from evaluate.runner import evaluate
from stores.errors import UserError
from stores.specs import ViewSpec
from tests.evaluate.planted import CLASSES, planted, write_set
from tests.evaluate.planted_similarity import table_of as table_of_rows
from tests.evaluate.planted_views import viewed_sets
from tests.stores.specs_for_tests import FEATURES, LABELS


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
    rng = np.random.default_rng(0)
    tokens, turn = rng.normal(size=(9, 6)), np.linalg.qr(rng.normal(size=(6, 6)))[0]
    grams = [cosine_grams(some) for some in (tokens, 3 * tokens @ turn, rng.normal(size=(9, 6)))]
    assert drift(grams[0], grams[1]) == pytest.approx(0, abs=1e-10)
    assert drift(grams[0], grams[2]) > 0.05


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


def area_pooled(tokens, side, to):
    """The mean over a fine raster of which both grids are whole multiples, in float64."""
    fine = side * to
    raster = tokens.astype(np.float64).reshape(side, side, -1).repeat(to, axis=0).repeat(to, axis=1)
    return raster.reshape(to, fine // to, to, fine // to, -1).mean(axis=(1, 3)).reshape(to * to, -1)


@pytest.mark.parametrize(("side", "to"), [(16, 14), (4, 2), (5, 3), (3, 3)])
def test_pooled_tokens_are_means_by_area(side, to):
    tokens = np.random.default_rng(side).normal(size=(side * side, 7)).astype(np.float32)
    found = pooled(tokens, (side, side), (to, to))
    np.testing.assert_allclose(found, area_pooled(tokens, side, to), atol=1e-6)
    np.testing.assert_allclose(pooling(side, to).sum(axis=1), 1.0, rtol=1e-6)


def test_models_and_views_of_other_grids_are_compared_on_the_smaller_one(tmp_path):
    """Tokens at twice the resolution whose means of 2 x 2 are the clean tokens have no drift."""
    rng = np.random.default_rng(0)
    coarse = rng.normal(size=(12, 3, 3, 5))
    fine = coarse.repeat(2, axis=1).repeat(2, axis=2)
    fine[:, ::2] += (noise := rng.normal(size=(12, 3, 6, 5)))
    fine[:, 1::2] -= noise
    other = rng.normal(size=(12, 5, 5, 4))
    sets = [gridded(tmp_path / str(number), tokens) for number, tokens in enumerate((coarse, fine, other))]
    spec = FEATURES.model_copy(update={"view": ViewSpec(name="size", parameters={"level": 448})})
    larger = gridded(tmp_path / "v", fine, spec)
    views = {("size", 448.0): ViewSets("size", 448.0, larger.features, larger.labels)}
    models = [dataclasses.replace(one, title=name) for one, name in zip(sets, "ABC", strict=True)]
    models[0] = dataclasses.replace(models[0], views=views)
    table = table_of(tmp_path, models, views=None, norm="none")
    between = table[table["view"] == "clean"].set_index(["model", "reference"])["value"]
    assert float(between["A", "B"]) == pytest.approx(0, abs=1e-4), "float16"
    stored = [model.features["block.0"][:] for model in models]
    small = np.stack([area_pooled(row, 5, 3) for row in stored[2]])
    assert float(between["A", "C"]) == pytest.approx(reference(stored[0], small), rel=1e-4)
    assert float(between["C", "C"]) == pytest.approx(0, abs=1e-9)
    titles = [panel.get_title(loc="left") for panel in figure(table, []).axes]
    assert titles == ["between models, same depth or last layers", "under a view, same layer"], (
        "no layer has a later one"
    )
    [viewed] = table[table["view"] == "size"]["value"]
    assert float(viewed) == pytest.approx(float(between["A", "B"]), abs=1e-9)


def gridded(folder, tokens, spec=FEATURES):
    """Write tokens ``row height width channel`` as one layer of a model."""
    n_rows, rows, columns = tokens.shape[:3]
    facts = {"layer": 0, "norm": False, "grid_rows": rows, "grid_columns": columns}
    stored = tokens.reshape(n_rows, rows * columns, -1).astype(np.float16)
    table = table_of_rows(n_rows)
    features = write_set(
        folder, spec, {"tokens/block.0": (stored, ("sample", "patch", "channel"), facts)}, {"samples": table}
    )
    pixels = (np.zeros((n_rows, 1, 1), np.uint8), ("sample", "height", "width"), {})
    labels = write_set(folder, LABELS, {"pixels/classes": pixels}, {"samples": table, "classes": CLASSES})
    return ModelSets("A", features, labels, False, "patchbank extract planted.toml")
