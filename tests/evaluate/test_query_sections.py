"""Searches of queries in sections give the bits of one process, for every analysis that has them."""

import pytest

from commands.experiment.evaluation_in_worker import EvaluationOrder, _in_sections
from evaluate.neighbours import found, knn, query_sections
from evaluate.registry import EvaluationSettings
from evaluate.results.sections import SectionFiles
from evaluate.results.table import ResultStore
from evaluate.runner import collect_tasks, evaluate
from evaluate.scoring import variance_bootstrap
from evaluate.selection import SelectionRule
from evaluate.settings import Context, Selection
from tests.evaluate.planted_views import viewed_sets

SELECTION = Selection(train=SelectionRule(split="train"), validation=SelectionRule(split="val"))
KNN = {"classifiers": ["knn"], "resamples": 10}
PATCHES = {"resamples": 10, "remove": [0, 4]}
ASKED = {
    "views of patches": ({"kind": "robustness", **KNN, "remove": [0, 4], "views": ["noise"]}, 6000),
    "views of images": ({"kind": "robustness", **KNN, "classes": "images", "views": ["noise"], "image_k": 3}, 8),
    "images": ({"kind": "image-classification", **KNN, "k": [1, 3], "layers": [-1]}, 4),
    "images at a size": ({"kind": "image-knn", "k": 3, **PATCHES}, 4),
    "retrieval": ({"kind": "retrieval", **PATCHES, "left_out": ["nothing", "source"], "views": ["shift"]}, 12000),
    "in context": ({"kind": "in-context-segmentation", "k": 3, **PATCHES}, 6000),
    "in a small memory": ({"kind": "in-context-segmentation", "k": 3, "memory_size": 40, "resamples": 10}, 1200),
    "treatments": (
        {
            "kind": "feature-treatments",
            "classifiers": ["knn"],
            "resamples": 10,
            "m": [4],
            "draws": 1,
            "treatments": ["remove-top", "remove-random"],
        },
        6000,
    ),
    "dimensions": (
        {"kind": "intrinsic-dimension", "vectors": ["patch"], "patches": 64, "resamples": 10},
        1000,
    ),
}
"""Analyses, and the most pairs of a section."""
QUICK = "images at a size", "retrieval"
TREATED = {
    "kind": "retrieval", "remove": [], "treatments": ["centre"], "left_out": ["nothing"], "resamples": 0,
}  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return viewed_sets(tmp_path_factory.mktemp("views"), n_images=8, tiles=2)


@pytest.fixture
def small_sections(monkeypatch):
    monkeypatch.setattr(found, "SECTION_ROWS", 50)
    monkeypatch.setattr(variance_bootstrap, "SECTION_TOKENS", 16 * 3)


def settings_of(analysis):
    return EvaluationSettings(selection=SELECTION, analyses=(analysis,))


def tasks_of(model, results, analysis):
    return collect_tasks([model], settings_of(analysis), Context(SELECTION, 0, 2 << 30, {}, {}, results=results))[0]


def table(model, results, analysis):
    return evaluate("t", [model], settings_of(analysis), results).table


def compute_all(model, results, analysis):
    """Compute all sections as workers do, backwards but for those that others need; return how many there are."""
    tasks, files = tasks_of(model, results, analysis), SectionFiles(results.root)
    order = EvaluationOrder("", "", str(results.root), "cpu", 2 << 30, "", "")
    arguments, needs, passes = _in_sections(order, tasks)
    sections = list(range(len(arguments) - len(tasks)))
    assert all(needs[number] for number in range(len(sections), len(arguments)))
    done = set()
    while left := [number for number in reversed(sections) if number not in done]:
        number = next(one for one in left if done.issuperset(needs.get(one, ())))
        _, title, digest, section = arguments[number]
        [task] = [one for one in tasks_of(model, results, analysis) if (one.title, one.key.digest) == (title, digest)]
        [own] = [one for one in task.passes() if one.digests == section.digests]
        own.compute_missing(section.number, files)
        done.add(number)
    return len(sections), passes


@pytest.mark.parametrize("name", [one if one in QUICK else pytest.param(one, marks=pytest.mark.slow) for one in ASKED])
def test_a_task_merges_the_neighbours_that_others_have_searched(model, tmp_path, monkeypatch, small_sections, name):
    analysis, pairs = ASKED[name]
    alone = table(model, ResultStore(tmp_path / "alone"), analysis)
    monkeypatch.setattr(query_sections, "SECTION_PAIRS", pairs)
    results = ResultStore(tmp_path / "r")
    n_sections, passes = compute_all(model, results, analysis)
    assert n_sections > 2
    with monkeypatch.context() as patch:
        patch.setattr(knn, "search", None)
        assert table(model, results, analysis).equals(alone), "keys are the same too"
    assert all(not task.passes() for task in tasks_of(model, results, analysis)), "results are stored"
    for one in passes:
        one.remove(SectionFiles(results.root))
    assert not SectionFiles(results.root).root.exists()


@pytest.mark.parametrize(
    "what", ["torn", *(pytest.param(one, marks=pytest.mark.slow) for one in ("gone", "of other queries"))]
)
def test_a_section_that_is_not_there_is_searched_by_the_task(model, tmp_path, monkeypatch, what):
    analysis, results = ASKED["images"][0] | {"pooled": ["mean-patch"]}, ResultStore(tmp_path / "r")
    alone = table(model, ResultStore(tmp_path / "alone"), analysis)
    monkeypatch.setattr(query_sections, "SECTION_PAIRS", 4)
    _, [one] = compute_all(model, results, analysis)
    files = SectionFiles(results.root)
    path = files._path(one.digests[0], 1)
    if what == "gone":
        path.unlink()
    elif what == "torn":
        path.write_bytes(path.read_bytes()[:-30])
    else:
        files.write(one.digests[0], 1, {name: rows[:-1] for name, rows in files.read(one.digests[0], 1).items()})
    assert table(model, results, analysis).equals(alone)


def test_small_searches_and_those_of_treated_features_have_no_sections(model, tmp_path, monkeypatch):
    results = ResultStore(tmp_path / "r")
    monkeypatch.setattr(query_sections, "SECTION_PAIRS", 1)
    assert [task.passes() for task in tasks_of(model, results, TREATED)] == [[]]
    monkeypatch.undo()
    for analysis, _ in ASKED.values():
        for task in tasks_of(model, results, analysis):
            assert list(task.passes()) == []


def test_sections_hold_no_more_than_so_many_neighbours(monkeypatch):
    def one(**changes):
        facts = {"k": 2, "n_bank": 100, "n_units": 10, "of_unit": 4} | changes
        return query_sections.QueryPass("", (), {0: ""}, metric="cosine", search=lambda *some: {}, **facts)

    monkeypatch.setattr(query_sections, "SECTION_PAIRS", 100 * 4 * 3)
    assert one().cut == [(0, 2), (2, 5), (5, 7), (7, 10)]
    assert one(n_units=3).cut == [(0, 3)]
    assert one(n_bank=10**9).n_sections == 10, "a unit at least"
    monkeypatch.setattr(query_sections, "SECTION_NEIGHBOURS", 2 * 4)
    assert one().n_sections == 10
