"""Intrinsic dimension and LiDAR: planted dimensions, second implementations, and what is refused."""

import dataclasses

import numpy as np
import pytest
import scipy.linalg

from evaluate.analyses.intrinsic_dimension import IntrinsicDimension
from evaluate.analyses.lidar import Lidar
from evaluate.figures import feature_geometry as figures
from evaluate.inputs.model_sets import ViewSets
from evaluate.kernels.geometry.lidar import lidar
from evaluate.kernels.geometry.two_nn import neighbour_ratios, two_nn_dimension
from evaluate.registry import EvaluationSettings
from evaluate.results.table import ResultStore
from evaluate.runner import evaluate
from evaluate.selection import SelectionRule
from evaluate.settings import Selection
from stores.errors import MissingError, UserError
from tests.evaluate.planted_geometry import geometry_set
from tests.evaluate.planted_views import viewed_sets

SELECTION = Selection(train=SelectionRule(split="train"), validation=SelectionRule(split="val"))


def run(folder, model, analysis, selection=None):
    settings = EvaluationSettings(selection=selection, analyses=(analysis,))
    return evaluate("t", [model], settings, ResultStore(folder / "results"))


def two_nn_by_hand(points, trimmed):
    """Facco et al. 2017, point by point: empirical distribution of the ratios, least squares through the origin."""
    ratios = []
    for number, point in enumerate(points):
        apart = np.sort(np.sqrt(((np.delete(points, number, axis=0) - point) ** 2).sum(axis=1)))
        if apart[0] > 0:
            ratios.append(apart[1] / apart[0])
    n = len(ratios)
    kept = min(int(n * (1 - trimmed)), n - 1)
    x = np.log(np.sort(ratios)[:kept])
    y = -np.log(1 - np.arange(1, kept + 1) / n)
    return np.linalg.lstsq(x[:, None], y, rcond=None)[0][0]


def cube(n, dimension, channels, seed=0):
    """Points of a cube of some dimension, turned into more channels."""
    rng = np.random.default_rng(seed)
    return rng.random((n, dimension)) @ np.linalg.qr(rng.normal(size=(channels, dimension)))[0].T


@pytest.mark.parametrize("dimension", [2, 5])
def test_the_dimension_of_a_turned_cube_is_found(dimension, tmp_path):
    points = cube(60 * 20, dimension, 24).astype(np.float32)
    model = geometry_set(tmp_path / "store", {(0, True): points.reshape(60, 20, 24)}, (5, 4))
    found = run(tmp_path, model, IntrinsicDimension(kind="intrinsic-dimension", resamples=40))
    row = found.table[found.table["metric"] == "intrinsic_dimension"].iloc[0]
    assert row["value"] == pytest.approx(dimension, rel=0.1)
    assert row["low"] < row["value"] < row["high"]
    assert row["value"] == pytest.approx(two_nn_by_hand(points.astype(np.float64), 0.1), rel=1e-6)
    assert (row["outcome"], row["token"], row["n_units"]) == ("10 % trimmed", "patch", 60)
    assert run(tmp_path, model, IntrinsicDimension(kind="intrinsic-dimension", resamples=40)).n_reused == 1
    fewer = run(tmp_path, model, IntrinsicDimension(kind="intrinsic-dimension", resamples=0, patches=240, norm="both"))
    assert fewer.table["value"].iloc[0] == pytest.approx(dimension, rel=0.35)
    assert figures.intrinsic_dimension(found.table, []).axes[0].lines[0].get_ydata()[0] == row["value"]


def test_equal_vectors_are_left_out_and_counted(tmp_path):
    points = cube(400, 2, 8).astype(np.float32)
    points[:40] = points[40:80]
    model = geometry_set(tmp_path / "store", {(0, True): points.reshape(20, 20, 8)}, (5, 4))
    table = run(tmp_path, model, IntrinsicDimension(kind="intrinsic-dimension")).table.set_index("metric")
    assert table["value"]["equal_points"] == pytest.approx(80 / 400)
    assert table["value"]["intrinsic_dimension"] == pytest.approx(two_nn_by_hand(points.astype(float), 0.1), rel=1e-6)
    assert np.isnan(neighbour_ratios(np.array([[0.0, 1.0]]))).all()
    assert np.isnan(two_nn_dimension(np.ones(9), 0.1))


def test_too_few_vectors_and_vectors_that_are_not_stored_are_refused(tmp_path):
    model = geometry_set(tmp_path / "store", {(0, True): np.ones((2, 2, 4), np.float32)}, (2, 1))
    with pytest.raises(UserError, match="needs 5 vectors and 4 are selected"):
        run(tmp_path, model, IntrinsicDimension(kind="intrinsic-dimension"))
    with pytest.raises(MissingError, match="no stored class token"):
        run(tmp_path, model, IntrinsicDimension(kind="intrinsic-dimension", vectors=("class-token",)))


def lidar_by_hand(members, delta=1e-4):
    """arXiv 2312.04000, section 4, with explicit covariances and SciPy's matrix square root."""
    n_images, n_views, d = members.shape
    means = members.mean(axis=1)
    centre = means.mean(axis=0)
    between = sum(np.outer(mean - centre, mean - centre) for mean in means) / n_images
    within = sum(np.outer(one - mean, one - mean) for mean, some in zip(means, members, strict=True) for one in some)
    root = np.linalg.inv(scipy.linalg.sqrtm(within / (n_images * n_views) + delta * np.eye(d)).real)
    values = np.maximum(np.linalg.eigvalsh(root @ between @ root), 0)
    shares = values / values.sum() + 1e-7
    return np.exp(-(shares * np.log(shares)).sum())


@pytest.mark.parametrize(("n_images", "channels"), [(9, 20), (40, 12)])
def test_lidar_is_that_of_a_second_implementation(n_images, channels):
    rng = np.random.default_rng(n_images)
    members = rng.normal(size=(n_images, 1, channels)) * np.linspace(3, 0.1, channels)
    members = members + 0.3 * rng.normal(size=(n_images, 5, channels))
    assert lidar(members) == pytest.approx(lidar_by_hand(members), rel=1e-6)


def test_lidar_counts_the_directions_of_images_and_not_those_of_views():
    rng = np.random.default_rng(0)
    for n_directions in (2, 6):
        corners = np.concatenate([np.eye(30)[:n_directions], -np.eye(30)[:n_directions]])
        moved = np.tile(corners[:, None], (1, 8, 1))
        moved[..., 20:] += rng.normal(size=(len(corners), 8, 10)) * 5  # views move where no image differs
        moved[..., 20:] -= moved[..., 20:].mean(axis=1, keepdims=True)
        assert lidar(moved) == pytest.approx(n_directions, rel=1e-3)
    assert np.isnan(lidar(np.ones((4, 3, 2))))


def test_lidar_reads_the_clean_rows_and_every_view(tmp_path):
    model = viewed_sets(tmp_path / "store", n_images=24, noise=((10, 0.5), (20, 1.5)))
    analysis = Lidar(kind="lidar", pooled=("mean-patch",), views=("noise",))
    found = run(tmp_path, model, analysis, SELECTION)
    [row] = found.table[found.table["metric"] == "lidar"].to_dict("records")
    rows = np.flatnonzero(model.samples["split"] == "val")
    array = f"tokens/{row['array']}"
    sets = [model, model.for_view("noise", 10.0), model.for_view("noise", 20.0)]
    sides = [one.features[array][rows].astype(np.float64).mean(axis=1) for one in sets]
    assert row["value"] == pytest.approx(lidar_by_hand(np.stack(sides, axis=1)), rel=1e-6)
    assert run(tmp_path, model, analysis, SELECTION).n_reused == 1
    fewer = run(tmp_path, model, Lidar(kind="lidar", pooled=("mean-patch",)), SELECTION)
    assert fewer.n_computed == 1
    assert figures.lidar(found.table, []).axes[0].lines[0].get_ydata()[0] == row["value"]
    with pytest.raises(UserError, match=r"has the view blur, which \[\[views\]\] does not list"):
        run(tmp_path, model, Lidar(kind="lidar", pooled=("mean-patch",), views=("blur",)), SELECTION)


def test_lidar_names_the_view_that_lacks_a_layer(tmp_path):
    tokens = np.random.default_rng(0).normal(size=(12, 4, 4)).astype(np.float32)
    clean = geometry_set(tmp_path / "clean", {(0, True): tokens, (1, True): tokens}, (2, 2))
    viewed = geometry_set(tmp_path / "viewed", {(1, True): tokens}, (2, 2))
    view = ViewSets("flip", 1.0, viewed.features, clean.labels)
    model = dataclasses.replace(clean, views={("flip", 1.0): view})
    found = run(tmp_path, model, Lidar(kind="lidar", pooled=("mean-patch",)))
    assert found.table["layer"].tolist() == [1]
    with pytest.raises(MissingError, match=r"mean-patch of block.0.norm .* under flip 1.*`layers` of \[\[views\]\]"):
        run(tmp_path, model, Lidar(kind="lidar", pooled=("mean-patch",), layers="all"))


def test_lidar_needs_a_view(tmp_path):
    model = geometry_set(tmp_path / "store", {(0, True): np.ones((12, 4, 4), np.float32)}, (2, 2))
    with pytest.raises(UserError, match=r"lidar needs \[\[views\]\] such as colour-jitter"):
        run(tmp_path, model, Lidar(kind="lidar", pooled=("mean-patch",)))
