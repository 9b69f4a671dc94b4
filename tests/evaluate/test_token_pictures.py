"""Pictures of tokens: colours against scikit-learn's components, the foreground, norms and cosines with a query."""

import numpy as np
import pytest
from sklearn.decomposition import PCA

from evaluate.figures import token_pictures as figures
from evaluate.kernels.tokens import pictures as kernel
from evaluate.results.table import Result, long_table
from evaluate.scoring.tokens import pictures
from evaluate.scoring.tokens.pictures import PictureOptions, query_places, smaller
from tests.evaluate.planted import planted

RNG = np.random.default_rng(5)


def test_components_are_those_of_scikit_learn_with_the_largest_loading_positive():
    tokens = RNG.normal(size=(400, 9)) * np.array([5, 4, 3, 1, 1, 1, 1, 1, 1])
    axes = kernel.Axes.of(tokens.astype(np.float32))
    fitted = PCA(3).fit(tokens)
    assert axes.share == pytest.approx(fitted.explained_variance_ratio_.sum(), rel=1e-5)
    largest = np.abs(axes.directions).argmax(axis=0)
    assert (axes.directions[largest, np.arange(3)] > 0).all()
    np.testing.assert_allclose(np.abs(axes.project(tokens)), np.abs(fitted.transform(tokens)), atol=1e-3)


def test_colours_go_from_the_first_to_the_last_percentile_and_the_rest_is_black():
    components = RNG.normal(size=(2, 10, 10, 3))
    shown = np.ones((2, 10, 10), dtype=bool)
    shown[0, 0] = False
    ends = kernel.limits(components[shown])
    painted = kernel.colours(components, shown, ends)
    assert (painted[0, 0] == 0).all()
    low, high = np.percentile(components[shown], (1, 99), axis=0)
    expected = np.rint(255 * np.clip((components[1, 3, 4] - low) / (high - low), 0, 1))
    assert painted[1, 3, 4].tolist() == expected.tolist()
    assert (
        kernel.colours(np.zeros((1, 2, 2, 3)), np.zeros((1, 2, 2), bool), kernel.limits(np.zeros((0, 3)))) == 0
    ).all()


@pytest.mark.parametrize("sign", [-1, 1])
def test_the_foreground_is_the_side_that_keeps_from_the_borders_whatever_its_sign(sign):
    first = np.full((2, 8, 8), -1.0)
    first[:, 2:6, 3:6] = 1.0
    first[1, 0, 0] = 1.0
    found = kernel.foreground(sign * first)
    assert (found == (first > 0)).all()


def test_norms_and_cosines_are_those_of_the_formulas():
    tokens = RNG.normal(size=(2, 6, 5)).astype(np.float32)
    tokens[1, 2] = 0
    assert kernel.norms(tokens)[0, 3] == pytest.approx(np.linalg.norm(tokens[0, 3].astype(np.float64)))
    found = kernel.cosines(tokens, np.array([0, 5]))
    for image in range(2):
        for query, place in enumerate((0, 5)):
            for patch in range(6):
                a, b = tokens[image, place].astype(np.float64), tokens[image, patch].astype(np.float64)
                lengths = np.linalg.norm(a) * np.linalg.norm(b)
                expected = a @ b / lengths if lengths else 0.0
                assert found[image, query, patch] == pytest.approx(expected, abs=1e-12)


def test_places_are_shares_of_the_input_and_the_far_edge_belongs_to_the_last_patch():
    assert query_places([(0.0, 0.0), (0.5, 0.25), (1.0, 1.0)], (4, 8)).tolist() == [0, 2 * 8 + 2, 31]


def test_inputs_are_at_most_256_pixels():
    assert smaller(np.zeros((1, 300, 518, 3), np.uint8)).shape == (1, 100, 173, 3)
    assert smaller(np.zeros((1, 224, 224, 3), np.uint8)).shape == (1, 224, 224, 3)


def test_layers_of_one_basis_have_a_scale_of_colours_each(tmp_path, monkeypatch):
    model = planted(tmp_path, n_images=20, layers=2)
    layers = model.arrays("all", "final")
    scales = dict(zip(layers, (100.0, 1.0), strict=True))  # inner tokens are longer by far, and elsewhere
    read = pictures.patch_tokens

    def scaled(model, address, rows):
        return (scales[address] * (read(model, address, rows) + 3.0)).astype(np.float32)

    monkeypatch.setattr(pictures, "patch_tokens", scaled)
    rows = np.arange(40)
    arrays, _ = pictures.token_pictures(model, layers, rows, PictureOptions(kinds=("components",), basis="layers"))
    tokens = [scaled(model, address, rows).reshape(-1, 16) for address in layers]
    axes = kernel.Axes.of(np.concatenate(tokens))
    for number, some in enumerate(tokens):
        shown = arrays[f"picture_components/{number}"].reshape(-1, 3)
        assert shown.min(axis=0).tolist() == [0, 0, 0]
        assert shown.max(axis=0).tolist() == [255, 255, 255]
        for colour, component in zip(shown.T, axes.project(some).T, strict=True):
            assert np.corrcoef(colour, component)[0, 1] > 0.98, "the basis is not shared"


def test_every_line_names_its_image_and_tile_with_stored_inputs_and_without():
    long = f"train/{'a' * 30}$x$_0042.png[10,2]"
    arrays = {
        "picture_layers": np.array(["block.11.norm"]),
        "picture_samples": np.array(["val/0.png[0,0]", long, "val/\u65e5\n.png[0,1]", "whole.png"]),
        "picture_queries": np.array([[0.5, 0.5]]),
        "picture_norm/0": np.ones((4, 4, 4), np.float32),
    }
    expected = [
        "val/0.png\n[0,0]",
        "train/aaaaaaa\u2026a$x$_0042.png\n[10,2]",
        "val/\\u65e5\\n.png\n[0,1]",
        "whole.png",
    ]
    for inputs in ({}, {"picture_inputs": np.zeros((4, 8, 8, 3), np.uint8)}):
        drawn = figures.norm(long_table([]), [("model", Result([], arrays | inputs))])
        drawn.draw_without_rendering()
        assert [panel.get_title() for panel in drawn.axes[::2]] == expected
