"""Examples of a retrieval are the very patches that are nearest, read from pictures in which every patch is marked."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb

from evaluate.analyses.retrieval import Retrieval, RetrievalTask
from evaluate.figures import retrieval_examples
from evaluate.figures.retrieval import COLOURS
from evaluate.inputs.rows import RowSplit, select_rows
from evaluate.registry import EvaluationSettings
from evaluate.results.table import Result, ResultStore
from evaluate.runner import evaluate
from evaluate.scoring.retrieval.examples import _smaller, example_arrays, shown_queries
from evaluate.scoring.retrieval.outcomes import OUTCOMES
from evaluate.settings import Context
from tests.evaluate.planted_views import CELLS, CLASSES, viewed_sets

ANALYSIS = Retrieval(kind="retrieval", remove=(0, 8), recall_at=(1, 5), resamples=0, pictures=3)
ARRAY = "tokens/block.0.norm"


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("examples")
    measured = viewed_sets(folder / "store", noise=((10, 0.01), (40, 2.0)), pictures=True)
    evaluation = evaluate("t", [measured], EvaluationSettings(analyses=(ANALYSIS,)), ResultStore(folder / "results"))
    [(_, result)] = evaluation.results.values()
    return measured, evaluation.table, result


def marked(arrays, line, place):
    """Return image, class and patch of a framed patch, as its colour says."""
    rows, columns = arrays["example_grid"]
    tile = arrays["example_tiles"][arrays["example_tile"][line, place]]
    row, column = divmod(int(arrays["example_patch"][line, place]), columns)
    side = len(tile) // rows
    inside = tile[row * side : (row + 1) * side, column * side : (column + 1) * side].reshape(-1, 3)
    assert (inside == inside[0]).all()
    return tuple(int(value) for value in inside[0] // [5, 50, 10])


def test_every_example_is_what_float64_differences_find(found):
    measured, _, result = found
    arrays = result.arrays
    lines = list(zip(arrays["example_view"], arrays["example_m"], strict=True))
    assert lines == [(view, m) for view in ("noise 40", "shift 1") for m in (0, 8) for _ in range(3)]
    clean = measured.features[ARRAY][:].reshape(-1, 32).astype(np.float64)
    labels = measured.labels["patches/4x4"][:].reshape(-1)
    order = np.argsort(-clean.var(axis=0), kind="stable")
    for line, (view, m) in enumerate(lines):
        name, level = view.split()
        image, label, patch = marked(arrays, line, 0)
        for_view = measured.views[name, float(level)].features[ARRAY][image]
        place = patch + (name == "shift")  # one patch to the right
        query, bank = for_view[place, order[m:]].astype(np.float64), clean[:, order[m:]]
        nearest = np.argsort(((bank - query) ** 2).sum(axis=1), kind="stable")[:3]
        assert [marked(arrays, line, at) for at in (1, 2, 3)] == [
            (hit // CELLS**2, labels[hit], hit % CELLS**2) for hit in nearest
        ]
        assert arrays["example_category"][line] == CLASSES["name"][label] != "background"
        for number, hit in zip(arrays["example_outcome"][line], nearest, strict=True):
            assert (OUTCOMES[number] == "same-patch") == (hit == image * CELLS**2 + patch)
            assert (OUTCOMES[number] == "background") == (labels[hit] == 0)
            assert (OUTCOMES[number] in ("same-patch", "same-category")) == (labels[hit] == label)


def test_the_figure_frames_these_patches_and_names_the_outcome(found):
    _, table, result = found
    drawn = retrieval_examples.figure(table, [("Planted", result)])
    panels = np.array(drawn.axes).reshape(-1, 4)
    assert len(panels) == len(result.arrays["example_view"])
    # Of every view its queries in turn, each with all features and without the leading ones.
    for line, row in zip([0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11], panels, strict=True):
        names = [OUTCOMES[number] for number in result.arrays["example_outcome"][line]]
        assert [panel.get_xlabel() for panel in row[1:]] == [name.replace("-", " ") for name in names]
        for place, panel in enumerate(row):
            frame = panel.patches[-1]
            assert divmod(result.arrays["example_patch"][line, place], CELLS) == (frame.get_y(), frame.get_x())
            if place:
                assert frame.get_edgecolor()[:3] == to_rgb(COLOURS[names[place - 1]])
    assert retrieval_examples.figure(table, [("Planted", Result([]))]) is None
    many = [("Planted", result)] * 13  # 52 groups of four tiles: one query each
    assert len(retrieval_examples.figure(table, many).axes) == 13 * 4 * 4


def test_pictures_change_no_number_and_no_key_that_cannot_show_them(found, tmp_path):
    measured, table, _ = found
    plain = viewed_sets(tmp_path / "store", noise=((10, 0.01), (40, 2.0)))
    other = evaluate("t", [plain], EvaluationSettings(analyses=(ANALYSIS,)), ResultStore(tmp_path / "results"))
    # With pictures all m are one result, so the order of rows differs.
    columns = ["view", "level", "reference", "m", "metric", "k", "outcome", "value", "low", "high"]
    rows = [one[columns].sort_values(columns).reset_index(drop=True) for one in (other.table, table)]
    pd.testing.assert_frame_equal(*rows)
    assert not any(result.arrays for _, result in other.results.values())
    context = Context(None, 0)
    without = ANALYSIS.model_copy(update={"pictures": 0})

    def key(sets, settings):
        return RetrievalTask(sets, ARRAY, settings, context, RowSplit(sets, context.selection, "retrieval")).key

    assert key(plain, ANALYSIS).digest == key(plain, without).digest
    assert "pictures" not in key(measured, without).parameters
    assert key(measured, ANALYSIS).parameters["pictures"] == 3


def test_queries_without_a_clean_patch_are_not_shown_and_nothing_is_kept_of_none(found):
    own = np.array([-1, 4, -1, 7, 9, -1])
    assert shown_queries(own, 2).tolist() == [1, 4]
    assert shown_queries(own, 0).tolist() == shown_queries(np.array([-1, -1]), 2).tolist() == []
    measured = found[0]
    assert example_arrays([], measured, select_rows(measured, None), ARRAY, "inputs/pixels.bicubic") == {}


def test_large_tiles_become_means_of_squares():
    tiles = np.random.default_rng(0).integers(0, 256, (2, 300, 200, 3)).astype(np.uint8)
    means = _smaller(tiles)
    assert means.shape == (2, 100, 66, 3)
    np.testing.assert_array_equal(means[1, 7, 5], np.rint(tiles[1, 21:24, 15:18].reshape(9, 3).mean(axis=0)))
    np.testing.assert_array_equal(_smaller(tiles[:, :128, :128]), tiles[:, :128, :128])
