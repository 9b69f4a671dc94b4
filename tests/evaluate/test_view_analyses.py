"""Robustness, retrieval and image k-NN on sets where it is known which patch is which."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score
from sklearn.neighbors import KNeighborsClassifier

from evaluate.analyses.image_knn import ImageKnn
from evaluate.analyses.retrieval import Retrieval
from evaluate.analyses.robustness import Robustness
from evaluate.inputs.gallery import Gallery, Queries
from evaluate.inputs.rows import RowSelection
from evaluate.registry import EvaluationSettings
from evaluate.results.table import ResultStore
from evaluate.runner import evaluate
from evaluate.scoring.retrieval.outcomes import QueryScores, average_precision
from stores.errors import UserError
from tests.evaluate.planted_views import viewed_sets
from tests.evaluate.test_patch_classification import SELECTION


def table_of(tmp_path, measured, analysis, selection=None):
    settings = EvaluationSettings(selection=selection, analyses=(analysis,), seed=1)
    return evaluate("t", [measured], settings, ResultStore(tmp_path / "results")).table


def only(table, **where):
    for column, wanted in where.items():
        table = table[table[column].isna() if wanted is None else table[column] == wanted]
    assert len(table) == 1, table
    return table.iloc[0]


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("retrieval")
    analysis = Retrieval(kind="retrieval", left_out=("nothing", "tile"), recall_at=(1, 5), resamples=100)
    measured = viewed_sets(folder / "store")
    return measured, table_of(folder, measured, analysis)


def share(table, view, level, outcome, left_out="nothing"):
    where = {"metric": "share", "view": view, "level": level, "outcome": outcome}
    return only(table, reference=f"{left_out} left out", **where)["value"]


def test_patches_that_hardly_changed_find_themselves_and_moved_ones_their_origin(found):
    _, table = found
    assert share(table, "noise", 10, "same-patch") == 1.0
    assert share(table, "shift", 1, "same-patch") == 1.0
    assert share(table, "noise", 40, "same-patch") < 0.5
    assert only(table, metric="upper_bound", view="shift", level=1)["value"] == 1.0


def test_without_the_own_tile_the_category_is_found_elsewhere(found):
    _, table = found
    assert share(table, "noise", 10, "same-patch", "tile") == 0.0
    assert share(table, "noise", 10, "same-category", "tile") > 0.5
    total = sum(
        share(table, "noise", 40, name, "tile")
        for name in ("same-patch", "same-category", "same-supercategory", "other-category", "background")
    )
    assert total == pytest.approx(1.0)
    # The clean patches themselves are queries too, where finding oneself is left out.
    assert share(table, "clean", None, "same-category", "tile") > 0.5
    assert table[(table["view"] == "clean") & (table["reference"] == "nothing left out")].empty


def test_shares_equal_brute_force(found):
    measured, table = found
    clean = measured.features["block.0.norm"][:].astype(np.float64)
    noisy = measured.for_view("noise", 40.0).features["block.0.norm"][:].astype(np.float64)
    labels = measured.labels["patches/4x4"][:]
    n_rows, n_patches, channels = clean.shape
    bank, bank_labels = clean.reshape(-1, channels), labels.reshape(-1)
    queries = np.flatnonzero(bank_labels != 0)
    distances = ((noisy.reshape(-1, 1, channels)[queries] - bank[None]) ** 2).sum(-1)
    own_tile = np.arange(n_rows * n_patches) // n_patches
    distances[own_tile[queries][:, None] == own_tile[None]] = np.inf
    hit = bank_labels[distances.argmin(1)]
    query = bank_labels[queries]
    supers = np.array([0, 1, 1, 2, 2])
    fine = hit == query
    same_super = ~fine & (hit != 0) & (supers[hit] == supers[query])
    expected = {
        "same-category": fine,
        "same-supercategory": same_super,
        "background": hit == 0,
        "other-category": ~fine & ~same_super & (hit != 0),
    }
    for name, mask in expected.items():
        assert share(table, "noise", 40, name, "tile") == pytest.approx(mask.mean()), name
    near = np.argsort(distances, axis=1, kind="stable")[:, :5]
    recall = (bank_labels[near] == query[:, None]).any(1).mean()
    where = {"metric": "recall", "view": "noise", "level": 40, "k": 5, "reference": "tile left out"}
    assert only(table, **where)["value"] == pytest.approx(recall)


def test_outcomes_take_the_first_that_holds():
    labels, patches = np.array([1, 1, 2, 3, 0, 1]), np.array([7, 8, 9, 9, 9, 7])
    selection, one_row = RowSelection((), np.zeros(0, np.int64)), np.zeros(1, np.int64)
    gallery = Gallery(selection, np.zeros((6, 1)), labels, patches, 16, one_row, background=0)
    own = np.array([7, 7, 7, 7, 7, -1])
    queries = Queries(np.zeros((6, 1)), np.ones(6, np.int64), np.zeros(6, np.int64), own)
    scores = QueryScores(gallery, queries, np.array([0, 1, 1, 2]), "nothing")
    assert scores.outcomes(np.arange(6), np.arange(6)).tolist() == [0, 1, 2, 3, 4, 1]


def test_average_precision_equals_scikit_learn_over_a_whole_ranking():
    rng = np.random.default_rng(0)
    relevant = rng.random((20, 30)) < 0.3
    relevant[:, 0] |= ~relevant.any(axis=1)
    scores = np.arange(30, 0, -1)
    expected = [average_precision_score(line, scores) for line in relevant]
    np.testing.assert_allclose(average_precision(relevant, relevant.sum(1)), expected)


def test_robustness_compares_with_clean_on_the_same_images(tmp_path):
    measured = viewed_sets(tmp_path / "store", n_images=40)
    table = table_of(tmp_path, measured, Robustness(kind="robustness", penalties=(0.01,), resamples=100), SELECTION)
    for classifier in ("knn", "probe"):
        of = table[(table["classifier"] == classifier)]
        clean = only(of, metric="patch_miou", view="clean")["value"]
        slight = only(of, metric="patch_miou_difference", view="noise", level=10)
        strong = only(of, metric="patch_miou_difference", view="noise", level=40)
        assert abs(slight["value"]) < 0.05
        assert strong["high"] < -0.1
        assert strong["value"] == pytest.approx(only(of, metric="patch_miou", view="noise", level=40)["value"] - clean)
        assert strong["reference"] == "clean"
        assert only(of, metric="patch_miou_ratio", view="noise", level=40)["value"] < 0.8
        assert 0 < only(of, metric="predicted_entropy", view="noise", level=40)["value"] <= np.log(5)
    assert set(table["view"]) == {"clean", "noise"}, "views that move labels are another analysis"


def test_views_that_are_not_there_or_move_labels_are_named(tmp_path):
    measured = viewed_sets(tmp_path / "store")
    with pytest.raises(UserError, match="shift, which moves the labels"):
        table_of(tmp_path, measured, Robustness(kind="robustness", views=("shift",)), SELECTION)
    with pytest.raises(UserError, match="fog, which"):
        table_of(tmp_path, measured, Robustness(kind="robustness", views=("fog",)), SELECTION)
    with pytest.raises(UserError, match="fog, which"):
        table_of(tmp_path, measured, Retrieval(kind="retrieval", views=("fog",)))


def test_image_knn_equals_scikit_learn(tmp_path):
    measured = viewed_sets(tmp_path / "store", n_images=60)
    table = table_of(tmp_path, measured, ImageKnn(kind="image-knn", remove=(0, 6), k=5, resamples=50), SELECTION)
    tokens = measured.features["block.0.norm"][:].astype(np.float64)
    train = (measured.samples["split"] == "train").to_numpy()
    classes = measured.samples["image_class"].to_numpy()
    kept = np.argsort(-tokens[train].reshape(-1, tokens.shape[-1]).var(axis=0), kind="stable")[6:]
    for token, vectors in (("mean-patch", tokens.mean(1)), ("class-token", tokens[:, 0] * 2)):
        x = vectors[:, kept]
        x /= np.linalg.norm(x, axis=1, keepdims=True)
        neighbours = KNeighborsClassifier(
            5, algorithm="brute", weights=lambda distance: np.exp((1 - distance**2 / 2) / 0.07)
        )
        expected = neighbours.fit(x[train], classes[train]).score(x[~train], classes[~train])
        assert only(table, token=token, m=6)["value"] == pytest.approx(expected)
        assert only(table, token=token, m=6)["x_value"] == 1.0
