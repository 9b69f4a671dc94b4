"""Geometry of patch features: planted answers, a second float64 implementation of each quantity, and the analysis."""

import itertools

import numpy as np
import pandas as pd
import pytest

from evaluate.analyses.feature_geometry import FeatureGeometry
from evaluate.figures.feature_geometry import rank
from evaluate.figures.geometry_table import GEOMETRY_FIGURES
from evaluate.kernels.geometry import activations, position, spread, structure
from evaluate.kernels.geometry.grid import PatchGrid
from evaluate.kernels.geometry.norms import NormThreshold, bimodality
from evaluate.kernels.geometry.rank import Spectrum, decay_exponent, entropy_rank, spectra
from evaluate.kernels.geometry.sums import Plan, RowNumbers, read_block
from evaluate.registry import EvaluationSettings
from evaluate.results.table import ResultStore
from evaluate.runner import evaluate
from stores.errors import MissingError, UserError
from tests.evaluate.planted_geometry import geometry_set, reference

GRID, TILES = (5, 4), 2


def run(folder, model, **settings):
    given = {"resamples": 30, "top": (1, 3), "fitted_ranks": (2, 8), **settings}
    analysis = FeatureGeometry(kind="feature-geometry", **given)
    return evaluate("t", [model], EvaluationSettings(analyses=(analysis,)), ResultStore(folder / "results"))


def some_tokens(seed=0, n_rows=36, channels=12, dtype=np.float16):
    """Tokens with a mean, an image's own part, a smooth part, a positional part, and a few long ones."""
    rng = np.random.default_rng(seed)
    n_patches = GRID[0] * GRID[1]
    tokens = rng.normal(size=(n_rows, n_patches, channels)) * np.linspace(2, 0.3, channels)
    tokens += rng.normal(size=channels) + rng.normal(size=(n_rows // TILES, 1, channels)).repeat(TILES, axis=0)
    tokens += PatchGrid(*GRID).coordinates @ rng.normal(size=(2, channels)) * 0.5
    tokens[::5, 0] *= 8
    tokens[3, 7, 2] = 1500.0
    return tokens.astype(dtype)


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    arrays = {(0, False): some_tokens(0), (0, True): some_tokens(1, dtype=np.float32), (1, True): some_tokens(2)}
    labels = np.random.default_rng(9).integers(0, 3, (36, 20)).astype(np.uint8)
    labels[labels == 2] = 255
    folder = tmp_path_factory.mktemp("geometry")
    return folder, geometry_set(folder / "store", arrays, GRID, tiles=TILES, labels=labels), arrays, labels


@pytest.fixture(scope="module")
def found(planted):
    folder, model, *_ = planted
    return run(folder, model)


@pytest.mark.parametrize("where", [(0, False), (0, True), (1, True)])
def test_every_number_is_that_of_a_second_implementation(where, planted, found):
    _, _, arrays, labels = planted
    layer, norm = where
    expected, outlier_map = reference(arrays[where], GRID, TILES, labels, ranks=(2, 8))
    table = found.table[(found.table["layer"] == layer) & (found.table["normed"] == norm)]
    missing = set(expected)
    for row in table.to_dict("records"):
        name = tuple(None if value is None or value != value else value for value in (row["metric"], row["outcome"]))
        key = (*name, row["m"] if row["m"] == row["m"] and row["m"] is not None else None)
        if key in expected:
            missing.discard(key)
            # Medians of float32 storage are those of bins of one part in 128.
            is_binned = arrays[where].dtype == np.float32 and row["metric"] in ("median_magnitude", "largest_to_median")
            assert row["value"] == pytest.approx(expected[key], rel=2e-2 if is_binned else 1e-6, abs=1e-6), key
    assert not missing
    result = next(one for _, one in found.results.values() if one.rows[0]["layer"] == layer and
                  bool(one.rows[0]["normed"]) == norm)  # fmt: skip
    np.testing.assert_array_equal(result.arrays["outlier_map"], outlier_map)


def test_intervals_hold_the_values_and_ranks_have_none(found):
    rows = found.table[(found.table["normed"]) & (found.table["layer"] == 1)].set_index("metric")
    for metric in ("lds", "cds", "rmsc", "channel_kurtosis", "share_within_images", "mean_cosine", "distance_cosine"):
        some = rows.loc[[metric]]
        assert (some["low"] <= some["value"]).all()
        assert (some["value"] <= some["high"]).all()
        assert set(some["unit"]) == {"image"}
        assert set(some["n_units"]) == {18}
    assert rows.loc[["rankme", "decay_exponent", "position_r2", "norm_bimodality"], "low"].isna().all()


def test_outliers_are_found_at_their_places(tmp_path):
    rng = np.random.default_rng(3)
    tokens = rng.normal(size=(20, 20, 64)).astype(np.float32)
    tokens[:5, 0] *= 10
    tokens[:8, 19] *= 10
    model = geometry_set(tmp_path / "store", {(0, True): tokens.astype(np.float16)}, GRID)
    found = run(tmp_path, model, norm="final")
    shares = found.table[found.table["metric"] == "norm_outlier_share"].set_index("outcome")["value"]
    assert shares.to_dict() == pytest.approx(
        {"all patches": 13 / 400, "inside the grid": 0.0, "border": 0.0, "corners": 13 / 80}
    )
    [(_, result)] = found.results.values()
    expected = np.zeros(GRID)
    expected[0, 0], expected[4, 3] = 5 / 20, 8 / 20
    np.testing.assert_array_equal(result.arrays["outlier_map"], expected)


def test_two_modes_have_a_high_coefficient_of_sarle():
    rng = np.random.default_rng(0)
    assert bimodality(rng.normal(size=200_000)) == pytest.approx(1 / 3, abs=0.01)
    assert bimodality(rng.random(200_000)) == pytest.approx(5 / 9, abs=0.01)
    assert bimodality(np.concatenate([rng.normal(size=500), rng.normal(size=500) + 10])) > 0.8
    assert np.isnan(bimodality(np.ones(9)))
    assert NormThreshold.of(np.array([1.0, 2.0, 3.0, 4.0, 100.0]), 2.0).value == 5.0


def test_magnitudes_are_counted_to_the_last_bit_of_float16():
    values = np.random.default_rng(1).normal(size=4001).astype(np.float16) * np.float16(40)
    values[7] = np.float16(-2000)
    counts, of_bins = activations.magnitude_counts(values), activations.magnitudes(values.dtype)
    magnitude = np.abs(values.astype(np.float64))
    assert activations.median_magnitude(counts, of_bins) == np.median(magnitude)
    for threshold in (0.0, 3.7, 100.0, 1999.0, 2000.0):
        assert activations.count_above(counts, of_bins, threshold) == (magnitude > threshold).sum()
    wide = values.astype(np.float32) * np.float32(1.001)
    counts, of_bins = activations.magnitude_counts(wide), activations.magnitudes(wide.dtype)
    assert activations.median_magnitude(counts, of_bins) == pytest.approx(np.median(np.abs(wide)), rel=1 / 128)


def with_spectrum(eigenvalues, n, seed=0):
    """Vectors of mean 0 whose second moment has exactly these eigenvalues."""
    rng, d = np.random.default_rng(seed), len(eigenvalues)
    left = np.linalg.qr(np.column_stack([np.ones(n), rng.normal(size=(n, d))]))[0][:, 1:]
    right = np.linalg.qr(rng.normal(size=(d, d)))[0]
    return np.sqrt(n) * (left * np.sqrt(eigenvalues)) @ right.T


def moments_of(x):
    lengths = (x**2).sum(axis=1)
    return len(x), x.sum(axis=0), x.T @ x, float((lengths**2).sum()), lengths @ x


def test_a_known_spectrum_has_its_ranks():
    eigenvalues = np.arange(1.0, 41.0) ** -1.5
    x = with_spectrum(eigenvalues, 300)
    for offset in (0.0, 7.0):
        centred = next(iter(spectra(*moments_of(x + offset))))
        np.testing.assert_allclose(centred.eigenvalues, eigenvalues, rtol=1e-8)
        assert decay_exponent(centred.eigenvalues, 10, 40) == pytest.approx(1.5, abs=1e-6)
        assert centred.stable_rank == pytest.approx(eigenvalues.sum())
        assert centred.participation == pytest.approx(eigenvalues.sum() ** 2 / (eigenvalues**2).sum())
    flat = next(iter(spectra(*moments_of(with_spectrum(np.ones(8), 100)))))
    assert (flat.rankme, flat.participation, flat.stable_rank) == pytest.approx((8, 8, 8), rel=1e-4)
    assert np.isnan(entropy_rank(np.zeros(3)))
    assert np.isnan(decay_exponent(np.ones(5), 4, 5))


def test_directions_that_are_rounding_alone_are_not_fitted():
    rng = np.random.default_rng(5)
    few = rng.normal(size=(12, 40)) + 3.0  # 12 tokens span 11 directions about their mean
    repeated = np.repeat(rng.normal(size=(300, 20)), 2, axis=1) + 3.0
    for tokens, n_centred, n_about_origin in ((few, 11, 12), (repeated, 20, 20)):
        centred, about_origin = spectra(*moments_of(tokens))
        assert np.count_nonzero(centred.eigenvalues) == n_centred
        assert np.count_nonzero(about_origin.eigenvalues) == n_about_origin
        squares = np.linalg.svd(tokens - tokens.mean(axis=0), compute_uv=False)[:n_centred] ** 2 / len(tokens)
        assert decay_exponent(centred.eigenvalues, 2, 40) == pytest.approx(decay_exponent(squares, 2, n_centred))


def test_the_corrected_participation_ratio_is_that_of_sums_over_different_tokens():
    x = np.random.default_rng(4).normal(size=(7, 3)) * [3, 1, 0.5] + 2
    centred, about_origin = spectra(*moments_of(x))
    top = bottom = 0.0
    for i, j, k, m in itertools.permutations(range(7), 4):
        one, other = x[i] - x[j], x[k] - x[m]
        top += (one @ one) * (other @ other)
        bottom += (one @ other) ** 2
    assert centred.corrected_participation == pytest.approx(top / bottom, rel=1e-9)
    pairs = [(a, b) for a, b in itertools.permutations(x, 2)]
    top, bottom = sum((a @ a) * (b @ b) for a, b in pairs), sum((a @ b) ** 2 for a, b in pairs)
    assert about_origin.corrected_participation == pytest.approx(top / bottom, rel=1e-9)


def test_few_tokens_bias_the_plain_participation_ratio_and_not_the_corrected_one():
    rng, d = np.random.default_rng(5), 30
    corrected, plain = [], []
    for _ in range(300):
        one = next(iter(spectra(*moments_of(rng.normal(size=(20, d))))))
        corrected.append(1 / one.corrected_participation)  # the noise is in the denominator
        plain.append(1 / one.participation)
    assert 1 / np.mean(corrected) == pytest.approx(d, rel=0.05)
    assert 1 / np.mean(plain) < 0.5 * d
    assert np.isnan(Spectrum(3, np.ones(2), 1.0, True).corrected_participation)


def geometry_of(tokens, grid, labels=None):
    n_rows = len(tokens)
    sampled = np.zeros((n_rows, 1), np.int64)
    plan = Plan(PatchGrid(*grid), np.arange(n_rows) * 3 // n_rows, np.ones(n_rows, dtype=bool), sampled, labels)
    rows = RowNumbers.empty(plan, tokens.shape[2])
    return rows, read_block(tokens, 0, plan, rows)


def test_a_known_correlation_with_distance_has_its_slope():
    grid = PatchGrid(6, 5)
    for length in (2.0, 6.0):
        cosines = np.exp(-grid.distances / length)  # of two factors, so that it is a covariance
        rng = np.random.default_rng(0)
        turned = np.linalg.qr(rng.normal(size=(64, 30)))[0].T
        tokens = (np.linalg.cholesky(cosines) @ turned)[None].astype(np.float32) * 3
        rows, _ = geometry_of(tokens, (6, 5))
        means = structure.mean_cosines(rows.cosines, grid)[0]
        np.testing.assert_allclose(means, np.exp(-np.arange(10) / length), atol=1e-6)
        apart = np.arange(1, 9)
        slope = np.polyfit(apart, np.exp(-apart / length), 1)[0]
        assert structure.decay_slope(rows.cosines, grid)[0] == pytest.approx(-slope, abs=1e-6)
        far = cosines[grid.distances >= 6].mean()
        assert structure.local_contrast(rows.cosines, grid)[0] == pytest.approx(np.exp(-1 / length) - far, abs=1e-6)
    assert np.isnan(structure.local_contrast(np.zeros((1, 5)), PatchGrid(3, 3))).all()


def test_regions_of_one_direction_each_contrast_fully():
    tokens = np.zeros((1, 8 * 8, 4), np.float32)
    labels = np.zeros((1, 8, 8), np.uint8)
    labels[:, :, 4:] = 1
    tokens[0, np.arange(64), labels.reshape(-1)] = 5.0
    rows, _ = geometry_of(tokens, (8, 8), labels.reshape(1, -1))
    assert rows.regions[0] == pytest.approx(1.0, abs=1e-6)
    rows, _ = geometry_of(tokens, (8, 8), np.zeros((1, 64), np.uint8))
    assert np.isnan(rows.regions[0])


def test_a_planted_positional_subspace_has_its_share_and_is_read_back():
    rng, grid = np.random.default_rng(6), PatchGrid(6, 6)
    places = grid.coordinates
    basis = np.linalg.qr(rng.normal(size=(16, 2)))[0].T
    n_rows = 120
    for share in (0.0, 0.4, 0.9):
        plane = places @ basis
        noise = rng.normal(size=(n_rows, 36, 16))
        noise += rng.normal(size=(n_rows, 1, 16))  # an image's own part, which is no noise of a position
        spread_of = ((noise - noise.mean(axis=(0, 1))) ** 2).sum(axis=2).mean()
        scale = np.sqrt(share / (1 - share) * spread_of / (plane**2).sum(axis=1).mean())
        tokens = (noise + scale * plane).astype(np.float32)
        rows, sums = geometry_of(tokens, (6, 6))
        assert position.position_share(sums.positions, rows.sums, rows.squares.sum()) == pytest.approx(share, abs=0.01)
        r2 = position.position_r2([sums.folds[number] for number in range(3)])
        # Noise of variance 2 along each direction of the plane; the other directions tell nothing.
        signal = scale**2 * (places**2).mean(axis=0)
        np.testing.assert_allclose(r2, signal / (signal + 2), atol=0.03)
    assert np.isnan(position.position_r2([sums.folds[0]])).all()
    assert np.isnan(position.position_share(np.ones((4, 2)), np.ones((1, 2)), 8.0))


def test_collapse_and_spread_are_told_apart():
    equal = np.tile(np.eye(4)[:1], (6, 1))
    assert spread.uniformity(equal) == pytest.approx(0.0)
    assert spread.uniformity(np.eye(600)) == pytest.approx(-4.0)
    assert np.isnan(spread.uniformity(equal[:1]))
    totals = np.array([[4.0, 0.0], [0.0, 4.0]])
    sums = spread.ImageSums(np.full(2, 4.0), totals, np.full(2, 4.0), totals, np.full(2, 4.0))
    assert spread.share_within(sums, np.ones((1, 2)))[0] == pytest.approx(0.0)
    parts = spread.cosine_parts(totals, np.full(2, 4.0), np.ones((1, 2)))
    np.testing.assert_allclose(parts, 0.0)
    np.testing.assert_allclose(spread.cosine_within(sums), 1.0)
    twice_the_same = spread.cosine_parts(totals, np.full(2, 4.0), np.array([[2.0, 0.0]]))
    assert np.isnan(twice_the_same).all()


def test_results_are_reused_and_other_settings_are_not(planted, found):
    folder, model, *_ = planted
    assert run(folder, model).n_reused == 3
    assert run(folder, model, deviations=7.0, norm="none").n_computed == 1


def test_few_pairs_of_patches_leave_the_other_numbers(planted, found):
    folder, model, *_ = planted
    fewer = run(folder, model, pair_images=12)
    for metric, is_same in (("lds", False), ("rmsc", True), ("rankme", True)):
        values = [table.loc[table["metric"] == metric, "value"].tolist() for table in (found.table, fewer.table)]
        assert (values[0] == values[1]) == is_same
    assert fewer.table.loc[fewer.table["metric"] == "lds", "value"].notna().all()
    n_units = {metric: set(fewer.table.loc[fewer.table["metric"] == metric, "n_units"]) for metric in ("lds", "rmsc")}
    assert n_units["lds"] == {12}
    assert min(n_units["rmsc"]) > 12


def test_an_interval_needs_ten_images_that_define_the_number(planted):
    folder, model, *_ = planted
    fewest = run(folder, model, pair_images=5, layers=(1,), norm="both").table
    rows = fewest[fewest["metric"].isin(["lds", "channel_kurtosis", "srss"])]
    assert set(rows["n_units"]) == {4, 5}, "one of the five has no region"
    assert rows["low"].isna().all()
    assert rows["value"].notna().any()


def test_what_is_not_stored_is_named(planted):
    folder, model, *_ = planted
    with pytest.raises(MissingError, match=r"tokens/block.1 of planted is not complete"):
        run(folder, model, norm="none", layers=(1,))
    assert run(folder, model, norm="both", layers=(1,)).n_reused == 1
    with pytest.raises(ValueError, match="fewer than three ranks"):
        FeatureGeometry(kind="feature-geometry", fitted_ranks=(10, 11))


def test_what_is_not_finite_is_named_and_little_data_gives_what_it_can(tmp_path):
    tokens = some_tokens(0, n_rows=4)
    broken = tokens.copy()
    broken[2, 3, 4] = np.inf
    model = geometry_set(tmp_path / "broken", {(0, True): broken}, GRID)
    with pytest.raises(UserError, match=r"row 2 of tokens/block.0.norm holds a value that is not finite"):
        run(tmp_path, model)
    for n_patches, grid in ((1, (1, 1)), (2, (1, 2))):
        single = tokens[:1, :n_patches]
        table = run(tmp_path, geometry_set(tmp_path / str(n_patches), {(0, True): single}, grid)).table
        values = table.set_index("metric")["value"]
        assert values["norm_median"] == pytest.approx(np.median(np.linalg.norm(single.astype(float), axis=2)))
        assert values[["lds", "cds", "position_share", "share_within_images"]].isna().all()
    rectified = tokens.copy()
    rectified[..., :5] = 0.0  # most values of a rectified layer are 0, and none of them makes another massive
    rectified[np.abs(rectified) < 1.0] = 0.0
    table = run(tmp_path, geometry_set(tmp_path / "rectified", {(0, True): rectified}, GRID)).table
    values = table.set_index(["metric", "outcome"])["value"]
    assert values["median_magnitude"].iloc[0] == 0.0
    assert values[["massive_share"]].isna().tolist() == [False, True, False]  # above 100, 1000 medians, both


def test_figures_show_the_tables_numbers(found):
    table, results = found.table, list(found.results.values())
    drawn = {entry.name: entry.draw(table, results) for entry in GEOMETRY_FIGURES}
    assert {name for name, figure in drawn.items() if figure is None} == {"intrinsic-dimension", "lidar"}
    rows = table[(table["metric"] == "lds") & table["normed"]].sort_values("layer")
    line = drawn["geometry-structure"].axes[0].lines[-1]
    np.testing.assert_array_equal(line.get_xdata(), [1, 2])
    np.testing.assert_array_equal(line.get_ydata(), rows["value"].to_numpy(float))
    shown = [axes.images[0].get_array() for axes in drawn["geometry-outlier-maps"].axes if axes.images]
    maps = [result.arrays["outlier_map"] for _, result in results]
    assert {np.asarray(one).tobytes() for one in shown} == {one.tobytes() for one in maps}


def test_captured_covariances_give_the_ranks_of_the_tokens_where_none_are_stored(planted, found, tmp_path):
    _, _, arrays, _ = planted
    captured = geometry_set(
        tmp_path / "store", {(0, False): arrays[0, False]}, GRID, tiles=TILES, covariances=((0, "output"), (0, "mlp"))
    )
    table = run(tmp_path, captured, source="covariances").table
    assert set(table["array"]) == {"block.0", "block.0.mlp"}
    assert set(table["reference"]) == {"captured covariances"}
    of_tokens = found.table[(found.table["layer"] == 0) & ~found.table["normed"]].set_index(["metric", "outcome"])
    ours = table[table["array"] == "block.0"].set_index(["metric", "outcome"])
    compared = [("rankme", "centred"), ("rankme", "not centred"), ("stable_rank", "centred"),
                ("participation_ratio", "centred"), ("decay_exponent", "centred, ranks 2 to 8")]  # fmt: skip
    for key in compared:
        assert ours.loc[[key], "value"].item() == pytest.approx(of_tokens.loc[[key], "value"].item(), rel=1e-4), key
    share = ours.xs("share_within_images", level="metric").iloc[0]
    expected = of_tokens.xs("share_within_images", level="metric").iloc[0]
    for column in ("value", "low", "high"):
        assert share[column] == pytest.approx(expected[column], rel=1e-4)
    assert not ours.index.get_level_values("outcome").str.contains("corrected", na=False).any()


def test_a_set_without_covariances_names_the_capture(planted, tmp_path):
    with pytest.raises(MissingError, match=r'no captured arrays of "covariances" .*: add it to `captures`'):
        run(tmp_path, planted[1], source="covariances")


def test_the_figure_of_ranks_shows_tokens_before_captured_covariances(found, tmp_path, planted):
    _, _, arrays, _ = planted
    captured = geometry_set(
        tmp_path / "s", {(0, False): arrays[0, False]}, GRID, tiles=TILES, covariances=((0, "output"),)
    )
    both = pd.concat([found.table, run(tmp_path, captured, source="covariances").table], ignore_index=True)
    shown = [line.get_xydata() for axes in rank(both, []).axes for line in axes.get_lines()]
    alone = [line.get_xydata() for axes in rank(found.table, []).axes for line in axes.get_lines()]
    assert len(shown) == len(alone)
    for one, other in zip(shown, alone, strict=True):
        np.testing.assert_array_equal(one, other)
    only = both[both["reference"].notna()]
    assert rank(only, []) is not None
