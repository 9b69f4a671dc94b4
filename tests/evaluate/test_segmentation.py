import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, confusion_matrix, jaccard_score

from evaluate.kernels.bootstrap import draw_units, quantiles
from evaluate.kernels.segmentation.confusion import (
    confusion,
    iou,
    miou_all,
    miou_present,
    patch_histograms,
    pixel_accuracy,
    pixel_confusion,
    predicted_entropy,
)
from evaluate.results.rows import Bootstrap
from stores.errors import UserError
from stores.specs import VOID

N_CLASSES = 6


def label_maps(seed, samples=3, height=12, width=16, classes=(0, 1, 3, 4, VOID)):
    """Random label maps with void, and without classes 2 and 5."""
    generator = np.random.Generator(np.random.PCG64(seed))
    return generator.choice(np.array(classes, dtype=np.uint8), size=(samples, height, width))


def rows(seed, n_images=4, n_rows=200):
    """Truth with void and without classes 2 and 5, predictions with class 2 and without 5, and images."""
    generator = np.random.Generator(np.random.PCG64(seed))
    truth = generator.choice(np.array([0, 1, 3, 4, VOID], dtype=np.uint8), n_rows)
    guess = generator.choice([0, 1, 2, 3, 4], n_rows)
    predicted = np.where((generator.random(n_rows) < 0.5) & (truth != VOID), truth, guess).astype(np.int64)
    return truth, predicted, generator.integers(0, n_images, n_rows)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), boxes=st.booleans())
def test_patch_histograms_and_majorities_equal_hand_written_loops(seed, boxes):
    maps = label_maps(seed)
    generator = np.random.Generator(np.random.PCG64(seed))
    owned = None
    if boxes:
        corner = generator.integers(0, [9, 7], size=(3, 2))
        owned = np.concatenate([corner, corner + generator.integers(0, [9, 7], size=(3, 2))], axis=1)
        owned[:, 2:] = np.minimum(owned[:, 2:], [16, 12])
    histograms = patch_histograms(maps, (3, 4), N_CLASSES, owned)
    expected = np.zeros((3, 12, N_CLASSES + 1), dtype=np.int64)
    for sample in range(3):
        for y in range(12):
            for x in range(16):
                if owned is not None:
                    left, top, right, bottom = owned[sample]
                    if not (left <= x < right and top <= y < bottom):
                        continue
                identity = int(maps[sample, y, x])
                expected[sample, (y // 4) * 4 + x // 4, N_CLASSES if identity == VOID else identity] += 1
    np.testing.assert_array_equal(histograms, expected)


def test_pixels_that_two_tiles_share_are_counted_once():
    source = label_maps(7, samples=1, height=8, width=12)[0]
    tiles = np.stack([source[:, :8], source[:, 4:]])  # the last tile is shifted back by four pixels
    owned = np.array([[0, 0, 8, 8], [4, 0, 8, 8]])
    total = patch_histograms(tiles, (2, 2), N_CLASSES, owned).sum(axis=(0, 1))
    np.testing.assert_array_equal(total, patch_histograms(source[None], (2, 3), N_CLASSES).sum(axis=(0, 1)))


@pytest.mark.parametrize(
    ("grid", "change", "owned", "words"),
    [
        ((5, 4), None, None, "does not divide 12x16"),
        ((3, 4), 6, None, "class id 6"),
        ((3, 4), None, [[0, 0, 17, 12]] * 3, "outside 16x12"),
    ],
)
def test_label_maps_that_do_not_fit_are_refused(grid, change, owned, words):
    maps = label_maps(1)
    if change is not None:
        maps[1, 2, 3] = change
    with pytest.raises(UserError, match=words):
        patch_histograms(maps, grid, N_CLASSES, None if owned is None else np.array(owned))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_patch_scores_equal_scikit_learn(seed):
    truth, predicted, images = rows(seed)
    matrices = confusion(truth, predicted, images, 4, N_CLASSES)
    for image in range(4):
        mine = (images == image) & (truth != VOID)
        expected = confusion_matrix(truth[mine], predicted[mine], labels=range(N_CLASSES))
        np.testing.assert_array_equal(matrices[image], expected)
    scored = truth != VOID
    total = matrices.sum(axis=0)
    present = np.union1d(truth[scored], predicted[scored])
    per_class = np.full(N_CLASSES, np.nan)
    per_class[present] = jaccard_score(truth[scored], predicted[scored], labels=present, average=None)
    np.testing.assert_allclose(iou(total), per_class)
    assert np.isnan(per_class[5])  # absent from truth and prediction
    assert per_class[2] == 0  # predicted, never true
    np.testing.assert_allclose(miou_present(total), np.nanmean(per_class))
    np.testing.assert_allclose(miou_all(total), np.nansum(per_class) / N_CLASSES)
    np.testing.assert_allclose(pixel_accuracy(total), accuracy_score(truth[scored], predicted[scored]))
    share = np.bincount(predicted[scored], minlength=N_CLASSES)[:5] / scored.sum()
    np.testing.assert_allclose(predicted_entropy(total), -(share * np.log(share)).sum())
    for score in (iou, miou_present, miou_all, pixel_accuracy, predicted_entropy):
        np.testing.assert_array_equal(score(matrices), np.stack([score(matrix) for matrix in matrices]))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_pixel_scores_equal_predictions_upsampled_to_pixels(seed):
    maps = label_maps(seed)
    predicted = np.random.Generator(np.random.PCG64(seed)).integers(0, N_CLASSES, size=(3, 3, 4))
    images = np.array([0, 2, 2])
    histograms = patch_histograms(maps, (3, 4), N_CLASSES).reshape(36, -1)
    matrices = pixel_confusion(histograms, predicted.reshape(-1), images.repeat(12), 3)
    pixels = predicted.repeat(4, axis=1).repeat(4, axis=2)
    for image in range(3):
        truth, guess = maps[images == image].ravel(), pixels[images == image].ravel()
        expected = confusion(truth, guess, np.zeros(len(truth), dtype=np.int64), 1, N_CLASSES)[0]
        np.testing.assert_array_equal(matrices[image], expected)


def test_nothing_scored_is_nan_and_collapse_has_no_entropy():
    empty = np.zeros((3, 3), dtype=np.int64)
    for score in (miou_present, pixel_accuracy, predicted_entropy):
        assert np.isnan(score(empty))
    assert miou_all(empty) == 0
    collapsed = np.array([[0, 4, 0], [0, 3, 0], [0, 9, 0]])
    assert predicted_entropy(collapsed) == 0
    np.testing.assert_allclose(predicted_entropy(np.ones((3, 3), dtype=np.int64)), np.log(3))


def test_ids_outside_the_class_table_are_refused():
    truth, predicted, images = rows(0)
    with pytest.raises(UserError, match="predicted ids"):
        confusion(truth, np.where(images == 0, VOID, predicted), images, 4, N_CLASSES)
    with pytest.raises(UserError, match="true ids"):
        confusion(truth, predicted, images, 4, 4)
    with pytest.raises(UserError, match="image ids"):
        confusion(truth, predicted, images, 3, N_CLASSES)


def slow_bootstrap(matrices, seed, resamples, all_classes):
    """One resample at a time, classes fixed by the whole set of images."""
    drawn = np.random.Generator(np.random.PCG64(seed)).integers(0, len(matrices), size=(resamples, len(matrices)))
    whole = matrices.sum(axis=0)
    present = [c for c in range(len(whole)) if whole[c].sum() + whole[:, c].sum() > 0]
    values = []
    for units in drawn:
        total = sum(matrices[unit] for unit in units)
        scores = []
        for c in present:
            union = total[c].sum() + total[:, c].sum() - total[c, c]
            if union > 0:
                scores.append(total[c, c] / union)
        values.append(sum(scores) / (len(scores) + (len(whole) - len(present) if all_classes else 0)))
    return np.array(values)


def over_images(n_images, seed, resamples):
    return Bootstrap(tuple(f"image{number}" for number in range(n_images)), "image", seed, resamples)


def test_intervals_equal_a_slow_bootstrap_with_classes_that_resamples_miss():
    truth, predicted, images = rows(3, n_images=12, n_rows=150)
    truth[images != 0] = np.where(truth[images != 0] == 4, 0, truth[images != 0])  # class 4: one image only
    predicted[(images != 0) & (predicted == 4)] = 0
    matrices = confusion(truth, predicted, images, 12, N_CLASSES)
    for statistic, all_classes in ((miou_present, False), (miou_all, True)):
        row = over_images(12, 5, 300).confusion_row("patch_miou", matrices, statistic)
        values = slow_bootstrap(matrices, 5, 300, all_classes)
        np.testing.assert_allclose([row["low"], row["high"]], np.quantile(values, [0.025, 0.975]))
        assert (row["n_units"], row["unit"], row["seed"]) == (12, "image", 5)
        assert row["low"] < row["value"] == statistic(matrices.sum(axis=0)) < row["high"]


def test_paired_intervals_use_the_same_images_for_both():
    truth, predicted, images = rows(4, n_images=12, n_rows=400)
    better = np.where((np.arange(400) % 5 == 0) & (truth != VOID), truth, predicted).astype(np.int64)
    a, b = (confusion(truth, guess, images, 12, N_CLASSES) for guess in (better, predicted))
    bootstrap = over_images(12, 1, 200)
    same = bootstrap.difference_row("patch_miou", a, a, miou_present)
    assert (same["metric"], same["low"], same["high"]) == ("patch_miou_difference", 0, 0)
    paired = bootstrap.difference_row("patch_miou", a, b, miou_present)
    difference = slow_bootstrap(a, 1, 200, False) - slow_bootstrap(b, 1, 200, False)
    np.testing.assert_allclose([paired["low"], paired["high"]], np.quantile(difference, [0.025, 0.975]))
    alone = bootstrap.confusion_row("patch_miou", a, miou_present)
    assert 0 < paired["low"] < paired["high"]
    assert paired["high"] - paired["low"] < alone["high"] - alone["low"]


def test_below_ten_units_and_without_resamples_there_is_no_interval():
    truth, predicted, images = rows(5, n_images=12, n_rows=300)
    matrices = confusion(truth, predicted, images, 12, N_CLASSES)
    for bootstrap, some in ((over_images(9, 2, 100), matrices[:9]), (over_images(12, 2, 0), matrices)):
        row = bootstrap.confusion_row("patch_accuracy", some, pixel_accuracy)
        assert (row["low"], row["high"]) == (None, None)
        paired = bootstrap.difference_row("patch_accuracy", some, some, pixel_accuracy)
        assert (paired["value"], paired["low"]) == (0.0, None)


def test_units_are_drawn_as_one_stream():
    generator = np.random.Generator(np.random.PCG64(7))
    np.testing.assert_array_equal(draw_units(13, 7, 20), [generator.integers(0, 13, 13) for _ in range(20)])


def test_quantiles_leave_out_what_is_undefined_and_count_what_is_infinite():
    values = np.arange(100.0)
    assert quantiles(np.append(values, np.nan)) == pytest.approx(tuple(np.quantile(values, [0.025, 0.975])))
    assert quantiles(np.where(values > 95, np.inf, values)) == (2, np.inf)
    assert quantiles(np.full(3, np.inf)) == (np.inf, np.inf)
    assert quantiles(np.full(3, np.nan)) == quantiles(None) == (None, None)
