"""Alternatives to removing the top m: each against ten lines of float64, and on sets whose culprit is planted."""

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.linalg import subspace_angles

from evaluate.analyses.feature_treatments import FeatureTreatments
from evaluate.figures.feature_treatments import figure, overlaps
from evaluate.kernels.subspaces import Placement, overlap, positional_directions
from evaluate.kernels.treatments import Treatment, fit_treatment, kept_tokens, removed_directions
from evaluate.results.table import ResultStore
from evaluate.runner import evaluate
from stores.errors import UserError
from tests.evaluate.planted import planted, write_set
from tests.evaluate.test_patch_classification import by_hand, miou_by_hand, settings_of

RNG = np.random.default_rng(0)
N, D, PLACES = 5000, 12, 9  # more rows than one block has
PLACE = RNG.integers(0, PLACES, N)
BANK = (RNG.normal(size=(N, D)) * np.logspace(1, -1, D) + RNG.normal(size=(PLACES, D))[PLACE] + 3).astype(np.float16)
QUERIES = (RNG.normal(size=(40, D)) * 3).astype(np.float16)
PLACED = Placement(RNG.integers(0, 25, N), PLACE, 25, PLACES)
WIDE, MEAN = BANK.astype(np.float64), BANK.astype(np.float64).mean(axis=0)
RANKING = np.arange(D)


def treated(treatment):
    return fit_treatment(treatment, BANK, RANKING, 0, PLACED)(QUERIES)


def test_position_is_projected_out_as_by_singular_vectors_of_the_means():
    means = np.stack([WIDE[place == PLACE].mean(axis=0) for place in range(PLACES)])
    weights = np.sqrt(np.bincount(PLACE) / N)
    basis = np.linalg.svd((weights[:, None] * (means - MEAN)).T)[0][:, :4]
    expected = QUERIES @ (np.eye(D) - basis @ basis.T)
    np.testing.assert_allclose(treated(Treatment("remove-position", rank=4)), expected, rtol=1e-5, atol=1e-5)
    assert positional_directions(RNG.normal(size=(N, D)), PLACED, 8, 0).shape == (D, 0), "chance is no position"
    every = positional_directions(BANK, PLACED, 500, 0)
    assert 4 <= every.shape[1] <= PLACES - 1, "centred means of nine places span eight directions"
    one_image = Placement(np.zeros(N, int), PLACE, 1, PLACES)
    assert positional_directions(BANK, one_image, 8, 0).shape == (D, 0), "of one image a sign is no chance"


def test_centring_and_principal_directions_equal_a_singular_value_decomposition():
    np.testing.assert_allclose(treated(Treatment("centre")), QUERIES - MEAN, rtol=1e-5, atol=1e-5)
    vectors = np.linalg.svd(WIDE - MEAN, full_matrices=False)[2]
    centred = QUERIES - MEAN
    first = centred - centred @ vectors[:3].T @ vectors[:3]
    np.testing.assert_allclose(treated(Treatment("remove-first-components", rank=3)), first, rtol=1e-4, atol=1e-4)
    kept = treated(Treatment("pca-k", rank=5))
    assert kept.shape == (40, 5)
    by_svd = centred @ vectors[:5].T
    np.testing.assert_allclose(kept @ kept.T, by_svd @ by_svd.T, rtol=1e-4, atol=1e-3)


def test_tokens_of_aberrant_norm_leave_the_bank_and_queries_stay():
    bank = BANK.copy()
    bank[[7, 4100]] *= 30
    norms = np.sqrt((bank.astype(np.float64) ** 2).sum(axis=1))
    limit = np.median(norms) + 5 * np.median(np.abs(norms - np.median(norms)))
    one = Treatment("drop-outlier-tokens", deviations=5.0)
    kept = kept_tokens(one, bank)
    np.testing.assert_array_equal(kept, norms <= limit)
    assert not kept[[7, 4100]].any()
    assert kept.mean() > 0.95
    np.testing.assert_array_equal(fit_treatment(one, bank, RANKING, 0)(QUERIES), QUERIES)


def test_overlaps_equal_principal_angles():
    names = {"remove-top": {"m": 4}, "remove-first-components": {"rank": 3}, "pca-k": {"rank": 7}}
    directions = [removed_directions(Treatment(name, **one), BANK, RANKING, 0, PLACED) for name, one in names.items()]
    for index, one in enumerate(directions):
        np.testing.assert_allclose(one.T @ one, np.eye(one.shape[1]), atol=1e-12)
        for other in directions[index + 1 :]:
            assert overlap(one, other) == pytest.approx((np.cos(subspace_angles(one, other)) ** 2).mean(), abs=1e-9)
    assert [one.shape[1] for one in directions] == [4, 3, 5]
    assert overlap(directions[1], directions[2]) == pytest.approx(0.0, abs=1e-12), "first and last directions"
    assert removed_directions(Treatment("whiten"), BANK, RANKING, 0) is None


def share_by_loops(tokens, images, places, drawn):
    """Share of the variance between places, by products of tokens of different images among those drawn."""
    tokens = tokens - tokens.mean(axis=0)
    rows = [np.flatnonzero(images == image) for image in drawn]
    every = np.concatenate(rows)
    whole = tokens[every].var(axis=0).sum()

    def of_pairs(among):
        parts = [one[among[one]] for one in rows]
        both = list(zip(drawn, parts, strict=True))
        pairs = [(one, other) for a, one in both for b, other in both if a != b]
        products = sum(float(tokens[one].sum(axis=0) @ tokens[other].sum(axis=0)) for one, other in pairs)
        count = sum(len(one) * len(other) for one, other in pairs)
        return (products / count if count else None), sum(map(len, parts))

    found = [of_pairs(places == place) for place in range(places.max() + 1)]
    used = [(square, n_here) for square, n_here in found if square is not None]
    mean_square = sum(square * n_here for square, n_here in used) / sum(n_here for _, n_here in used)
    return (mean_square - of_pairs(places >= 0)[0]) / whole


def test_the_positional_share_equals_loops_over_pairs_of_images():
    rng = np.random.default_rng(1)
    images, places = rng.integers(0, 6, 150), rng.integers(0, 5, 150)
    places[images == 2] = np.minimum(places[images == 2], 4)
    tokens = rng.normal(size=(150, 20)) + rng.normal(size=(5, 20))[places] + 7
    drawn = [(0, 1, 2, 3, 4, 5), (0, 0, 3, 3, 3, 5), (1, 2, 2, 4, 4, 4)]
    weights = np.array([np.bincount(one, minlength=6) for one in drawn], dtype=np.float64)
    positional, whole = Placement(images, places, 6, 5).variances(tokens, weights)
    expected = [share_by_loops(tokens, images, places, one) for one in drawn]
    np.testing.assert_allclose(positional.sum(axis=1) / whole.sum(axis=1), expected, rtol=1e-7)


def test_the_positional_share_is_known_where_it_is_planted():
    rng = np.random.default_rng(2)
    images, places = np.repeat(np.arange(40), 16), np.tile(np.arange(16), 40)
    noise = rng.normal(size=(640, 8))
    between = rng.normal(size=(16, 8))
    between = (between - between.mean(axis=0)) / between.std(axis=0)
    for share in (0.0, 0.5, 0.9):
        tokens = np.sqrt(1 - share) * noise + np.sqrt(share) * between[places]
        positional, whole = Placement(images, places, 40, 16).variances(tokens, np.ones((1, 40)))
        assert positional.sum() / whole.sum() == pytest.approx(share, abs=0.02)


def with_position(folder):
    """A set whose culprit is position: along three directions over all features tokens lie anywhere."""
    made = planted(folder / "plain", channels=24, spread=0.5)
    tokens = made.features["tokens/block.0.norm"][:].astype(np.float64)
    rng = np.random.default_rng(4)
    corners = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])
    basis = np.linalg.qr(rng.choice([-1.0, 1.0], size=(24, 3)))[0]
    tokens += rng.normal(20.0, 15.0, (*tokens.shape[:2], 1)) * (corners @ basis.T)
    facts = {"layer": 0, "norm": True, "grid_rows": 2, "grid_columns": 2}
    values = {"tokens/block.0.norm": (tokens.astype(np.float32), ("sample", "patch", "channel"), facts)}
    return replace(made, features=write_set(folder / "moved", made.features.spec, values, {"samples": made.samples}))


ASKED = FeatureTreatments(
    kind="feature-treatments",
    treatments=("remove-top", "remove-position", "centre", "remove-first-components", "pca-k", "drop-outlier-tokens"),
    parts=("scores", "removed"),
    references=("none", "remove-top"),
    m=(8,),
    position_ranks=(3,),
    first_components=(8,),
    kept_components=(12,),
    penalties=(0.01,),
    resamples=100,
)


def found(folder, measured, analysis=ASKED):
    return evaluate("t", [measured], settings_of(analysis), ResultStore(folder / "r")).table


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    folder = tmp_path_factory.mktemp("culprits")
    return {
        "position": found(folder / "p", with_position(folder)),
        "variance": found(folder / "v", planted(folder / "variance", channels=24, spread=0.5, planted=8)),
        "nothing": found(folder / "n", planted(folder / "nothing", channels=24, spread=0.5)),
    }


def row(table, outcome, metric="patch_miou_difference", **where):
    rows = table[(table["outcome"] == outcome) & (table["metric"] == metric)]
    for column, wanted in where.items():
        rows = rows[rows[column] == wanted]
    assert len(rows) == 1, rows
    return rows.iloc[0]


def test_only_the_treatment_of_the_culprit_recovers_neighbours(tables):
    untreated, removed = {"classifier": "knn", "reference": "none"}, {"classifier": "knn", "reference": "remove-top 8"}
    position, variance = tables["position"], tables["variance"]
    assert row(position, "remove-position", **untreated)["low"] > 0.1
    assert row(position, "remove-position", **removed)["low"] > 0.1
    assert row(position, "remove-top", **untreated)["high"] < 0.15
    assert row(variance, "remove-top", **untreated)["low"] > 0.1
    assert row(variance, "remove-position", **untreated)["high"] < 0.15
    assert row(variance, "remove-position", **removed)["high"] < -0.1
    assert row(variance, "remove-first-components", **untreated)["low"] > 0.1
    assert row(variance, "remove-position", "removed_variance_share")["value"] == 0.0, "no direction is positional"
    nothing = {outcome: row(tables["nothing"], outcome, **untreated)["value"] for outcome in ASKED.treatments}
    assert max(nothing.values()) < 0.05, "nothing is to be recovered"
    # The others leave out features or directions that hold the classes.
    assert all(abs(nothing[one]) < 0.05 for one in ("remove-position", "centre", "pca-k", "drop-outlier-tokens"))


def test_centring_changes_no_distance_and_no_probe(tables):
    for table in tables.values():
        for classifier in ("knn", "probe"):
            assert row(table, "centre", classifier=classifier, reference="none")["value"] == pytest.approx(0, abs=0.02)
        assert row(table, "centre", "removed_variance_share")["value"] == 0.0


def test_centring_changes_cosines(tmp_path):
    measured = planted(tmp_path / "store")
    tokens = measured.features["tokens/block.0.norm"][:].astype(np.float64) + 30.0
    facts = {"layer": 0, "norm": True, "grid_rows": 2, "grid_columns": 2}
    values = {"tokens/block.0.norm": (tokens.astype(np.float32), ("sample", "patch", "channel"), facts)}
    moved = replace(measured, features=write_set(tmp_path / "m", measured.features.spec, values,
                                                 {"samples": measured.samples}))  # fmt: skip
    asked = FeatureTreatments(kind="feature-treatments", classifiers=("knn",), treatments=("centre",), metric="cosine")
    table = found(tmp_path, moved, asked)
    assert set(table["distance"]) == {"cosine"}
    (bank, labels), (queries, truth, scored, _) = by_hand(moved)
    numbers = []
    for outcome, mean in (("none", 0.0), ("centre", bank.mean(axis=0))):
        away, at = queries.reshape(-1, 16) - mean, bank - mean
        cosines = away @ at.T / np.linalg.norm(away, axis=1)[:, None] / np.linalg.norm(at, axis=1)
        numbers.append(cosines.argmax(axis=1))
        predicted = labels[numbers[-1]].reshape(truth.shape)
        expected = miou_by_hand(truth[scored], predicted[scored])
        assert row(table, outcome, "patch_miou")["value"] == pytest.approx(expected)
    assert (numbers[0] != numbers[1]).any()


def test_a_difference_to_the_removal_is_that_of_the_two_scores(tables):
    table = tables["variance"]
    for classifier in ("knn", "probe"):
        one, top = (row(table, name, "patch_miou", classifier=classifier)["value"] for name in ("pca-k", "remove-top"))
        against = row(table, "pca-k", classifier=classifier, reference="remove-top 8")
        assert against["value"] == pytest.approx(one - top)
        assert against["low"] <= against["value"] <= against["high"]
        assert (against["x_name"], against["x_value"]) == ("rank", 12.0)


def test_what_is_taken_out_is_told(tables):
    position, variance = tables["position"], tables["variance"]
    assert row(variance, "remove-top", "removed_variance_share")["value"] > 0.99
    assert row(position, "remove-position", "removed_variance_share")["low"] > 0.8
    assert row(position, "none", "position_share")["low"] > 0.4
    assert abs(row(variance, "remove-top", "position_share")["value"]) < 0.1
    first = row(variance, "remove-top", "removed_overlap", reference="remove-first-components 8")
    assert first["value"] > 0.99, "the top features are the first directions"
    chance = row(variance, "remove-top", "chance_removed_overlap", reference="remove-first-components 8")
    assert chance["value"] == pytest.approx(8 / 24)
    last = row(variance, "remove-top", "removed_overlap", reference="pca-k 12")
    assert last["value"] < 0.01, "pca-k keeps them"
    assert variance.loc[variance["metric"] == "removed_overlap", "outcome"].isin(ASKED.treatments).all()


def test_the_figures_show_every_difference_and_what_is_taken_out(tables):
    table = tables["variance"]
    [*scores, taken] = figure(table, []).axes
    assert [panel.get_title(loc="left") for panel in scores] == ["nearest neighbours", "linear probe"] * 2
    assert [panel.get_xlabel() for panel in scores[1:3]] == ["mIoU less untreated", "mIoU less that of\nremove-top 8"]
    ticks = [label.get_text() for label in scores[0].get_yticklabels()]
    assert ticks[:2] == ["highest variance left out (m = 8)", "position taken out (3)"]
    assert ticks[-1] == "outlier tokens left out (5 MAD)"
    shown = [one.lines[0].get_xydata() for one in taken.containers]
    shares = table.loc[table["metric"] == "removed_variance_share", "value"]
    np.testing.assert_array_equal(shown[0], list(zip(shares, range(len(ticks)), strict=True)))
    assert shown[1].tolist() == [[row(table, "remove-top", "position_share")["value"], 0.0]]
    [square] = overlaps(table, []).axes
    [picture] = square.images
    found = np.ma.filled(picture.get_array(), np.nan)
    assert [label.get_text() for label in square.get_yticklabels()] == [
        *("remove-top 8", "remove-first-components 8", "pca-k 12")
    ], "nothing is positional here"
    np.testing.assert_array_equal(found, found.T)
    first = row(table, "remove-top", "removed_overlap", reference="remove-first-components 8")
    assert found[0, 1] == first["value"]


def test_only_the_numbers_of_what_is_asked_for_name_a_result(tmp_path):
    measured = planted(tmp_path / "store", planted=4)
    plain = FeatureTreatments(kind="feature-treatments", classifiers=("knn",), m=(4,), draws=1, resamples=20)

    def named(analysis):
        return found(tmp_path, measured, analysis)["result"].unique().tolist()

    first = named(plain)
    parameters = json.loads(found(tmp_path, measured, plain)["params"][0])
    assert parameters.keys() == {"treatments", "m", "draws", "resamples", "train", "validation", "seed", "classifier",
                                 "k"}, "as before there were other treatments"  # fmt: skip
    other = {"position_ranks": (3,), "first_components": (2,), "kept_components": (3,), "outlier_deviations": (2.0,)}
    assert named(plain.model_copy(update=other)) == first
    asked = plain.model_copy(update={"treatments": ("pca-k",)})
    assert named(asked) != named(asked.model_copy(update={"kept_components": (3,)}))
    assert named(asked) == named(asked.model_copy(update={"position_ranks": (3,)}))


def test_a_reference_that_is_not_there_and_a_bank_without_neighbours_are_refused(tmp_path):
    with pytest.raises(ValueError, match='references has "remove-top", which is not among the treatments'):
        FeatureTreatments(kind="feature-treatments", treatments=("l2",), references=("remove-top",))
    measured = planted(tmp_path / "store")
    few = FeatureTreatments(kind="feature-treatments", classifiers=("knn",), treatments=("drop-outlier-tokens",),
                            outlier_deviations=(0.0,), k=80)  # fmt: skip
    with pytest.raises(UserError, match="k = 80 neighbours are more than the"):
        found(tmp_path, measured, few)
