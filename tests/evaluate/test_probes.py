import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from evaluate.kernels.moments import Moments, Standardisation, variance_ranking, without_top
from evaluate.kernels.probing.lbfgs import Head
from evaluate.kernels.probing.penalties import choose_penalty
from evaluate.kernels.probing.probes import fit_probes, predict, predict_side_by_side, scores
from stores.errors import UserError
from stores.specs import VOID

N_CLASSES = 5


def rows(seed=0, n_rows=2600, channels=24, uneven=True):
    """Overlapping unbalanced classes in correlated features; ``uneven`` gives a few 10^4 times the variance."""
    generator = np.random.Generator(np.random.PCG64(seed))
    labels = generator.choice(N_CLASSES, n_rows, p=[0.45, 0.3, 0.15, 0.07, 0.03]).astype(np.uint8)
    latent = generator.normal(0, 0.9, (N_CLASSES, channels // 2))[labels] + generator.standard_normal(
        (n_rows, channels // 2)
    )
    mixed = latent @ generator.standard_normal((channels // 2, channels)) / 4
    mixed += 0.3 * generator.standard_normal((n_rows, channels))
    if uneven:
        mixed[:, :3] *= 100.0
        mixed += generator.normal(0, 3, channels)
    return mixed.astype(np.float32), labels


def loss(weight, bias, features, labels, penalty):
    """The objective in ten plain float64 lines."""
    logits = features @ weight.T + bias
    logits = logits - logits.max(axis=1, keepdims=True)
    logs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return -logs[np.arange(len(labels)), labels].mean() + penalty / 2 * (weight**2).sum()


@pytest.mark.parametrize("standardise", [False, True])
@pytest.mark.parametrize("uneven", [False, True])
def test_probes_reach_scikit_learns_objective_and_held_out_accuracy(standardise, uneven):
    features, labels = rows(uneven=uneven)
    train, test = slice(0, 2000), slice(2000, None)
    moments = Moments.from_block(features[train])
    ranking = variance_ranking(moments.variance)
    heads = [Head(penalty, without_top(ranking, m)) for m in (0, 5) for penalty in (1e-4, 1e-2)]
    probes = fit_probes(features[train], labels[train], N_CLASSES, heads, standardise=standardise)
    wide = features.astype(np.float64)
    if standardise:
        wide = (wide - moments.mean) / np.sqrt(moments.variance + 1e-6)
    for probe in probes:
        kept, penalty = probe.head.kept, probe.head.penalty
        # newton-cholesky has no trouble with badly scaled features, which lbfgs does not finish in 10,000 steps.
        peer = LogisticRegression(C=1 / (2000 * penalty), solver="newton-cholesky", tol=1e-9, max_iter=200)
        peer.fit(wide[train][:, kept], labels[train])
        best = loss(peer.coef_, peer.intercept_, wide[train][:, kept], labels[train], penalty)
        centre = 0.0 if standardise else probe.centre
        intercept = probe.bias - probe.weight @ np.broadcast_to(centre, len(kept))
        mine = loss(probe.weight, intercept, wide[train], labels[train], penalty)
        assert probe.converged
        assert probe.warning is None
        assert best * (1 - 1e-6) <= mine <= best * (1 + 1e-4)
        np.testing.assert_allclose(probe.objective, mine, rtol=1e-5)
        assert not probe.weight[:, ~kept].any()
        accuracy = (predict(probe, features[test]) == labels[test]).mean()
        assert abs(accuracy - peer.score(wide[test][:, kept], labels[test])) <= 0.002


def test_tighter_tolerances_come_closer_and_reach_the_same_classifier():
    features, labels = rows(1, n_rows=800)
    wide = features.astype(np.float64)
    peer = LogisticRegression(C=1 / (800 * 1e-3), solver="newton-cholesky", tol=1e-10, max_iter=200).fit(wide, labels)
    best = loss(peer.coef_, peer.intercept_, wide, labels, 1e-3)
    (probe,) = fit_probes(features, labels, N_CLASSES, [Head(1e-3)], standardise=False, tolerance=1e-5)
    assert probe.converged
    np.testing.assert_allclose(probe.objective, best, rtol=1e-6)
    np.testing.assert_allclose(probe.weight * wide.std(axis=0), peer.coef_ * wide.std(axis=0), atol=5e-3)


def test_heads_do_not_disturb_each_other():
    features, labels = rows(2, n_rows=600)
    kept = without_top(np.arange(24), 9)
    heads = [Head(1e-3), Head(1e-1, kept), Head(1e-5), Head(1e-3, kept)]
    together = fit_probes(features, labels, N_CLASSES, heads, standardise=True)
    for head, probe in zip(heads, together, strict=True):
        (alone,) = fit_probes(features, labels, N_CLASSES, [head], standardise=True)
        np.testing.assert_allclose(probe.objective, alone.objective, rtol=2e-5)
        assert probe.head is head
        # A feature that is not kept must not matter at all, whatever it holds.
        if head.kept is not None:
            changed = features.copy()
            changed[:, ~kept] = 0.5
            (blind,) = fit_probes(changed, labels, N_CLASSES, [head], standardise=True)
            np.testing.assert_allclose(blind.objective, alone.objective, rtol=1e-6)


def test_many_heads_fitted_in_small_groups_give_the_same_probes(monkeypatch):
    features, labels = rows(3, n_rows=500)
    heads = [Head(penalty) for penalty in (1e-4, 1e-3, 1e-2)]
    together = fit_probes(features, labels, N_CLASSES, heads, standardise=False)
    monkeypatch.setattr("evaluate.kernels.probing.probes._BATCH_BYTES", 1)
    for a, b in zip(together, fit_probes(features, labels, N_CLASSES, heads, standardise=False), strict=True):
        np.testing.assert_allclose(a.objective, b.objective, rtol=2e-5)


@pytest.mark.parametrize("numbers", [np.arange(300, 900), np.r_[5:200:3, 800:100:-7, 5, 5]])
def test_rows_void_labels_and_float16_select_as_copies_would(numbers):
    features, labels = rows(4, n_rows=900)
    features = (features / 8).astype(np.float16)
    labels[::4] = VOID
    chosen = np.unique(numbers)
    chosen = chosen[labels[chosen] != VOID]
    (probe,) = fit_probes(features, labels, N_CLASSES, [Head(1e-3)], standardise=True, rows=numbers)
    (copied,) = fit_probes(
        features[chosen].astype(np.float32), labels[chosen], N_CLASSES, [Head(1e-3)], standardise=True
    )
    np.testing.assert_array_equal(probe.weight, copied.weight)
    wide = features[chosen].astype(np.float64)
    np.testing.assert_allclose(probe.standardisation.mean, wide.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(probe.standardisation.variance, wide.var(axis=0), rtol=1e-10)


def test_more_rows_than_a_block_are_read_in_order():
    features, labels = rows(5, n_rows=5000, channels=8)
    (probe,) = fit_probes(features, labels, N_CLASSES, [Head(1e-2)], standardise=False)
    (logits,) = np.concatenate(list(scores([probe], features)), axis=1)
    expected = (features.astype(np.float64) - probe.centre) @ probe.weight.T + probe.bias
    np.testing.assert_allclose(logits, expected, atol=1e-3)
    np.testing.assert_array_equal(predict(probe, features), logits.argmax(axis=1))
    objective = loss(probe.weight, probe.bias - probe.weight @ probe.centre, features.astype(float), labels, 1e-2)
    np.testing.assert_allclose(probe.objective, objective, rtol=1e-5)


def test_probes_with_other_statistics_predict_side_by_side():
    features, labels = rows(6, n_rows=700)
    probes = [
        fit_probes(features[part], labels[part], N_CLASSES, [Head(1e-3)], standardise=standardise)[0]
        for part, standardise in ((slice(0, 300), True), (slice(300, 700), False))
    ]
    together = predict_side_by_side(probes, features)
    for probe, predicted in zip(probes, together, strict=True):
        assert (predict(probe, features) == predicted).mean() > 0.999
    assert predict_side_by_side(probes, features[:0]).shape == (2, 0)


def test_classes_without_a_training_row_are_never_predicted_and_one_class_is_enough():
    features, labels = rows(7, n_rows=400)
    (probe,) = fit_probes(features, labels, N_CLASSES + 2, [Head(1e-3)], standardise=True)
    assert predict(probe, features).max() < N_CLASSES
    np.testing.assert_array_equal(probe.bias[N_CLASSES:], -np.inf)
    (constant,) = fit_probes(features, np.full(400, 3), N_CLASSES, [Head(1e-3)], standardise=True)
    assert constant.converged
    assert set(predict(constant, features)) == {3}


def test_a_feature_that_never_varies_does_no_harm():
    features, labels = rows(8, n_rows=400)
    features[:, 4] = 7.0
    for standardise in (False, True):
        (probe,) = fit_probes(features, labels, N_CLASSES, [Head(1e-3)], standardise=standardise)
        assert probe.converged
        np.testing.assert_allclose(probe.weight[:, 4], 0, atol=1e-3 * abs(probe.weight).max())


def test_a_probe_that_stops_early_says_so():
    features, labels = rows(9, n_rows=400)
    (probe,) = fit_probes(features, labels, N_CLASSES, [Head(1e-5)], standardise=False, max_iterations=3)
    assert (probe.converged, probe.iterations) == (False, 3)
    assert probe.warning.startswith("stopped after 3 iterations, at gradient norm ")
    assert probe.gradient_norm > 5e-4
    (stuck,) = fit_probes(features, labels, N_CLASSES, [Head(1e-3)], standardise=False, tolerance=1e-12)
    assert not stuck.converged
    assert stuck.warning


def test_what_cannot_be_fitted_is_refused():
    features, labels = rows(10, n_rows=50)
    for penalty in (0.0, -1.0, np.nan):
        with pytest.raises(UserError, match="choose a positive number"):
            fit_probes(features, labels, N_CLASSES, [Head(penalty)], standardise=True)
    with pytest.raises(UserError, match="keeps no feature"):
        fit_probes(features, labels, N_CLASSES, [Head(1.0, np.zeros(24, dtype=bool))], standardise=True)
    with pytest.raises(UserError, match="has 2 classes"):
        fit_probes(features, labels, 2, [Head(1.0)], standardise=True)
    with pytest.raises(UserError, match="no row"):
        fit_probes(features, np.full(50, VOID), N_CLASSES, [Head(1.0)], standardise=True)
    features[7, 3] = np.nan
    with pytest.raises(UserError, match="channel 3"):
        fit_probes(features, labels, N_CLASSES, [Head(1.0)], standardise=True)


@pytest.mark.parametrize("score", ["patch_accuracy", "patch_miou"])
def test_penalties_are_scored_on_held_out_images_and_refitted_on_all_rows(score):
    features, labels = rows(11, n_rows=900)
    images = np.arange(900) // 90 + 40
    labels[images == 45] = VOID
    kept = (None, without_top(np.arange(24), 8))
    grid = (1e-1, 1e-4, 1e-2)
    for mask in kept:
        choice = choose_penalty(
            features, labels, images, N_CLASSES, standardise=True, seed=3, kept=mask, penalties=grid, score=score
        )
        assert choice.penalties == (1e-1, 1e-2, 1e-4)
        assert len(choice.held_out) == 2
        assert 45 not in choice.held_out
        held_out = np.isin(images, choice.held_out) & (labels != VOID)
        found = []
        for penalty in choice.penalties:
            (trial,) = fit_probes(
                features[~held_out], labels[~held_out], N_CLASSES, [Head(penalty, mask)], standardise=True
            )
            right = predict(trial, features[held_out]) == labels[held_out]
            ious = [
                (right & (labels[held_out] == c)).sum()
                / ((labels[held_out] == c) | (predict(trial, features[held_out]) == c)).sum()
                for c in range(N_CLASSES)
            ]
            found.append(right.mean() if score == "patch_accuracy" else np.mean(ious))
        np.testing.assert_allclose(choice.scores, found, atol=0.02)  # trials stop at ten times the tolerance
        assert choice.scores.max() == choice.scores[choice.penalties.index(choice.probe.head.penalty)]
        (refit,) = fit_probes(features, labels, N_CLASSES, [Head(choice.probe.head.penalty, mask)], standardise=True)
        np.testing.assert_allclose(choice.probe.objective, refit.objective, rtol=5e-5)


def test_smaller_penalties_are_tried_until_two_in_a_row_score_less():
    features, labels = rows(14, n_rows=900)
    images = np.arange(900) // 90
    grid = (1e3, 1e2, 1e1, 1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7)
    choice = choose_penalty(features, labels, images, N_CLASSES, standardise=True, seed=0, penalties=grid)
    tried, best = len(choice.penalties), int(np.argmax(choice.scores))
    assert choice.penalties == grid[:tried]
    assert 3 < tried < len(grid), "the best one is neither among the first three nor the last"
    assert best == tried - 3
    held_out = np.isin(images, choice.held_out)
    every = [Head(penalty) for penalty in grid]
    fits = fit_probes(features[~held_out], labels[~held_out], N_CLASSES, every, standardise=True)
    found = [(predict(fit, features[held_out]) == labels[held_out]).mean() for fit in fits]
    assert found[best] >= max(found) - 0.01


def test_a_probe_that_starts_from_another_ends_where_one_from_zero_does():
    features, labels = rows(15, n_rows=900)
    few = np.arange(600)
    few = few[labels[few] != 3]  # a class that the first probe never saw
    (first,) = fit_probes(features, labels, N_CLASSES, [Head(1e-3)], standardise=True, rows=few)
    options = {"standardise": True, "tolerance": 1e-5}
    (alone,) = fit_probes(features, labels, N_CLASSES, [Head(1e-3)], **options)
    (begun,) = fit_probes(features, labels, N_CLASSES, [Head(1e-3)], starts=[first], **options)
    np.testing.assert_allclose(begun.objective, alone.objective, rtol=1e-6)
    np.testing.assert_allclose(begun.weight, alone.weight, atol=1e-3)
    (again,) = fit_probes(features, labels, N_CLASSES, [Head(1e-3)], starts=[alone], **options)
    assert again.iterations <= 1


def test_the_number_of_threads_changes_no_bit(monkeypatch):
    features, labels = rows(16, n_rows=5000)
    fits = []
    for cores in (1, 3):
        monkeypatch.setattr("evaluate.kernels.probing.cross_entropy.available_cores", lambda cores=cores: cores)
        fits.append(fit_probes(features, labels, N_CLASSES, [Head(1e-4)], standardise=False)[0])
    np.testing.assert_array_equal(fits[0].weight, fits[1].weight)
    monkeypatch.setattr("evaluate.kernels.probing.cross_entropy.COPY_BYTES", 0)
    (unkept,) = fit_probes(features, labels, N_CLASSES, [Head(1e-4)], standardise=False)
    np.testing.assert_array_equal(unkept.weight, fits[0].weight)


def test_tied_penalties_go_to_the_larger_and_one_image_is_refused():
    features, labels = rows(12, n_rows=300)
    images = np.arange(300) // 30
    far = features + 1000.0 * labels[:, None].astype(np.float32)
    choice = choose_penalty(far, labels, images, N_CLASSES, standardise=True, seed=0, penalties=(1e-5, 1e-4, 1e-3))
    np.testing.assert_array_equal(choice.scores, [1.0, 1.0, 1.0])
    assert choice.probe.head.penalty == 1e-3
    with pytest.raises(UserError, match="at least two images"):
        choose_penalty(features, labels, np.zeros(300, dtype=int), N_CLASSES, standardise=True, seed=0)


def test_fitted_statistics_normalise_other_rows():
    features, labels = rows(13, n_rows=300)
    (probe,) = fit_probes(features[:200], labels[:200], N_CLASSES, [Head(1e-2)], standardise=True)
    assert isinstance(probe.standardisation, Standardisation)
    normal = probe.standardisation.apply(features)
    np.testing.assert_allclose(normal[:200].astype(np.float64).std(axis=0), 1.0, atol=1e-4)
    np.testing.assert_array_equal((normal @ probe.weight.T + probe.bias).argmax(axis=1), predict(probe, features))
    assert fit_probes(features, labels, N_CLASSES, [Head(1e-2)], standardise=False)[0].standardisation is None
