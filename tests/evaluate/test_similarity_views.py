"""Similarity of a layer on clean inputs with itself under a view: numbers, layers that both have, and refusals."""

import dataclasses

import numpy as np
import pytest

from evaluate.figures import similarity as heat_maps
from evaluate.figures import similarity_views
from evaluate.inputs.model_sets import ViewSets
from evaluate.kernels.similarity.vectors import mutual_knn, neighbours
from stores.errors import MissingError, UserError
from stores.specs import ViewSpec
from tests.evaluate.planted_similarity import compared, related
from tests.evaluate.test_similarity import direct_cka, of, run
from tests.stores.specs_for_tests import FEATURES

N_ROWS = 90


@pytest.fixture(scope="module")
def layers():
    """Clean tokens, and those of the last two layers under a view of another resolution: nine patches, not four."""
    clean = related(1, n_rows=N_ROWS)
    larger = {key: value for key, value in related(2, n_rows=N_ROWS, n_patches=9).items() if key[0] > 0}
    return clean, larger


def viewed(folder, layers, *, grams=True, **changes):
    clean, larger = layers
    model = compared(folder / "clean", "M", clean)
    spec = FEATURES.model_copy(update={"view": ViewSpec(name="size", parameters={"level": 448}), **changes})
    other = compared(folder / "view", "M", larger, spec=spec, grams=grams)
    return dataclasses.replace(model, views={("size", 448.0): ViewSets("size", 448.0, other.features, other.labels)})


def test_a_layer_is_compared_with_itself_under_a_view(layers, tmp_path):
    model = viewed(tmp_path, layers)
    settings = {"tokens": ("patches", "mean-patch"), "measures": ("cka", "mutual-knn"), "norm": "none", "k": 5}
    found = run(tmp_path / "r", [model], layers="all", views=("size",), **settings).table
    rows = of(found, view="size")
    assert set(rows["level"]) == {448.0}
    assert set(rows["reference"]) == {"M"}
    assert sorted(of(rows, token="patches")["layer"]) == [1, 2], "layer 0 is not kept of the view"
    minibatches = [np.arange(0, 32), np.arange(32, 64), np.arange(64, N_ROWS)]
    clean, larger = ({block: one[block, "output"][:, 1:] for block in (1, 2)} for one in layers)
    for block in (1, 2):
        [row] = of(rows, token="patches", layer=block).to_dict("records")
        assert row["x_value"] == block + 1.0
        assert row["value"] == pytest.approx(direct_cka(clean[block], larger[block], minibatches), abs=1e-6)
        means = [one[block].mean(axis=1, dtype=np.float64).astype(np.float32) for one in (clean, larger)]
        [row] = of(found, "mutual_knn", view="size", token="mean-patch", layer=block).to_dict("records")
        assert row["value"] == pytest.approx(mutual_knn(*(neighbours(one, 5) for one in means)))
    assert len(of(found, view="clean", token="patches")) == 9, "the matrix of the model with itself is still there"
    assert of(found, "divergence_depth").empty
    [first, second] = similarity_views.figure(found, []).axes[:2]
    assert [tick.get_text() for tick in first.get_yticklabels()] == ["size 448"]
    assert [panel.get_title(loc="left") for panel in (first, second)] == ["patches", "mean patch"]
    assert len(heat_maps.figure(found, []).axes) == 2, "one heat map and its colour bar"
    again = run(tmp_path / "r", [model], layers="all", views=("size",), **settings)
    assert again.n_computed == 0
    assert similarity_views.figure(run(tmp_path / "r", [model]).table, []) is None


def test_what_a_view_lacks_is_named_with_the_key_that_keeps_it(layers, tmp_path):
    bare = viewed(tmp_path / "bare", layers, grams=False)
    with pytest.raises(MissingError, match=r'M under size 448 has no complete Gram matrices at "output": set captures'):
        run(tmp_path / "r", [bare], views=None)
    with pytest.raises(MissingError, match=r"M under size 448 has none of the layers of `layers` \(block.0\), only "):
        run(tmp_path / "r", [viewed(tmp_path / "whole", layers)], views=None, layers=(0,))
    with pytest.raises(UserError, match="similarity has the view blur, which"):
        run(tmp_path / "r", [bare], views=("blur",))


def test_other_rows_under_a_view_are_refused(layers, tmp_path):
    strange = viewed(tmp_path, layers, samples="8" * 64)
    with pytest.raises(UserError, match="M under size 448 holds other rows than the clean view"):
        run(tmp_path / "r", [strange], views=None)
