"""What of the gallery counts for a query, and over what intervals are drawn: images of two tiles, some patches void."""

import numpy as np
import pytest

from evaluate.analyses.retrieval import Retrieval
from evaluate.kernels.bootstrap import quantiles, resampled_ratio
from tests.evaluate.planted_views import viewed_sets
from tests.evaluate.test_view_analyses import only, table_of

ANALYSIS = Retrieval(kind="retrieval", views=("shift",), left_out=("nothing", "tile", "source"), resamples=100)
TILES, PATCHES = 2, 16


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("protocol")
    measured = viewed_sets(folder / "store", n_images=12, own=2.0, tiles=TILES, void=0.3)
    return measured, table_of(folder, measured, ANALYSIS)


@pytest.fixture(scope="module")
def world(found):
    """Places, labels and features of the gallery, and of the shifted queries, whose places are their origins'."""
    measured, _ = found
    moved = measured.views["shift", 1.0]
    clean, labels = measured.features["block.0.norm"][:].astype(np.float64), measured.labels["patches/4x4"][:].ravel()
    shifted, moved_labels = moved.features["block.0.norm"][:].astype(np.float64), moved.labels["patches/4x4"][:].ravel()
    places = np.flatnonzero(labels != 255)
    queries = np.flatnonzero((moved_labels != 255) & (moved_labels != 0))
    channels = clean.shape[-1]
    return (
        (places, labels[places], clean.reshape(-1, channels)[places]),
        (queries - 1, moved_labels[queries], shifted.reshape(-1, channels)[queries]),
    )


@pytest.mark.parametrize(("left_out", "n_tiles"), [("nothing", 0), ("tile", 1), ("source", TILES)])
def test_shares_are_those_of_the_labelled_gallery_less_what_is_left_out(found, world, left_out, n_tiles):
    (places, gallery_labels, gallery), (own, labels, queries) = world
    distances = ((queries[:, None] - gallery[None]) ** 2).sum(-1)
    if n_tiles:
        group = n_tiles * PATCHES
        distances[own[:, None] // group == places[None] // group] = np.inf
    hit = distances.argmin(axis=1)
    same_patch = places[hit] == own
    where = {"metric": "share", "view": "shift", "reference": f"{left_out} left out"}
    expected = {"same-patch": same_patch, "same-category": ~same_patch & (gallery_labels[hit] == labels)}
    for outcome, mask in expected.items():
        assert only(found[1], outcome=outcome, **where)["value"] == pytest.approx(mask.mean()), outcome


def test_the_upper_bound_counts_queries_whose_origin_can_be_found(found, world):
    (places, _, _), (own, _, _) = world
    expected = np.isin(own, places)
    assert 0.5 < expected.mean() < 0.9
    assert only(found[1], metric="upper_bound", view="shift")["value"] == pytest.approx(expected.mean())


def test_intervals_resample_source_images_and_not_their_tiles(found, world):
    (places, _, _), (own, _, _) = world
    line = only(found[1], metric="upper_bound", view="shift")
    assert (line["unit"], line["n_units"]) == ("image", 12)
    image = own // (PATCHES * TILES)
    hits = np.bincount(image, np.isin(own, places), 12)
    expected = quantiles(
        resampled_ratio(hits, np.bincount(image, minlength=12).astype(np.float64), seed=1, resamples=100)
    )
    assert (line["low"], line["high"]) == pytest.approx(expected)
