"""A longer list of removed features: only new numbers m are computed, to the same rows as without the others."""

import pandas as pd
import pytest

from evaluate.analyses.patch_classification import PatchClassificationTask
from evaluate.registry import EvaluationSettings
from evaluate.results.table import ResultStore
from evaluate.runner import evaluate
from evaluate.selection import SelectionRule
from evaluate.settings import Selection
from tests.evaluate.planted import planted

SELECTION = Selection(train=SelectionRule(split="train"), validation=SelectionRule(split="val"))


def run(sets, results, removed, probe="converged"):
    analysis = {"kind": "patch-classification", "remove": removed, "k": [1, 3], "probe": probe, "resamples": 50}
    settings = EvaluationSettings(selection=SELECTION, analyses=(analysis,))
    return evaluate("t", [sets], settings, results)


def values(evaluation, m):
    table = evaluation.table[evaluation.table["m"] == m].drop(columns=["row"])
    return table.sort_values(["classifier", "metric", "k", "class"]).reset_index(drop=True)


@pytest.mark.parametrize("probe", ["converged", "adamw"])
def test_only_new_numbers_are_computed_and_equal_those_of_a_fresh_run(tmp_path, monkeypatch, probe):
    sets = planted(tmp_path / "s", planted=3)
    results, asked = ResultStore(tmp_path / "r"), []
    compute = PatchClassificationTask.compute

    def noted(self):
        asked.append((self.classifier, tuple(self.removed)))
        return compute(self)

    monkeypatch.setattr(PatchClassificationTask, "compute", noted)
    run(sets, results, [0, 8], probe)
    assert asked == [("knn", (0, 8)), ("probe", (0, 8))]
    asked.clear()
    longer = run(sets, results, [0, 2, 4, 8], probe)
    assert asked == [("knn", (2, 4)), ("probe", (2, 4))]
    asked.clear()
    fresh = run(sets, ResultStore(tmp_path / "fresh"), [0, 2, 4, 8], probe)
    assert asked == [("knn", (0, 2, 4, 8)), ("probe", (0, 2, 4, 8))]
    for m in (0, 2, 4, 8):
        assert len(values(longer, m))
        pd.testing.assert_frame_equal(values(longer, m), values(fresh, m), check_exact=True)
    asked.clear()
    assert run(sets, results, [4, 0], probe).n_computed == 0
    assert not asked


def test_an_m_that_two_analyses_ask_for_is_in_the_table_once(tmp_path):
    analyses = (
        {"kind": "patch-classification", "classifiers": ["knn"], "remove": removed} for removed in ([0], [0, 8])
    )
    settings = EvaluationSettings(selection=SELECTION, analyses=tuple(analyses))
    table = evaluate("t", [planted(tmp_path / "s", planted=3)], settings, ResultStore(tmp_path / "r")).table
    scores = table[(table["metric"] == "patch_miou") & table["m"].notna()]
    assert sorted(scores["m"]) == [0, 8]
