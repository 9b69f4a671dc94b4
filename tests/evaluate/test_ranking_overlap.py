"""Overlap of top-m sets against Python's sets, and chance against drawing."""

import dataclasses

import numpy as np
import pytest

from evaluate.analyses.ranking_overlap import RankingOverlap, _chance_bounds
from evaluate.registry import EvaluationSettings
from evaluate.results.table import ResultStore
from evaluate.runner import evaluate
from evaluate.selection import SelectionRule
from evaluate.settings import Selection
from tests.evaluate.planted import planted

SELECTION = Selection(train=SelectionRule(split="train"))


def top(measured, array, m):
    rows = np.flatnonzero(measured.samples["split"] == "train")
    tokens = measured.features[array][:][rows].astype(np.float64)
    variance = tokens.reshape(-1, tokens.shape[-1]).var(axis=0)
    return set(np.argsort(-variance, kind="stable")[:m].tolist())


def test_chance_against_drawing():
    rng = np.random.default_rng(0)
    drawn = [len(np.intersect1d(rng.permutation(100)[:20], np.arange(20))) for _ in range(20000)]
    expected, low, high = _chance_bounds(100, 20)
    assert expected == 4 == pytest.approx(np.mean(drawn), abs=0.05)
    assert [low, high] == list(np.quantile(drawn, [0.025, 0.975]))


def test_layers_models_and_data_sets(tmp_path):
    first = planted(tmp_path / "a", layers=2, seed=1)
    second = dataclasses.replace(planted(tmp_path / "b", layers=2, seed=2), title="Other")
    third = dataclasses.replace(planted(tmp_path / "c", layers=2, seed=3), title=first.title)
    analysis = RankingOverlap(kind="ranking-overlap", m=(5, 9, 400), layers="all", experiments=("c.toml",))
    settings = EvaluationSettings(selection=SELECTION, analyses=(analysis,))
    other_experiments = {"c.toml": [(third, SELECTION)]}
    found = evaluate(
        "t", [first, second], settings, ResultStore(tmp_path / "r"), other_experiments=other_experiments
    ).table
    blocks = [f"tokens/block.{layer}.norm" for layer in (0, 1)]
    cases = [(first, blocks[0], first, blocks[1], "block.1.norm")]
    cases += [(first, block, second, block, "Other") for block in blocks]
    cases += [(first, block, third, block, "c.toml") for block in blocks]
    cases += [(second, blocks[0], second, blocks[1], "block.1.norm")]
    assert len(found) == len(cases) * 2 * 5
    for one, array, other, other_array, reference in cases:
        for m in (5, 9):
            rows = found[(found["model"] == one.title) & (found["array"] == array.partition("/")[2])]
            rows = rows[(rows["reference"] == reference) & (rows["m"] == m)].set_index("metric")["value"]
            shared = len(top(one, array, m) & top(other, other_array, m))
            assert rows["overlap"] == shared
            assert rows["overlap_share"] == shared / m
            assert rows["chance_overlap"] == m * m / 16


def test_a_model_of_another_width_elsewhere_is_told_and_not_compared(tmp_path):
    here, there = planted(tmp_path / "a", seed=1), planted(tmp_path / "b", channels=12, seed=2)
    settings = EvaluationSettings(analyses=(RankingOverlap(kind="ranking-overlap", m=(5,), experiments=("b.toml",)),))
    found = evaluate("t", [here], settings, ResultStore(tmp_path / "r"), other_experiments={"b.toml": [(there, None)]})
    assert found.table.empty
    [note] = found.notes
    assert "compares planted with nothing in b.toml: it has 16 features here and 12 there" in note
