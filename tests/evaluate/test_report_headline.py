"""The page's first tables: what all models share is said once, and no column stands empty."""

import re

from evaluate.report.headline import headline
from evaluate.report.writing import write_report
from evaluate.results.table import ResultStore, long_table
from evaluate.runner import Evaluation
from tests.evaluate.planted_report import TITLES

PATCHES = {"experiment": "e", "analysis": "patch-classification", "data_set": "planted", "view": "clean"}


def scores(model, classifier, by_m, **more):
    row = PATCHES | {"model": model, "classifier": classifier, "metric": "patch_miou", "n_train": 8, "k": 1}
    row |= {"x_name": "layer", "x_value": 11.0} | more
    return [row | {"m": m, "value": value, "low": value - 0.1, "high": value + 0.1} for m, value in by_m.items()]


def cells_of(page):
    return [re.sub(r"<[^>]+>", " ", cell).split() for cell in re.findall(r"<td[^>]*>(.*?)</td>", page)]


def test_each_number_is_that_of_all_features_and_of_the_most_removed():
    rows = scores("A", "knn", {0: 0.2, 10: 0.3, 200: 0.5}) + scores("A", "knn", {0: 0.9}, x_value=3.0)
    rows += scores("A", "knn", {0: 0.8, 200: 0.8}, n_train=4)
    page = headline(long_table(rows), {})
    assert cells_of(page) == [["A"], ["0.200", "[0.100,", "0.300]"], ["0.500", "[0.400,", "0.600]"]]
    assert re.findall(r'<th scope="col">(.*?)</th>', page)[1:] == [
        "k-NN mIoU, all features",
        "k-NN mIoU, top 200 removed",
    ]


def test_other_analyses_scores_of_patches_are_not_taken_for_them():
    """Treatments remove random features too, and robustness is scored under noise."""
    other = [
        *scores("A", "knn", {50: 0.7}, analysis="feature-treatments", outcome="remove-random", x_value=2.0),
        *scores("A", "knn", {0: 0.6, 50: 0.6}, analysis="robustness", view="noise", level=40.0),
    ]
    assert headline(long_table(other), {}) is None
    rows = other + scores("A", "knn", {0: 0.2, 10: 0.3})
    assert [cells[:1] for cells in cells_of(headline(long_table(rows), {}))] == [["A"], ["0.200"], ["0.300"]]


def test_columns_without_a_number_are_left_out_and_so_is_an_empty_table():
    nothing = PATCHES | {"analysis": "similarity", "metric": "cka", "model": "C", "value": 1.0}
    page = headline(long_table(scores("A", "probe", {0: 0.2}) + scores("B", "knn", {0: 0.4})), {"B": "gone"})
    assert re.findall(r'<th scope="col">(.*?)</th>', page) == [
        "model",
        "k-NN mIoU, all features",
        "probe mIoU, all features",
    ]
    assert cells_of(page)[3] == ["B", "(gone)"]
    assert [cells[:1] for cells in cells_of(headline(long_table([*scores("A", "knn", {0: 0.2}), nothing]), {}))] == [
        ["A"], ["0.200"],
    ]  # fmt: skip
    other = {"analysis": "tracking", "metric": "instance_accuracy", "model": "A", "value": 1.0}
    assert headline(long_table([PATCHES | other]), {}) is None


def test_names_are_escaped():
    assert "<b>" not in headline(long_table(scores("<b>", "knn", {0: 0.2})), {"<b>": "<b>"})


def test_what_all_models_share_is_said_once(tmp_path):
    about = [{"model": title, "data set": "planted", "features": str(n) * 64} for n, title in enumerate(TITLES)]
    table = long_table(scores(TITLES[0], "knn", {0: 0.2}))
    page = write_report(ResultStore(tmp_path), "planted", Evaluation(table), about).read_text()
    assert page.count("<dt>data set</dt><dd>planted</dd>") == 1
    measured = page[page.index("What was measured on what</h2>") :]
    heads = re.findall(r"<thead><tr>(.*?)</tr></thead>", measured)[0]
    assert re.findall(r'<th scope="col">(.*?)</th>', heads) == ["model", "features"]
    alone = write_report(ResultStore(tmp_path), "planted", Evaluation(table), about[:1]).read_text()
    assert f"<dt>model</dt><dd>{TITLES[0]}</dd>" in alone
    # The long table shows no column that is empty throughout.
    assert '<th scope="col">outcome</th>' not in page
    assert '<th scope="col">classifier</th>' in page


def test_numbers_of_single_classes_say_under_which_view(tmp_path):
    noisy = {"analysis": "robustness", "metric": "predicted_share", "class": "road", "view": "noise", "level": 40.0}
    table = long_table([*scores("A", "knn", {0: 0.2}), *scores("A", "knn", {0: 0.5}, **noisy)])
    page = write_report(
        ResultStore(tmp_path), "planted", Evaluation(table), [{"model": "A", "data set": "planted"}]
    ).read_text()
    single = page[page.index("Numbers of single classes") :]
    head = re.findall(r'<th scope="col">(.*?)</th>', single)
    [row] = re.findall(r"<tr>((?:<td.*?</td>)+)</tr>", single)
    values = dict(zip(head, cells_of(row), strict=True))
    assert [values[name] for name in ("class", "view", "level")] == [["road"], ["noise"], ["40"]]


def test_the_highest_score_of_a_column_is_bold_and_a_share_of_variance_is_not():
    rows = [*scores("A", "knn", {0: 0.2}), *scores("B", "knn", {0: 0.3}), *scores("A", "probe", {0: 0.9})]
    share = PATCHES | {"analysis": "variance-spectrum", "metric": "share_of_variance", "m": 10, "token": "patch"}
    rows += [share | {"model": model, "value": value} for model, value in (("A", 0.7), ("B", 0.8))]
    page = headline(long_table(rows), {})
    assert re.findall("<strong>(.*?)</strong>", page) == ["0.900", "0.300"]
    assert "0.800" in page
    assert "<strong>" not in headline(long_table(scores("A", "knn", {0: 0.2})), {})


def test_pairs_of_models_in_another_order_are_counted():
    """A leads by neighbours and comes last by the probe; only against C are both differences beyond the intervals."""
    rows = [
        *(row for model, value in (("A", 0.9), ("B", 0.8), ("C", 0.3)) for row in scores(model, "knn", {0: value})),
        *(row for model, value in (("A", 0.1), ("B", 0.2), ("C", 0.6)) for row in scores(model, "probe", {0: value})),
    ]
    said = "otherwise than k-NN mIoU, all features: probe mIoU, all features 3 of 3, 2 of them with intervals apart."
    assert said in headline(long_table(rows), {})
    rows = [*scores("A", "knn", {0: 0.5, 9: 0.5}), *scores("B", "knn", {0: 0.6, 9: 0.4})]
    assert "top 9 removed 1 of 1." in headline(long_table(rows), {})
    rows = [*scores("A", "knn", {0: 0.5, 9: 0.5}), *scores("B", "knn", {0: 0.5, 9: 0.4})]
    assert "top 9 removed 0 of 1." in headline(long_table(rows), {})
    assert "otherwise" not in headline(long_table(scores("A", "knn", {0: 0.5, 9: 0.5})), {})
