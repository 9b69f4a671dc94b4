"""Token geometry: matrices of known singular values and rank, a second implementation by SVD, maps and messages."""

import numpy as np
import pytest

from evaluate.analyses.token_geometry import TokenGeometry
from evaluate.figures import token_geometry as figures
from evaluate.figures import token_maps
from evaluate.kernels.tokens.projections import leading_directions, tsne_map
from evaluate.kernels.tokens.spectra import centred_gram, log_singular_values, participation_ratio, shown_ranks
from evaluate.registry import EvaluationSettings
from evaluate.results.table import ResultStore
from evaluate.runner import evaluate
from evaluate.selection import SelectionRule
from evaluate.settings import Selection
from stores.errors import MissingError
from tests.evaluate.planted import planted
from tests.evaluate.planted_captures import PREFIX, write_captures

SELECTION = Selection(train=SelectionRule(split="train"), validation=SelectionRule(split="val"))
SETTINGS = {"resamples": 100, "layers": "all", "norm": "none", "map_images": 4, "images": 64}


def run(folder, model, **settings):
    analysis = TokenGeometry(kind="token-geometry", **{**SETTINGS, **settings})
    wanted = EvaluationSettings(selection=SELECTION, analyses=(analysis,))
    return evaluate("t", [model], wanted, ResultStore(folder / "results"))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return write_captures(tmp_path_factory.mktemp("geometry") / "store")


@pytest.fixture(scope="module")
def found(written, tmp_path_factory):
    return run(tmp_path_factory.mktemp("found"), written[0])


@pytest.mark.parametrize(("n_vectors", "n_channels"), [(40, 12), (12, 40)])
def test_planted_singular_values_are_found(n_vectors, n_channels):
    rng = np.random.default_rng(0)
    planted_values = np.array([9.0, 5.0, 2.0, 0.5])
    # Columns that are orthogonal to the ones, so that centring takes nothing.
    left = np.linalg.qr(np.column_stack([np.ones(n_vectors), rng.normal(size=(n_vectors, 4))]))[0][:, 1:]
    right = np.linalg.qr(rng.normal(size=(n_channels, 4)))[0]
    gram = centred_gram((left * planted_values) @ right.T + rng.normal(size=n_channels))
    logs = log_singular_values(gram, n_vectors)
    np.testing.assert_allclose(logs[:4], np.log(planted_values / 9), atol=1e-9)
    np.testing.assert_allclose(logs[4:], np.log(1e-6))
    squares = planted_values**2
    assert participation_ratio(gram) == pytest.approx(squares.sum() ** 2 / (squares**2).sum())


def test_equal_variance_in_r_dimensions_has_the_ratio_r():
    for r in (1, 3, 8):
        corners = np.concatenate([np.eye(16)[:r], -np.eye(16)[:r]]) * 7
        assert participation_ratio(centred_gram(corners)) == pytest.approx(r)
    assert np.isnan(participation_ratio(centred_gram(np.ones((5, 3)))))
    assert np.isnan(log_singular_values(centred_gram(np.ones((5, 3))), 5)).all()
    assert shown_ranks(20) == [1, 2, 3, 4, 6, 8, 11, 16, 20]


def by_svd(vectors):
    """Singular values of the centred vectors, and their participation ratio, from numpy's SVD in float64."""
    vectors = vectors.astype(np.float64)
    values = np.linalg.svd(vectors - vectors.mean(axis=0), compute_uv=False)
    logs = np.log(np.maximum(values / values[0], 1e-6))[: min(len(vectors) - 1, vectors.shape[1])]
    return logs, (values**2).sum() ** 2 / (values**4).sum()


ARRAYS = [("tokens/block.0", 1.0), ("tokens/block.1", 2.0), ("sublayers/embedding", 0.0)]
ARRAYS += [(f"sublayers/block.{layer}.attention-residual", layer + 0.5) for layer in range(2)]


@pytest.mark.parametrize(("address", "depth"), ARRAYS)
def test_spectra_are_those_of_a_second_implementation(address, depth, written, found):
    model, arrays = written
    tokens = arrays[address][np.flatnonzero(model.samples["split"] == "val")]
    tokens = tokens[:, PREFIX:] if address.startswith("sublayers") else tokens
    logs, ratios = zip(*(by_svd(row) for row in tokens), strict=True)
    rows = found.table[found.table["array"] == address.partition("/")[2]]
    values = rows[rows["metric"] == "log_singular_value"]
    of_one = values[values["outcome"] == "one image"]
    ranks = of_one["x_value"].to_numpy(int)
    assert ranks[[0, -1]].tolist() == [1, 15]
    np.testing.assert_allclose(of_one["value"].to_numpy(float), np.mean(logs, axis=0)[ranks - 1], atol=1e-4)
    if address.startswith("tokens"):  # of rank 3, and 4
        assert (of_one["value"].to_numpy(float)[ranks > 5] < -12).all()
    of_images, _ = by_svd(tokens.astype(np.float64).mean(axis=1).reshape(12, 2, -1).mean(axis=1))
    means = values[values["outcome"] == "means of images"]
    ranks = means["x_value"].to_numpy(int)
    np.testing.assert_allclose(means["value"].to_numpy(float), of_images[ranks - 1], atol=1e-6)
    assert means["low"].isna().all()
    ratio = rows[rows["metric"] == "participation_ratio"].set_index("outcome")
    assert ratio["value"]["one image"] == pytest.approx(np.mean(ratios))
    assert ratio["value"]["all images"] == pytest.approx(by_svd(tokens.reshape(-1, tokens.shape[2]))[1])
    assert ratio["low"]["one image"] < ratio["value"]["one image"] < ratio["high"]["one image"]
    assert set(ratio["x_value"]) == {depth}


def test_statistics_are_means_of_the_captured_rows(written, found):
    model, arrays = written
    validated = np.flatnonzero(model.samples["split"] == "val")
    names = ("space_cosine", "depth_cosine", "spatial_variance", "head_cosine")
    for layer in range(2):
        rows = found.table[(found.table["array"] == f"block.{layer}") & (found.table["x_value"] == layer + 1)]
        expected = arrays[f"statistics/block.{layer}"][validated].astype(np.float64).mean(axis=0)
        for metric, value in zip(names, expected, strict=True):
            row = rows[rows["metric"] == metric].iloc[0]
            assert row["value"] == pytest.approx(value, rel=1e-12)
            assert row["low"] < value < row["high"]


def test_the_same_images_in_other_rows_give_the_same_numbers(found, tmp_path):
    order = np.random.default_rng(5).permutation(48)
    moved = run(tmp_path, write_captures(tmp_path / "store", order=order)[0], parts=("statistics", "spectra"))
    first = found.table[found.table["metric"] != "map_variance_share"]
    assert first["metric"].tolist() == moved.table["metric"].tolist()
    for name in ("value", "low", "high"):
        numbers = [table[name].to_numpy(dtype=float, na_value=np.nan) for table in (first, moved.table)]
        np.testing.assert_allclose(numbers[0], numbers[1], rtol=1e-6, atol=1e-9)


def maps_of(found):
    [result] = [result for _, result in found.results.values() if "token_pca" in result.arrays]
    return result


def test_maps_show_every_patch_of_images_of_both_classes(written, found):
    model, arrays = written
    maps = maps_of(found).arrays
    shown = [model.samples["sample"].tolist().index(str(name)) for name in maps["token_samples"]]
    assert model.samples["image_class"][shown].tolist().count(0) == 2
    assert len(set(model.samples["source"][shown])) == 4
    tokens = arrays["tokens/block.1"][shown].reshape(64, -1).astype(np.float64)
    centred = tokens - tokens.mean(axis=0)
    expected = centred @ np.linalg.svd(centred)[2][:2].T
    np.testing.assert_allclose(np.abs(maps["token_pca"]), np.abs(expected), rtol=1e-3, atol=1e-3)
    assert maps["token_tsne"].shape == (64, 2)
    np.testing.assert_array_equal(maps["token_class"], model.labels["patches/4x4"][shown].reshape(-1))
    np.testing.assert_array_equal(maps["token_image"], np.repeat(np.arange(4), 16))
    both = np.concatenate(
        [arrays["tokens/block.0"][shown[0]], arrays["sublayers/block.1.attention-residual"][shown[0], 1:]]
    )
    centred = both.astype(np.float64) - both.mean(axis=0, dtype=np.float64)
    placed = np.abs(centred @ np.linalg.svd(centred)[2][:3].T).reshape(2, 16, 3)
    np.testing.assert_allclose(np.abs(maps["token_moves"]), placed, rtol=1e-3, atol=1e-3)
    assert str(maps["token_moves_title"]) == "attention of block 1"
    share = found.table[found.table["outcome"] == "two components"]["value"].iloc[0]
    assert share == pytest.approx(leading_directions(tokens, 2)[2])


def test_t_sne_is_the_same_again_and_keeps_groups_apart():
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(90, 6)) + 40 * np.repeat(np.eye(6)[:3], 30, axis=0)
    once, again = (tsne_map(vectors, 20.0, seed=3) for _ in range(2))
    np.testing.assert_array_equal(once, again)
    groups = once.reshape(3, 30, 2)
    spread = np.linalg.norm(groups - groups.mean(axis=1, keepdims=True), axis=2).max()
    centres = groups.mean(axis=1)
    assert min(np.linalg.norm(centres[i] - centres[j]) for i in range(3) for j in range(i)) > 2 * spread
    assert tsne_map(vectors[:4], 20.0, seed=0).shape == (4, 2)


def test_results_are_reused_part_by_part(written, tmp_path):
    assert run(tmp_path, written[0], parts=("statistics",)).n_computed == 2
    again = run(tmp_path, written[0], parts=("statistics", "spectra"))
    assert (again.n_reused, again.n_computed) == (2, 5)
    fewer = run(tmp_path, written[0], parts=("spectra",), images=5)
    assert fewer.n_computed == 5
    assert set(fewer.table["n_units"].dropna()) == {5}
    assert run(tmp_path, written[0], parts=("spectra",), images=100).n_reused == 5


def test_what_is_not_stored_is_named_with_the_key_that_keeps_it(written, tmp_path):
    plain = planted(tmp_path / "plain")
    with pytest.raises(MissingError, match=r'no captured arrays of "token-statistics" .*: add it to `captures`'):
        run(tmp_path, plain, norm="final")
    with pytest.raises(MissingError, match=r'tokens with norm = "final" of planted|tokens/block.* of planted'):
        run(tmp_path, written[0], parts=("spectra",), norm="final")
    assert run(tmp_path, plain, parts=("spectra",), norm="final", layers=(-1,)).n_computed == 1


def test_figures_show_the_tables_numbers(found):
    table, results = found.table, list(found.results.values())
    drawn = figures.statistics(table, results)
    assert len(drawn.axes) == 4
    for axes, (metric, _) in zip(drawn.axes, figures.PANELS, strict=True):
        rows = table[table["metric"] == metric].sort_values("x_value")
        np.testing.assert_array_equal(axes.lines[0].get_ydata(), rows["value"].to_numpy(float))
    spectra = figures.spectra(table, results)
    ratios = table[(table["metric"] == "participation_ratio") & (table["outcome"] == "one image")]
    line = spectra.axes[2].lines[0]
    np.testing.assert_array_equal(line.get_xdata(), [0, 0.5, 1, 1.5, 2])
    np.testing.assert_array_equal(line.get_ydata(), ratios.sort_values("x_value")["value"].to_numpy(float))
    flat = token_maps.flat(table, results)
    assert len(flat.axes) == 4
    assert flat.axes[0].collections[0].get_offsets().shape == (64, 2)
    [space] = token_maps.moves(table, results).axes
    assert space.name == "3d"
