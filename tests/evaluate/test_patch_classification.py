"""The analyses against a few lines of numpy and scikit-learn on sets with known answers."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import confusion_matrix

from evaluate.analyses.label_maps import LabelMaps
from evaluate.analyses.patch_classification import PatchClassification
from evaluate.analyses.variance_spectrum import VarianceSpectrum
from evaluate.figures.label_maps import figure as figure_of_label_maps
from evaluate.registry import EvaluationSettings
from evaluate.results.table import ResultStore
from evaluate.runner import evaluate
from evaluate.selection import SelectionRule
from evaluate.settings import Selection
from stores.errors import MissingError, UserError
from tests.evaluate.planted import planted

SELECTION = Selection(train=SelectionRule(split="train"), validation=SelectionRule(split="val"))


def settings_of(*analyses, selection=SELECTION):
    return EvaluationSettings(selection=selection, analyses=analyses, seed=3)


def classification(**changes):
    return PatchClassification(kind="patch-classification", **changes)


def value(table, metric, **where):
    rows = table[(table["metric"] == metric) & table["class"].isna()]
    for column, wanted in where.items():
        rows = rows[rows[column] == wanted]
    assert len(rows) == 1, rows
    return rows.iloc[0]


def by_hand(measured):
    """Training and validation patches straight from the arrays: (features, labels) each, scored ones only."""
    tokens = measured.features["block.0.norm"][:].astype(np.float64)
    labels = measured.labels["patches/2x2"][:]
    table = measured.samples
    train = (table["split"] == "train").to_numpy()
    second = (table["tile_column"] == 1).to_numpy()
    owned = np.ones(labels.shape, bool)
    owned[second] = [False, True, False, True]  # the left column belongs to the first tile
    scored = (labels != 255) & owned
    known = labels != 255
    return (tokens[train][known[train]], labels[train][known[train]]), (
        tokens[~train],
        labels[~train],
        scored[~train],
        table["source"].to_numpy()[~train],
    )


def miou_by_hand(truth, predicted, n_classes=3):
    matrix = confusion_matrix(truth, predicted, labels=range(n_classes))
    union = matrix.sum(0) + matrix.sum(1) - np.diag(matrix)
    return np.nanmean(np.where(union > 0, np.diag(matrix) / np.maximum(union, 1), np.nan))


@pytest.mark.parametrize("removed", [0, 4])
def test_knn_scores_equal_brute_force(tmp_path, removed):
    measured = planted(tmp_path, planted=4)
    (bank, bank_labels), (queries, truth, scored, _) = by_hand(measured)
    everything = measured.features["block.0.norm"][np.flatnonzero(measured.samples["split"] == "train")]
    variance = everything.reshape(-1, 16).astype(np.float64).var(axis=0)
    kept = np.argsort(-variance, kind="stable")[removed:]
    flat = queries.reshape(-1, 16)
    distances = ((flat[:, None, kept] - bank[None][:, :, kept]) ** 2).sum(-1)
    predicted = bank_labels[distances.argmin(1)].reshape(truth.shape)
    found = evaluate(
        "t", [measured], settings_of(classification(classifiers=("knn",), remove=(0, 4))), ResultStore(tmp_path / "r")
    )
    assert value(found.table, "patch_miou", m=removed)["value"] == pytest.approx(
        miou_by_hand(truth[scored], predicted[scored])
    )
    assert value(found.table, "patch_accuracy", m=removed)["value"] == pytest.approx(
        (truth == predicted)[scored].mean()
    )
    # Pixels: 15 of a patch's 16 carry its label, the other is class 2; void patches keep that one pixel.
    table = measured.samples
    validation = (table["split"] == "val").to_numpy()
    pixels = measured.labels["pixels/classes"][:][validation]
    owned = np.ones(pixels.shape, bool)
    owned[(table["tile_column"] == 1).to_numpy()[validation], :, :4] = False
    painted = np.repeat(np.repeat(predicted.reshape(-1, 2, 2), 4, 1), 4, 2)
    use = owned & (pixels != 255)
    assert value(found.table, "pixel_miou", m=removed)["value"] == pytest.approx(
        miou_by_hand(pixels[use], painted[use])
    )


def test_softmax_votes_take_the_temperature_that_is_given(tmp_path):
    measured = planted(tmp_path / "store")
    (bank, bank_labels), (queries, _, _, _) = by_hand(measured)
    cosines = (queries / np.linalg.norm(queries, axis=2, keepdims=True)).reshape(-1, bank.shape[1]) @ (
        bank / np.linalg.norm(bank, axis=1, keepdims=True)
    ).T
    nearest = np.argsort(-cosines, axis=1, kind="stable")[:, :10]
    scores = {}
    for temperature in (0.07, 10.0):
        weights = np.exp(np.take_along_axis(cosines, nearest, axis=1) / temperature)
        votes = np.stack([(weights * (bank_labels[nearest] == label)).sum(axis=1) for label in range(3)], axis=1)
        options = {"weights": "softmax", "metric": "cosine", "temperature": temperature, "k": (10,)}
        settings = settings_of(classification(classifiers=("knn",), remove=(0,), resamples=0, **options))
        table = evaluate("t", [measured], settings, ResultStore(tmp_path / "r")).table
        scores[temperature] = (value(table, "patch_accuracy")["value"], votes.argmax(axis=1))
    (sharp, sharp_votes), (flat, flat_votes) = scores.values()
    _, (_, labels, scored, _) = by_hand(measured)
    for found, votes in ((sharp, sharp_votes), (flat, flat_votes)):
        assert found == pytest.approx((votes.reshape(labels.shape) == labels)[scored].mean())


def test_planted_features_ruin_nearest_neighbours_and_removal_mends_them(tmp_path):
    """The paper's main finding, constructed: high variance without information."""
    settings = settings_of(classification(remove=(0, 4), penalties=(1e-3, 1e-2)))
    ruined = evaluate(
        "t", [planted(tmp_path / "a", planted=4, n_images=40, channels=64)], settings, ResultStore(tmp_path / "r")
    ).table
    sound = evaluate(
        "t", [planted(tmp_path / "b", planted=0, n_images=40, channels=64)], settings, ResultStore(tmp_path / "r")
    ).table
    knn = {name: [value(t, "patch_accuracy", classifier="knn", m=m)["value"] for m in (0, 4)]
           for name, t in (("ruined", ruined), ("sound", sound))}  # fmt: skip
    probe = [value(ruined, "patch_accuracy", classifier="probe", m=m)["value"] for m in (0, 4)]
    assert knn["ruined"][0] < 0.65, "two classes, chance is 0.5"
    assert knn["ruined"][1] > knn["ruined"][0] + 0.2
    assert abs(knn["sound"][1] - knn["sound"][0]) < 0.1
    assert min(knn["sound"]) > 0.75
    assert abs(probe[1] - probe[0]) < 0.05, "the probe never minded"
    assert min(probe) > 0.85


def test_the_probe_reaches_scikit_learn(tmp_path):
    measured = planted(tmp_path, spread=2.0, n_images=40)
    (bank, bank_labels), (queries, truth, scored, _) = by_hand(measured)
    best = max(
        (LogisticRegression(C=1 / (len(bank) * penalty), max_iter=2000).fit(bank, bank_labels).predict(
            queries.reshape(-1, 16)
        ).reshape(truth.shape) == truth)[scored].mean()
        for penalty in (1e-3, 1e-2)
    )  # fmt: skip
    found = evaluate(
        "t", [measured], settings_of(classification(classifiers=("probe",))), ResultStore(tmp_path / "r")
    ).table
    assert value(found, "patch_accuracy")["value"] > best - 0.03
    assert value(found, "converged")["value"] == 1.0


def test_variance_equals_numpy_and_is_that_of_the_training_rows_alone(tmp_path):
    measured = planted(tmp_path, planted=3)
    found = evaluate(
        "t", [measured], settings_of(VarianceSpectrum(kind="variance-spectrum", top=(3,))), ResultStore(tmp_path / "r")
    )
    rows = measured.features["block.0.norm"][np.flatnonzero(measured.samples["split"] == "train")]
    expected = np.sort(rows.reshape(-1, 16).astype(np.float64).var(axis=0))[::-1]
    spectrum = found.table[found.table["metric"] == "variance"].sort_values("x_value")
    np.testing.assert_allclose(spectrum["value"].to_numpy(dtype=float), expected, rtol=1e-12)
    share = value(found.table, "share_of_variance", m=3)["value"]
    assert share == pytest.approx(expected[:3].sum() / expected.sum())
    assert share > 0.98


def test_intervals_resample_images_and_hold_the_value(tmp_path):
    found = evaluate(
        "t",
        [planted(tmp_path, spread=2.0)],
        settings_of(classification(classifiers=("knn",))),
        ResultStore(tmp_path / "r"),
    )
    row = value(found.table, "patch_miou")
    assert row["unit"] == "image"
    assert row["n_units"] == 12
    assert row["low"] < row["value"] < row["high"]
    few = Selection(train=SelectionRule(split="train"), validation=SelectionRule(split="val", per_group=4))
    found = evaluate(
        "t", [planted(tmp_path)], settings_of(classification(), selection=few), ResultStore(tmp_path / "r")
    )
    assert pd.isna(value(found.table, "patch_miou", classifier="knn")["low"]), "no interval below ten images"


def test_train_sizes_are_nested_selections_of_one_set(tmp_path):
    settings = settings_of(classification(classifiers=("knn",), train_per_group=(1, 3)))
    found = evaluate("t", [planted(tmp_path)], settings, ResultStore(tmp_path / "r"))
    assert set(found.table["train"]) == {"2 images", "6 images"}
    chosen = [set(json.loads(params)["train"]) for params in found.table["params"]]
    assert min(chosen, key=len) < max(chosen, key=len)
    read = {json.loads(inputs)["features"] for inputs in found.table["inputs"]}
    assert read == {planted(tmp_path).features.digest}


def test_train_and_validation_never_share_an_image(tmp_path):
    same = Selection(train=SelectionRule(split="train"), validation=SelectionRule(split="train"))
    with pytest.raises(UserError, match=r"image00\.png"):
        evaluate("t", [planted(tmp_path)], settings_of(classification(), selection=same), ResultStore(tmp_path / "r"))


def test_stored_results_are_read_and_only_changed_analyses_are_computed(tmp_path, monkeypatch):
    measured = planted(tmp_path)
    spectrum, knn = VarianceSpectrum(kind="variance-spectrum"), classification(classifiers=("knn",))
    first = evaluate("t", [measured], settings_of(spectrum, knn), ResultStore(tmp_path / "r"))
    assert (first.n_computed, first.n_reused) == (2, 0)

    def explode(*arguments, **options):
        raise AssertionError("computed again")

    monkeypatch.setattr("evaluate.analyses.variance_spectrum.moments_by_image", explode)
    again = evaluate("t", [measured], settings_of(spectrum, knn), ResultStore(tmp_path / "r"))
    assert (again.n_computed, again.n_reused) == (0, 2)
    pd.testing.assert_frame_equal(first.table, again.table)
    with pytest.raises(AssertionError, match="computed again"):
        evaluate(
            "t",
            [measured],
            settings_of(VarianceSpectrum(kind="variance-spectrum", top=(1,))),
            ResultStore(tmp_path / "r"),
        )


def test_plain_faiss_agrees_where_nothing_is_close(tmp_path):
    measured = planted(tmp_path)
    tables = [
        evaluate(
            "t", [measured], settings_of(classification(classifiers=("knn",), search=how)), ResultStore(tmp_path / "r")
        ).table
        for how in ("exact", "faiss")
    ]
    assert value(tables[0], "patch_miou")["value"] == value(tables[1], "patch_miou")["value"]
    assert set(tables[0]["result"]) != set(tables[1]["result"])


def test_label_maps_put_every_patch_where_it_lies(tmp_path):
    measured = planted(tmp_path)
    found = evaluate("t", [measured], settings_of(LabelMaps(kind="label-maps", images=3)), ResultStore(tmp_path / "r"))
    ((_, result),) = found.results.values()
    truth = result.arrays["truth"]
    assert truth.shape == (3, 2, 3)
    table, labels = measured.samples, measured.labels["patches/2x2"][:].reshape(-1, 2, 2)
    for number, source in enumerate(result.arrays["sources"]):
        first, second = np.flatnonzero(table["source"] == source)
        np.testing.assert_array_equal(truth[number][:, :2], labels[first])
        np.testing.assert_array_equal(truth[number][:, 2], labels[second][:, 1])
    assert result.arrays["predicted_m"].tolist() == [0]
    assert (result.arrays["predicted"] < 3).all()


def test_label_maps_have_the_image_beside_them_where_its_pixels_are_stored(tmp_path):
    plain, pictured = planted(tmp_path / "plain"), planted(tmp_path / "pictured", pictures=True)
    settings, results = settings_of(LabelMaps(kind="label-maps", images=3)), ResultStore(tmp_path / "r")
    ((_, without),) = evaluate("t", [plain], settings, results).results.values()
    assert "pictures" not in without.arrays
    found = evaluate("t", [pictured], settings, results)
    ((_, result),) = found.results.values()
    assert result.arrays["pictures"].shape == (3, 2 * 4, 3 * 4, 3)
    for number, source in enumerate(result.arrays["sources"]):
        first, second = np.flatnonzero(pictured.samples["source"] == source)
        cells = result.arrays["pictures"][number].reshape(2, 4, 3, 4, 3)
        assert (cells == cells[:, :1, :, :1]).all(), "a patch is put as a whole"
        # The second tile owns its right column alone: patches 1 and 3.
        assert cells[:, 0, :, 0, 0].tolist() == [[first, first, second]] * 2
        assert cells[:, 0, :, 0, 1].tolist() == [[0, 1, 1], [2, 3, 3]]
    drawn = figure_of_label_maps(found.table, list(found.results.values()))
    assert [panel.get_title() for panel in drawn.axes[:3]] == ["image", "truth", "planted\nall features"]
    assert len(figure_of_label_maps(found.table, [("planted", without)]).axes) == len(drawn.axes) - 3


def test_layers_that_are_not_there_name_the_command(tmp_path):
    with pytest.raises(MissingError, match=r"run `patchbank extract planted\.toml`"):
        evaluate("t", [planted(tmp_path)], settings_of(classification(layers=(4,))), ResultStore(tmp_path / "r"))
    with pytest.raises(UserError, match="lower k"):
        evaluate("t", [planted(tmp_path)], settings_of(classification(k=(10_000,))), ResultStore(tmp_path / "r"))


def test_counts_too_large_for_some_models_are_left_out_there_and_said(tmp_path):
    narrow = replace(planted(tmp_path / "narrow", n_images=12), title="narrow")
    wide = replace(planted(tmp_path / "wide", n_images=12, channels=64), title="wide")
    settings = settings_of(classification(remove=(0, 20), classifiers=("knn",)))
    found = evaluate("t", [narrow, wide], settings, ResultStore(tmp_path / "r"))
    assert found.notes == ["patch-classification leaves out m = 20 for narrow with 16 features"]
    rows = found.table[found.table["metric"] == "patch_miou"]
    assert {(model, m) for model, m in zip(rows["model"], rows["m"], strict=True)} == {
        ("narrow", 0), ("wide", 0), ("wide", 20),
    }  # fmt: skip
    with pytest.raises(UserError, match=r"cannot remove 20 features: narrow has 16; choose less in remove"):
        evaluate("t", [narrow], settings, ResultStore(tmp_path / "r"))
