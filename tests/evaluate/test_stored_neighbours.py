"""Neighbours are searched once for all analyses, votes and smaller k, and rows are those of a direct search."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

import evaluate.scoring.patch_classifiers as classifiers
import evaluate.scoring.stored_neighbours as module
from evaluate.inputs.model_sets import ViewSets
from evaluate.neighbours.knn import nearest_without_top
from evaluate.registry import EvaluationSettings
from evaluate.results.table import ResultStore
from evaluate.runner import evaluate
from evaluate.selection import SelectionRule
from evaluate.settings import Selection
from tests.evaluate.planted import planted

SELECTION = Selection(train=SelectionRule(split="train"), validation=SelectionRule(split="val"))
CLASSIFICATION = {"kind": "patch-classification", "classifiers": ["knn"], "resamples": 50}


@pytest.fixture
def sets(tmp_path):
    model = planted(tmp_path / "s", planted=3)
    views = {("noise", 10.0): ViewSets("noise", 10.0, model.features, model.labels)}
    return dataclasses.replace(model, views=views)


@pytest.fixture
def searches(monkeypatch):
    """Note (removed, k, queries) of every search."""
    asked = []

    def noted(bank, queries, ranking, removed, k, **options):
        asked.append((tuple(removed), k, len(queries)))
        return nearest_without_top(bank, queries, ranking, removed, k, **options)

    monkeypatch.setattr(classifiers, "nearest_without_top", noted)
    return asked


def run(sets, results, *analyses):
    settings = EvaluationSettings(selection=SELECTION, analyses=tuple(analyses))
    return evaluate("t", [sets], settings, results).table


def without_store(monkeypatch, sets, folder, *analyses):
    """Return the table of analyses that store no neighbours and read none."""
    with monkeypatch.context() as patch:
        patch.setattr(module, "MOST_BYTES", 0)
        patch.setattr(module.Search, "stored", lambda self, removed, k, results: {})
        return run(sets, ResultStore(folder), *analyses)


def equal(one, other):
    columns = [name for name in one.columns if name != "row"]
    pd.testing.assert_frame_equal(one[columns], other[columns], check_exact=True)


QUESTIONS = (
    {**CLASSIFICATION, "remove": [0, 4, 8], "k": [5]},
    {"kind": "label-maps", "images": 2, "remove": [0, 8]},
    {"kind": "robustness", "classifiers": ["knn"], "remove": [0, 4, 8], "resamples": 50},
    {**CLASSIFICATION, "remove": [0, 4, 8], "k": [1, 3]},
)


def test_one_search_answers_all_analyses_and_smaller_k(sets, searches, tmp_path, monkeypatch):
    results = ResultStore(tmp_path / "r")
    table = run(sets, results, *QUESTIONS)
    n_queries = 24 * 4
    assert searches == [((0, 4, 8), 5, n_queries), ((0, 4, 8), 1, n_queries)], "the second is that of the view"
    searches.clear()
    direct = without_store(monkeypatch, sets, tmp_path / "direct", *QUESTIONS)
    assert len(searches) == 5
    equal(table, direct)


def test_only_a_larger_k_and_a_new_m_are_searched(sets, searches, tmp_path, monkeypatch):
    results = ResultStore(tmp_path / "r")
    for more, expected in (
        ({"remove": [0, 4], "k": [3]}, [((0, 4), 3, 96)]),
        ({"remove": [0, 4], "k": [2], "resamples": 40}, []),
        ({"remove": [0, 2, 4], "k": [1], "resamples": 40}, [((2,), 1, 96)]),
        ({"remove": [0, 2], "k": [4]}, [((0, 2), 4, 96)]),
        ({"remove": [0, 2, 4], "k": [1, 2]}, []),
        ({"remove": [0], "k": [1], "metric": "cosine"}, [((0,), 1, 96)]),
        ({"remove": [0], "k": [1], "metric": "cosine", "weights": "softmax"}, []),
        ({"remove": [0], "train_per_group": [2], "k": [1]}, [((0,), 1, 96)]),
    ):
        searches.clear()
        question = {**CLASSIFICATION, **more}
        table = run(sets, results, question)
        assert searches == expected, more
        equal(table, without_store(monkeypatch, sets, tmp_path / str(more), question))


def test_stored_neighbours_are_the_searched_ones(sets, tmp_path):
    results = ResultStore(tmp_path / "r")
    run(sets, results, {**CLASSIFICATION, "remove": [0, 4], "k": [3]})
    patches = classifiers.read_patches(sets, "tokens/block.0.norm", *_split(sets))
    search = patches.search(patches.validation, "euclidean")
    stored = search.stored([0, 4], 2, results)
    direct = nearest_without_top(patches.bank, patches.queries, patches.ranking, [0, 4], 3)
    for m in (0, 4):
        np.testing.assert_array_equal(stored[m].indices, direct[m].indices[:, :2])
        np.testing.assert_array_equal(stored[m].squared_distances, direct[m].squared_distances[:, :2])
        assert stored[m].redone == direct[m].redone
    assert search.stored([0, 4], 4, results) == {}
    assert results.cited() >= {sets.features.digest, sets.features.content["tokens/block.0.norm"]}


def _split(sets):
    from evaluate.inputs.rows import RowSplit

    split = RowSplit(sets, SELECTION, "")
    return split.train, split.validation


@pytest.mark.parametrize("change", ["torn", "other rows", "other bank", "other names", "other types"])
def test_what_no_search_gives_is_searched_again_and_replaced(sets, searches, tmp_path, change):
    results = ResultStore(tmp_path / "r")
    question = {**CLASSIFICATION, "remove": [0], "k": [3]}
    table = run(sets, results, question)
    patches = classifiers.read_patches(sets, "tokens/block.0.norm", *_split(sets))
    key = patches.search(patches.validation, "euclidean").key(0)
    arrays = results.folder(key) / "arrays.npz"
    with np.load(arrays) as packed:
        values = dict(packed)
    if change == "torn":
        arrays.write_bytes(arrays.read_bytes()[:50])
    else:
        if change == "other rows":
            values = {name: value[:-1] if value.ndim == 2 else value for name, value in values.items()}
        if change == "other bank":
            values["indices"] = values["indices"] + 1000
        if change == "other names":
            values["distances"] = values.pop("squared_distances")
        if change == "other types":
            values["indices"] = values["indices"].astype(np.float32)
        np.savez(arrays, **values)
    for folder in (results.root / "answers").iterdir():
        if folder != results.folder(key):
            (folder / "answer.json").unlink()
    searches.clear()
    equal(run(sets, results, question), table)
    assert searches == [((0,), 3, 96)]
    assert patches.search(patches.validation, "euclidean").stored([0], 3, results)


def test_large_searches_are_not_kept(sets, searches, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MOST_BYTES", 2 * 96 * 3 * 12 - 1)
    results = ResultStore(tmp_path / "r")
    run(sets, results, {**CLASSIFICATION, "remove": [0, 4], "k": [3]})
    run(sets, results, {**CLASSIFICATION, "remove": [0, 4], "k": [1]})
    run(sets, results, {**CLASSIFICATION, "remove": [0, 4], "k": [1], "weights": "uniform", "resamples": 20})
    assert [k for _, k, _ in searches] == [3, 1]
