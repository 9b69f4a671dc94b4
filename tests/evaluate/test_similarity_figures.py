"""Figures of similarity show the table's numbers, of the kind of token with most layers."""

import numpy as np
import pytest

from evaluate.analyses.similarity import Similarity
from evaluate.figures import invariance, similarity, token_geometry
from evaluate.registry import EvaluationSettings
from evaluate.report.reading import StoredResults
from evaluate.results.table import ResultStore, long_table
from evaluate.runner import evaluate
from tests.evaluate.planted_similarity import compared, related

TITLES = ("First", "Second", "Third, of two layers")


def with_mlp(layers):
    return layers | {(block, "mlp"): tokens[::-1].copy() for (block, _), tokens in layers.items()}


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    folder = tmp_path_factory.mktemp("figures")
    models = [
        compared(folder / title, title, with_mlp(related(n, n_rows=64, n_layers=2 + (n < 2))), size=4)
        for n, title in enumerate(TITLES)
    ]
    analyses = (
        Similarity(kind="similarity", tokens=("all", "patches"), points=("mlp", "output"), resamples=50),
        Similarity(kind="similarity", tokens=("mean-patch",), norm="none", layers=(-1,)),
    )
    settings = EvaluationSettings(analyses=analyses)
    return evaluate("t", models, settings, ResultStore(folder / "r")).table


def values(table, model, reference, point=None, kind="patches", column="value"):
    rows = table[(table["metric"] == "cka") & (table["model"] == model) & (table["reference"] == reference)]
    rows = rows[(rows["token"] == kind) & (rows["outcome"].isna() if point is None else rows["outcome"] == point)]
    return rows.pivot(index="layer", columns="x_value", values=column).to_numpy(dtype=float)


def drawn_images(figure):
    return [axes.images[0].get_array() for axes in figure.axes if axes.images]


def test_heat_maps_are_a_triangle_of_models_with_one_scale(table):
    figure = similarity.figure(table, [])
    expected = [values(table, one, other) for n, one in enumerate(TITLES) for other in TITLES[n:]]
    for found, matrix in zip(drawn_images(figure), expected, strict=True):
        np.testing.assert_array_equal(found, matrix)
    least = min(0.0, *(matrix.min() for matrix in expected))
    assert {axes.images[0].get_clim() for axes in figure.axes if axes.images} == {(least, 1.0)}
    labels = [axes.get_ylabel() for axes in figure.axes]
    assert "CKA" in labels
    assert "depth of First, blocks" in labels
    ticks = [[label.get_text() for label in axes.get_xticklabels()] for axes in figure.axes if axes.images]
    assert ticks[0] == ["1", "2", "3"]
    assert ticks[2] == ["1", "2"]
    assert any("patch tokens" in text.get_text() for text in figure.texts)


def test_models_are_joined_by_their_last_layers(table):
    [axes] = similarity.by_model(table, []).axes
    last = {(one, other): values(table, one, other)[-1, -1] for one in TITLES for other in TITLES if one < other}
    segments = [path for line in axes.collections for path in line.get_segments()]
    joined = sorted({round(float(x), 9) for path in segments for x in path[:, 0]})
    assert joined[1] == pytest.approx(1 - max(last.values()))
    apart = sorted(1 - value for value in last.values())
    assert joined[2] == pytest.approx((apart[1] + apart[2]) / 2)
    assert sorted(label.get_text() for label in axes.get_yticklabels()) == sorted(TITLES)
    assert similarity.by_model(table[~table["model"].eq("First") & ~table["reference"].eq("First")], []) is None


def test_sublayers_have_a_column_a_point(table):
    figure = similarity.sublayers(table, [])
    pairs = [("First", "Second"), ("First", TITLES[2]), ("Second", TITLES[2])]
    expected = [values(table, *pair, point) for pair in pairs for point in ("mlp", None)]
    for found, matrix in zip(drawn_images(figure), expected, strict=True):
        np.testing.assert_array_equal(found, matrix)
    titles = [axes.get_title(loc="left") for axes in figure.axes if axes.images]
    means = [float(np.diagonal(matrix).mean()) for matrix in expected[:2]]
    assert titles[:3] == [f"mlp: {means[0]:.2f}", f"output: {means[1]:.2f}", "mlp"]
    assert similarity.sublayers(table[table["outcome"].isna()], []) is None
    third = (table["model"] == TITLES[2]) | (table["reference"] == TITLES[2])
    staged = similarity.sublayers(table[table["outcome"].isna() | ~third], [])
    assert len(drawn_images(staged)) == 2, "pairs that have their outputs alone have no row"


def test_corresponding_layers_are_drawn_against_depth_with_their_intervals(table):
    [axes] = similarity.by_depth(table, []).axes
    lines = {line.get_label(): line for line in axes.lines if not line.get_label().startswith("_")}
    assert list(lines) == ["First and Second"], "models of other depths have no corresponding layers"
    np.testing.assert_array_equal(lines["First and Second"].get_xdata(), [1.0, 2.0, 3.0])
    np.testing.assert_array_equal(lines["First and Second"].get_ydata(), np.diagonal(values(table, "First", "Second")))
    low = np.diagonal(values(table, "First", "Second", column="low"))
    assert axes.collections[0].get_datalim(axes.transData).y0 == pytest.approx(low.min())


def test_titles_that_matplotlib_would_read_as_formulas_are_shown_as_they_are(table):
    odd = {"First": "_$a$", "Second": "b$", TITLES[2]: "$"}
    table = table.assign(**{name: table[name].replace(odd) for name in ("model", "reference")})
    results = StoredResults(table, [], {})
    assert [name for name in results.figures if name.startswith("similarity")] == [
        "similarity", "similarity-models", "similarity-depth", "similarity-sublayers"
    ]  # fmt: skip
    figure = results.figure("similarity-depth")
    [entry] = figure.legends[0].get_texts()
    assert entry.get_text() == "\N{ZERO WIDTH SPACE}_\\$a\\$ and b\\$"


def test_one_model_has_its_own_heat_map_alone(table):
    alone = table[(table["model"] == "First") & (table["reference"] == "First")]
    assert len(drawn_images(similarity.figure(alone, []))) == 1
    assert len(drawn_images(similarity.sublayers(alone, []))) == 2
    assert similarity.by_depth(alone, []) is None
    assert similarity.by_model(alone, []) is None


def many_pairs(n_models, title):
    """Rows of CKA of all pairs of models at two blocks."""
    titles = [f"{title} {number}" for number in range(n_models)]
    return long_table(
        [
            {"model": one, "reference": other, "analysis": "similarity", "metric": "cka", "value": 0.5, "layer": layer}
            | {"token": "patches", "x_name": "reference_depth", "x_value": float(depth + 1), "array": f"block.{layer}"}
            for place, one in enumerate(titles)
            for other in titles[place:]
            for layer in range(2)
            for depth in range(2)
        ]
    )


def test_pairs_of_many_models_with_long_titles_leave_the_panel_its_room_and_have_looks_of_their_own():
    figure = similarity.by_depth(many_pairs(8, "A model whose title tells all that there is to tell of it, number"), [])
    figure.draw_without_rendering()
    [panel] = figure.axes
    width, height = figure.get_size_inches()
    assert panel.get_position().height * height > 2.0
    [legend] = figure.legends
    box = legend.get_window_extent()
    assert box.x1 <= width * figure.dpi
    assert box.y0 >= panel.get_window_extent().y1
    lines = [line for line in panel.lines if not line.get_label().startswith("_")]
    assert len({(line.get_color(), line.get_marker(), str(line._dash_pattern)) for line in lines}) == len(lines) == 28


def test_a_single_depth_has_one_tick_and_few_views_leave_room_for_the_legend():
    rows = [
        {
            "model": f"A model {number} of a long title",
            "analysis": analysis,
            "metric": metric,
            "value": 0.4,
            "layer": 11,
        }
        | {"low": 0.3, "high": 0.5, "array": "block.11", "token": "mean-patch", **where}
        for number in range(8)
        for analysis, metric, where in (
            ("token-geometry", "space_cosine", {"x_name": "depth", "x_value": 12.0}),
            ("invariance", "invariance", {"view": "flip", "level": 1.0}),
        )
    ]
    table = long_table(rows)
    [panel] = token_geometry.statistics(table, []).axes
    low, high = panel.get_xlim()
    assert [tick for tick in panel.get_xticks() if low <= tick <= high] == [12.0]
    figure = invariance.figure(table, [])
    figure.draw_without_rendering()
    [panel], [legend] = figure.axes, figure.legends
    assert legend.get_window_extent().y0 >= panel.get_tightbbox().y1


def test_stages_and_tiles_are_called_by_their_names():
    rows = many_pairs(2, "Model").assign(train="84 rows of 21 images", n_train=21)
    stages = rows["array"].str.replace("block", "stage")
    rows["array"] = rows["array"].where(rows["model"] != "Model 1", stages)
    drawn = similarity.figure(rows, [])
    labels = [panel.get_ylabel().replace("\n", " ") for panel in drawn.axes if panel.get_ylabel().startswith("depth")]
    assert labels == ["depth of Model 0, blocks", "depth of Model 1, stages"]
    assert "84 rows of 21 images" in drawn.texts[-1].get_text()
