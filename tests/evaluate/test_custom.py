"""Analyses of a user's own on stored sets."""

import numpy as np
import pandas as pd
import pytest

import evaluate
from stores.errors import UserError
from tests.evaluate.planted import planted


def spread(features, layer):
    yield {"metric": "spread", "value": float(np.std(features[layer][:].astype(np.float64)))}


CALLS = []


def counted(features, scale=1):
    CALLS.append(scale)
    return {"metric": "rows", "value": float(len(features["block.0.norm"]) * scale)}


def test_a_function_becomes_a_table(tmp_path):
    features = planted(tmp_path).features
    table = evaluate.run(spread, [features], layer="block.0.norm")
    assert table.loc[0, "value"] == np.std(features["block.0.norm"][:].astype(np.float64))
    assert list(table.loc[0, ["analysis", "model", "metric"]]) == ["spread", features.spec.model.name, "spread"]
    assert evaluate.run(lambda one: 2.5, features)["value"].tolist() == [2.5]
    frame = evaluate.run(lambda one: pd.DataFrame({"metric": ["a", "b"], "value": [1.0, 2.0]}), features)
    assert frame["metric"].tolist() == ["a", "b"]


def test_a_stored_result_is_not_computed_again(tmp_path):
    features = planted(tmp_path / "store").features
    CALLS.clear()
    first = evaluate.run(counted, features, results=tmp_path / "results", scale=2)
    again = evaluate.run(counted, features, results=tmp_path / "results", scale=2)
    other = evaluate.run(counted, features, results=tmp_path / "results", scale=3)
    assert CALLS == [2, 3]
    pd.testing.assert_frame_equal(first, again)
    assert other["value"].tolist() == [48 * 3.0]


def test_rows_and_parameters_that_cannot_be_kept_are_refused_in_one_sentence(tmp_path):
    features = planted(tmp_path).features
    with pytest.raises(UserError, match="colour"):
        evaluate.run(lambda one: {"colour": 1}, features)
    with pytest.raises(UserError, match="plain value"):
        evaluate.run(counted, features, results=tmp_path, scale=object())
    with pytest.raises(UserError, match="put it into a file"):
        evaluate.run(eval("lambda one: 1.0"), features, results=tmp_path)


@pytest.mark.parametrize(
    ("function", "parameters", "says"),
    [
        (spread, {}, r"spread\(features, layer\) cannot be called as spread\(set\): missing a required argument"),
        (spread, {"layer": "a", "m": 3}, r"spread\(set, layer=..., m=...\): got an unexpected keyword argument 'm'"),
        (lambda: 1.0, {}, "too many positional arguments"),
        ("spread.py", {}, "'spread.py' is no function"),
    ],
)
def test_a_function_that_cannot_be_called_so_is_refused_before_anything_is_computed(function, parameters, says):
    def sets():
        yield pytest.fail("a set was read")

    with pytest.raises(UserError, match=says):
        evaluate.run(function, sets(), **parameters)
