"""Differences and moved neighbours against numpy in float64."""

import numpy as np

from evaluate.scoring.fidelity import compare, nearest_rows

RNG = np.random.default_rng(0)
STORED = RNG.normal(size=(6, 4, 5)).astype(np.float16)
IMAGES = np.array([0, 0, 1, 1, 2, 2], dtype=np.int64)
LABELS = RNG.integers(0, 3, (6, 4)).astype(np.uint8)


def test_equal_rows_move_nothing():
    found = compare("tokens/a", STORED, STORED.copy(), IMAGES, LABELS)
    assert found.equal
    assert (found.largest_absolute, found.largest_relative, found.neighbours_moved, found.labels_moved) == (0, 0, 0, 0)


def test_differences_and_moves_are_those_of_brute_force():
    again = (STORED + RNG.normal(size=STORED.shape) * 0.8).astype(np.float16)
    labels = LABELS.copy()
    labels[0, 1] = 255
    found = compare("tokens/a", STORED, again, IMAGES, labels)
    wide = np.abs(again.astype(np.float64) - STORED.astype(np.float64))
    assert not found.equal
    assert found.largest_absolute == wide.max()
    assert found.largest_relative == wide.max() / np.abs(STORED.astype(np.float64)).max()

    def rows_of(queries):
        squared = ((queries.reshape(6, 1, -1).astype(float) - STORED.reshape(1, 6, -1).astype(float)) ** 2).sum(-1)
        np.fill_diagonal(squared, np.inf)
        return squared.argmin(1)

    np.testing.assert_array_equal(nearest_rows(STORED, again), rows_of(again))
    assert found.neighbours_moved == (rows_of(again) != rows_of(STORED)).sum()

    known = labels.ravel() != 255
    groups, ids, bank = np.repeat(IMAGES, 4)[known], labels.ravel()[known], STORED.reshape(-1, 5)[known].astype(float)

    def classes_of(queries):
        squared = ((queries.reshape(-1, 5)[known].astype(float)[:, None] - bank[None]) ** 2).sum(-1)
        squared[groups[:, None] == groups[None]] = np.inf
        return ids[squared.argmin(1)]

    assert found.n_patches == 23
    assert found.labels_moved == (classes_of(again) != classes_of(STORED)).sum() > 0


def test_one_image_or_no_labels_leave_the_labels_out():
    one = np.zeros(6, dtype=np.int64)
    assert compare("tokens/a", STORED, STORED, one, LABELS).labels_moved is None
    assert compare("tokens/a", STORED, STORED, IMAGES, None).labels_moved is None
