"""Patch labels: the most common class, counted by a second implementation."""

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from pipeline.labels import patch_labels as module
from pipeline.labels.patch_labels import patch_labels
from stores.errors import UserError


def reference(pixel_classes, rows, columns):
    """scipy.stats.mode of every cell; it, too, gives ties to the smallest value."""
    samples, height, width = pixel_classes.shape
    tall, wide = height // rows, width // columns
    return np.array(
        [
            [
                stats.mode(image[r * tall : (r + 1) * tall, c * wide : (c + 1) * wide], axis=None).mode
                for r in range(rows)
                for c in range(columns)
            ]
            for image in pixel_classes
        ],
        np.uint8,
    ).reshape(samples, rows * columns)


@given(
    st.tuples(*(st.integers(1, top) for top in (3, 5, 5, 6, 6))),
    st.sampled_from([2, 3, 19]),
    st.integers(1, 60),
    st.integers(0, 2**32),
)
@settings(max_examples=80, deadline=None)
def test_equals_scipys_mode_whatever_is_counted_at_once(shape, n_classes, at_once, seed):
    samples, rows, columns, tall, wide = shape
    drawn = np.random.Generator(np.random.PCG64(seed)).integers(0, n_classes, (samples, rows * tall, columns * wide))
    pixel_classes = np.where(drawn == n_classes - 1, 255, drawn).astype(np.uint8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_PIXELS_AT_ONCE", at_once * 7)
        patch.setattr(module, "_CELLS_AT_ONCE", at_once)
        made = patch_labels(pixel_classes, rows, columns)
    np.testing.assert_array_equal(made, reference(pixel_classes, rows, columns))


@pytest.mark.parametrize(
    ("pixels", "label"),
    [([3, 3, 2, 1], 3), ([4, 9, 9, 4], 4), ([255, 255, 1, 2], 255), ([255, 255, 8, 8], 8), ([0, 255, 254, 1], 0)],
)
def test_void_is_a_candidate_and_ties_go_to_the_lowest_id(pixels, label):
    pixel_classes = np.array(pixels, np.uint8).reshape(1, 2, 2)
    np.testing.assert_array_equal(patch_labels(pixel_classes, 1, 1), [[label]])


def test_patches_are_in_row_major_order():
    ids = np.arange(12, dtype=np.uint8).reshape(1, 3, 4)
    np.testing.assert_array_equal(patch_labels(ids.repeat(5, 1).repeat(2, 2), 3, 4)[0], np.arange(12))


@pytest.mark.parametrize("grid", [(3, 4), (4, 3), (0, 4), (4, 0), (32, 4)])
def test_a_grid_that_does_not_divide_is_refused(grid):
    with pytest.raises(UserError, match="16x16 pixels"):
        patch_labels(np.zeros((1, 16, 16), np.uint8), *grid)


def test_golden_bytes():
    """When this fails, stored patch labels no longer match their specs: raise patch_labels.REVISION."""
    ids = np.random.Generator(np.random.PCG64(1)).integers(0, 6, (2, 28, 42), np.uint8)
    made = hashlib.sha256(patch_labels(ids, 4, 6).tobytes()).hexdigest()[:16]
    assert (module.REVISION, made) == (1, "cbc94ecfe9b1ccc2")
