"""Long passes in sections give the bits of one process, whichever process computed which section."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import evaluate.scoring.patch_classifiers as classifiers
from evaluate.neighbours import found as found_module
from evaluate.neighbours.found import sections
from evaluate.neighbours.knn import nearest_without_top
from evaluate.registry import EvaluationSettings
from evaluate.results.files import partial_files, remove_partials
from evaluate.results.sections import SectionFiles
from evaluate.results.table import ResultStore
from evaluate.runner import collect_tasks, evaluate
from evaluate.scoring import variance_bootstrap
from evaluate.scoring.tokens import geometry, geometry_sections
from evaluate.selection import SelectionRule
from evaluate.settings import Context, Selection
from tests.evaluate.planted import planted

SELECTION = Selection(train=SelectionRule(split="train"), validation=SelectionRule(split="val"))
KNN = {"kind": "patch-classification", "classifiers": ["knn"], "resamples": 10, "remove": [0, 4, 8], "k": [1, 3]}


@given(st.integers(1, 40), st.integers(1, 5), st.integers(1, 3), st.integers(0, 2**32 - 1))
@settings(max_examples=15, deadline=None)
def test_neighbours_in_sections_are_those_in_the_whole_bank(n_bank, k, section_rows, seed):
    """Values are few, so that most distances are equal and the order of rows decides."""
    random = np.random.default_rng(seed)
    bank, queries = (random.integers(0, 2, (n, 3)).astype(np.float16) for n in (n_bank, 7))
    ranking, k = random.permutation(3), min(k, n_bank)
    whole = nearest_without_top(bank, queries, ranking, [0, 2], k)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(found_module, "SECTION_ROWS", section_rows)
        cut = sections(n_bank)
        assert [cut[0][0], cut[-1][1]] == [0, n_bank]
        assert all(0 < stop - start <= section_rows for start, stop in cut)
        parts = nearest_without_top(bank, queries, ranking, [0, 2], k)
    for m in (0, 2):
        np.testing.assert_array_equal(parts[m].indices, whole[m].indices)
        np.testing.assert_array_equal(parts[m].squared_distances, whole[m].squared_distances)


@pytest.fixture
def model(tmp_path, monkeypatch):
    monkeypatch.setattr(found_module, "SECTION_ROWS", 20)
    return planted(tmp_path / "s", planted=3)


def tasks_of(model, results, *analyses):
    asked = EvaluationSettings(selection=SELECTION, analyses=tuple(analyses))
    return collect_tasks([model], asked, Context(SELECTION, 0, 2 << 30, {}, {}, results=results))[0]


def table(model, results, *analyses):
    asked = EvaluationSettings(selection=SELECTION, analyses=tuple(analyses))
    return evaluate("t", [model], asked, results).table


def test_a_search_merges_the_sections_that_others_have_searched(model, tmp_path, monkeypatch):
    alone = table(model, ResultStore(tmp_path / "alone"), KNN)
    results = ResultStore(tmp_path / "r")
    files = SectionFiles(results.root)
    [task] = tasks_of(model, results, KNN)
    [one] = task.passes()
    assert one.n_sections > 2
    assert list(one.missing(files)) == list(range(one.n_sections))
    for number in reversed(range(one.n_sections)):
        dataclasses.replace(one).compute_missing(number, files)
    assert list(one.missing(files)) == []
    with monkeypatch.context() as patch:
        patch.setattr(classifiers, "nearest_without_top", None)
        assert table(model, results, KNN).equals(alone)
    assert task.passes() == [], "neighbours are stored"
    one.remove(files)
    assert not files.root.exists()


def test_a_section_that_is_gone_or_torn_is_searched_by_the_task(model, tmp_path):
    alone = table(model, ResultStore(tmp_path / "alone"), KNN)
    for what in ("gone", "torn"):
        results = ResultStore(tmp_path / what)
        files = SectionFiles(results.root)
        [[one]] = [task.passes() for task in tasks_of(model, results, KNN)]
        for number in range(one.n_sections):
            one.compute_missing(number, files)
        path = files._path(one.digests[0], 1)
        path.unlink() if what == "gone" else path.write_bytes(path.read_bytes()[:-30])
        assert table(model, results, KNN).equals(alone)


def test_small_banks_and_others_than_exact_searches_have_no_sections(model, tmp_path, monkeypatch):
    results = ResultStore(tmp_path / "r")
    for change in (
        {"search": "faiss"},
        {"classifiers": ["probe"]},
        {"remove": [], "treatments": ["drop-outlier-tokens"]},
    ):
        tasks = tasks_of(model, results, {**KNN, **change})
        assert tasks
        assert [task.passes() for task in tasks] == [[]] * len(tasks)
    monkeypatch.setattr(found_module, "SECTION_ROWS", 1 << 16)
    [task] = tasks_of(model, results, KNN)
    assert task.passes() == []


GEOMETRY = {"kind": "feature-geometry", "resamples": 20, "top": (1, 3), "fitted_ranks": (1, 3)}


def test_geometry_merges_the_sections_that_others_have_computed(tmp_path, monkeypatch):
    model = planted(tmp_path / "s", planted=3)
    whole = table(model, ResultStore(tmp_path / "whole"), GEOMETRY)
    results = ResultStore(tmp_path / "r")
    assert not tasks_of(model, results, GEOMETRY)[0].passes()
    monkeypatch.setattr(geometry, "SECTION_TOKENS", 4 * 5)  # five rows of four patches
    alone = table(model, ResultStore(tmp_path / "alone"), GEOMETRY)
    files = SectionFiles(results.root)
    for task in tasks_of(model, results, GEOMETRY):
        [one] = task.passes()
        assert one.n_sections > 2
        assert task.parameters()["section_rows"] == 5
        for number in reversed(range(one.n_sections)):
            dataclasses.replace(one).compute_missing(number, files)
    with monkeypatch.context() as patch:
        patch.setattr(geometry_sections, "read_geometry", None)
        assert table(model, results, GEOMETRY).equals(alone)
    assert set(alone["result"]).isdisjoint(whole["result"]), "last bits may differ, so keys do"
    numbers = ["value", "low", "high"]
    np.testing.assert_allclose(
        *(one[numbers].to_numpy(float, na_value=np.nan) for one in (alone, whole)), rtol=1e-9, atol=1e-12
    )


def test_moments_merge_the_sections_that_others_have_computed(tmp_path, monkeypatch):
    model = planted(tmp_path / "s", planted=3, layers=2)
    every = {"layers": "all", "resamples": 20}
    asked = {"kind": "variance-spectrum", **every}, {"kind": "ranking-overlap", "m": [3], **every}
    alone = table(model, ResultStore(tmp_path / "alone"), *asked)
    monkeypatch.setattr(variance_bootstrap, "SECTION_TOKENS", 4 * 5)  # five rows of four patches
    assert table(model, ResultStore(tmp_path / "sections"), *asked).equals(alone)
    results = ResultStore(tmp_path / "r")
    files, passes = SectionFiles(results.root), {}
    for task in tasks_of(model, results, *asked):
        passes |= {one.digests: one for one in task.passes()}
    assert len(passes) == 2, "one a layer, shared by both analyses"
    for one in passes.values():
        assert one.n_sections > 2
        for number in reversed(range(one.n_sections)):
            dataclasses.replace(one).compute_missing(number, files)
    with monkeypatch.context() as patch:
        patch.setattr(variance_bootstrap, "moments_by_row", None)
        assert table(model, results, *asked).equals(alone)


def test_sections_of_a_killed_command_are_listed_by_gc_and_stay_for_the_next_one(tmp_path):
    files = SectionFiles(tmp_path)
    files.write("0" * 64, 3, {"values": np.arange(3)})
    [path] = partial_files(tmp_path)
    remove_partials(tmp_path, older_than=-1.0)
    assert path.is_file()
    np.testing.assert_array_equal(files.read("0" * 64, 3)["values"], np.arange(3))
    assert files.read("0" * 64, 4) is None
