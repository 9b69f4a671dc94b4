"""Figures, claims and the first table take one layer, training size, k and m, and say which."""

import re

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from matplotlib.figure import Figure

from evaluate.claims.evidence import Evidence
from evaluate.figures import FIGURES
from evaluate.figures.style import interval_marks
from evaluate.report.headline import headline
from evaluate.report.reading import StoredResults
from evaluate.report.writing import write_report
from evaluate.results.preferred import conditions, preferred_rows
from evaluate.results.table import Result, ResultStore, long_table
from evaluate.runner import Evaluation
from stores.errors import UserError

REMOVED = (0, 10, 50, 200)
LAYERS = range(12)
SHARED = {"experiment": "e", "analysis": "patch-classification", "data_set": "cityscapes", "token": "patch",
          "normed": True, "distance": "euclidean", "view": "clean"}  # fmt: skip


def row(model="MAE", layer=11, n_train=72, m=0, k=1, value=0.5, **more):
    interval = {"low": value - 0.1, "high": value + 0.1}
    place = {"array": f"block.{layer}.norm", "layer": layer, "x_name": "layer", "x_value": float(layer)}
    scored = {"classifier": "knn", "metric": "patch_miou", "n_train": n_train, "train": f"{n_train} images"}
    return SHARED | place | interval | scored | {"model": model, "m": m, "k": k, "value": value} | more


def cityscapes(models=("MAE", "DINO")):
    """Rows as experiments/cityscapes.toml makes them: only the last layer and m = 0 with 36 and 144 images."""
    rows = []
    for model in models:
        rows += [row(model, m=m, value=0.2 + m / 1000, classifier=name) for name in ("knn", "probe") for m in REMOVED]
        rows += [row(model, layer, value=0.1 + layer / 100) for layer in LAYERS]
        rows += [row(model, n_train=n, value=n / 200, classifier=name) for name in ("knn", "probe") for n in (36, 144)]
        rows += [
            row(model, layer, n, value=0.3, metric="patch_iou", **{"class": name})
            for name in ("road", "bus")
            for layer, n in [*((layer, 72) for layer in LAYERS), (11, 36), (11, 144)]
        ]
    return long_table(rows)


def drawn(name, table):
    [entry] = [entry for entry in FIGURES if entry.name == name]
    return entry.draw(table, [("MAE", Result([], {"easy_classes": ["road"]}))])


@pytest.mark.parametrize(
    ("name", "points", "said"),
    [
        ("removal-curve", 4, "Layer 11 (from 0); k = 1; m = 0, 10, 50 and 200; 72 training images; patch tokens"),
        ("layer-curve", 12, "Layers 0 to 11 (from 0); k = 1; m = 0; 72 training images; patch tokens"),
        ("class-curve", 12, "Layers 0 to 11 (from 0); k = 1; m = 0; 72 training images; patch tokens"),
        ("train-size", 3, "Layer 11 (from 0); k = 1; m = 0; 36, 72 and 144 training images; patch tokens"),
    ],
)
def test_curves_have_every_point_where_the_largest_size_has_few(name, points, said):
    figure = drawn(name, cityscapes())
    assert {len(line.get_xdata()) for axes in figure.axes for line in axes.lines} == {points}
    assert [text.get_text().replace("\n", " ") for text in figure.texts] == [f"{said}; Euclidean distance"]


def test_the_first_table_keeps_what_is_removed_and_says_which_rows():
    page = re.sub("</?strong>", "", headline(cityscapes(), {}))
    heads = re.findall(r'<th scope="col">(.*?)</th>', page)
    assert heads[1:] == [f"{name} mIoU, {m}" for name in ("k-NN", "probe") for m in ("all features", "top 200 removed")]
    assert "layer 11 (from 0); k = 1; m = 0 and 200; 72 training images; patch tokens; Euclidean distance" in page
    assert page.count("0.200 [0.100, 0.300]") == page.count("0.400 [0.300, 0.500]") == 4


def test_claims_take_the_training_size_of_the_first_table():
    assert Evidence(cityscapes(), ()).n_train == 72


def test_models_of_one_column_have_the_same_m():
    small = [row("small", m=m, value=0.3) for m in (0, 10)]
    large = [row("large", m=m, value=0.3 + m / 1000) for m in (0, 10, 200)]
    page = re.sub("</?strong>", "", headline(long_table(small + large), {}))
    assert "top 10 removed" in page
    assert "0.310 [" in page
    assert "top 200" not in page
    apart = headline(long_table(small + [row("large", m=m) for m in (0, 200)]), {})
    assert "most removed (m in each cell)" in apart
    assert re.findall(r"<small>(.*?)</small>", apart) == ["top 10 removed", "top 200 removed"]


def test_what_is_removed_is_what_the_share_of_variance_is_of():
    """More is removed too: there everything falls, and the share of variance is not known."""
    rows = [row(model, m=m, value=0.3 + m / 1000) for model in ("A", "B") for m in (0, 10, 33, 100)]
    share = {"analysis": "variance-spectrum", "metric": "share_of_variance", "classifier": None, "k": None}
    share |= {"x_name": None, "x_value": None}
    rows += [row(model, m=m, value=0.5, **share) for model in ("A", "B") for m in (10, 33)]
    heads = re.findall(r'<th scope="col">(.*?)</th>', headline(long_table(rows), {}))
    assert heads[1:] == ["k-NN mIoU, all features", "k-NN mIoU, top 33 removed", "share of variance, top 33"]


def test_lines_of_long_titles_do_not_touch():
    titles = [f"{letter} " + "a long title of many words " * 4 for letter in "ABCDEF"]
    figure = drawn("main-scores", long_table([row(title) for title in titles]))
    figure.canvas.draw()
    boxes = [label.get_window_extent() for label in figure.axes[0].get_yticklabels()]
    assert all(not one.overlaps(other) for n, one in enumerate(boxes) for other in boxes[n + 1 :])


def test_the_share_of_variance_is_that_of_the_drawn_layer():
    rows = [
        row(layer=layer, analysis="variance-spectrum", metric="share_of_variance", m=10, value=0.1 * layer + 0.1,
            classifier=None, k=None, x_name=None, x_value=None)
        for layer in (0, 5)
    ]  # fmt: skip
    page = headline(long_table(rows), {})
    assert "0.600" in page
    assert "layer 5 (from 0)" in page


def test_of_several_k_layers_and_distances_one_is_taken():
    rows = long_table([row(layer=layer, k=k, distance=distance)
                       for layer in (11, 3) for k in (5, 1) for distance in ("cosine", "euclidean")])  # fmt: skip
    one = preferred_rows(rows)
    assert one[["layer", "k", "distance"]].to_numpy().tolist() == [[11, 1, "euclidean"]]
    assert conditions(one) == "layer 11 (from 0); k = 1; m = 0; 72 training images; patch tokens; Euclidean distance"
    assert conditions(preferred_rows(rows[rows["distance"] == "cosine"])).endswith("patch tokens; cosine distance")


def written(tmp_path, table, about=None):
    about = about or [{"model": title, "data set": "d"} for title in table["model"].unique()]
    return write_report(ResultStore(tmp_path), "e", Evaluation(table), about).read_text()


def test_intervals_are_named_where_they_are_drawn(tmp_path):
    few = cityscapes().assign(low=pd.NA, high=pd.NA).astype({"low": "Float64", "high": "Float64"})
    assert "Bands are" not in written(tmp_path, few)
    assert "Bands are" in written(tmp_path, cityscapes())
    assert not interval_marks(drawn("layer-curve", few))


def test_a_title_with_an_underscore_is_in_the_legend():
    table = cityscapes(("_baseline", "other"))
    reported = StoredResults(table, [], {})
    figure = reported.figure("layer-curve")
    [legend] = figure.legends
    assert [text.get_text().strip("\N{ZERO WIDTH SPACE}") for text in legend.get_texts()] == ["_baseline", "other"]


def test_where_no_claim_is_decided_one_line_says_why(tmp_path):
    page = written(tmp_path, cityscapes())
    before = page[page.index("Claims of the papers</h2>") :].partition("<details>")[0]
    assert "None of the papers&#x27; claims" in before or "None of the papers' claims" in before
    assert before.count("<p") == 1
    assert "`" not in re.sub(r"<script>.*</script>", "", page, flags=re.DOTALL)


def test_the_table_tells_class_tokens_from_means(tmp_path):
    rows = [row(analysis="image-knn", metric="image_accuracy", token=token, x_name="relative_gsd", x_value=1.0)
            for token in ("class-token", "mean-patch")]  # fmt: skip
    page = written(tmp_path, long_table(rows))
    assert "<td>class-token</td>" in page
    assert "<td>mean-patch</td>" in page


def test_figures_are_listed_completed_and_drawn_into_given_axes():
    reported = StoredResults(cityscapes(), [{"model": "MAE", "data set": "cityscapes"}], {})
    assert reported.figures == ("main-scores", "removal-curve", "layer-curve", "train-size")
    assert reported._ipython_key_completions_() == list(reported.figures)
    assert {"figure", "figures", "table"} <= set(dir(reported))
    assert isinstance(reported["train-size"], Figure)
    own, (left, right) = plt.subplots(1, 2)
    assert reported.figure("layer-curve", ax=left) is own
    assert len(left.lines) == 2
    assert not right.lines
    assert [text.get_text() for text in left.get_legend().get_texts()] == ["MAE", "DINO"]
    reported.figure("removal-curve", ax=(left, right))
    assert right.lines
    with pytest.raises(UserError, match="the figure has 2 panels"):
        reported.figure("removal-curve", ax=left)
    plt.close(own)
    assert repr(reported) == ("<StoredResults e: 2 models on cityscapes, 104 numbers; .table, .figures, .figure(name)>")
    assert "<table>" in reported._repr_html_()
