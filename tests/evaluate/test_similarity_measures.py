"""Measures of similarity against known truths and second implementations, and what other code does otherwise."""

import numpy as np
import pytest
from scipy import stats

from evaluate.kernels.similarity.cka import MinibatchHsic, centred, divergence_depth
from evaluate.kernels.similarity.vectors import VECTOR_MEASURES

RNG = np.random.default_rng


def gram(vectors):
    return (vectors @ vectors.T)[None]


def batches(vectors, size):
    return [vectors[start : start + size] for start in range(0, len(vectors), size)]


def cka(one, other, size=32):
    """CKA of two representations by the tested code."""
    pairs = [(gram(a), gram(b)) for a, b in zip(batches(one, size), batches(other, size), strict=True)]
    return float(MinibatchHsic.of(pairs).cka()[0, 0])


def hsic1(one, other):
    """The formula of Song et al. as it stands in Nguyen et al."""
    n = len(one)
    one, other = one - np.diag(np.diag(one)), other - np.diag(np.diag(other))
    ones = np.ones(n)
    total = np.trace(one @ other) + (ones @ one @ ones) * (ones @ other @ ones) / ((n - 1) * (n - 2))
    return (total - 2 / (n - 2) * (ones @ one @ other @ ones)) / (n * (n - 3))


def test_u_centring_gives_the_formula_of_song_et_al():
    rng = RNG(0)
    for n in (4, 5, 17):
        one, other = rng.normal(size=(n, 3)), rng.normal(size=(n, 7)) + 4.0
        found = (centred(gram(one)) * centred(gram(other))).sum() / (n * (n - 3))
        assert found == pytest.approx(hsic1(gram(one)[0], gram(other)[0]), rel=1e-10)


def test_it_is_unbiased_for_hsic_with_the_mean_known():
    """Of independent representations HSIC is 0: the mean of many estimates is, within four standard errors."""
    rng = RNG(1)
    found = [hsic1(gram(rng.normal(size=(6, 2)))[0], gram(rng.normal(size=(6, 40)))[0]) for _ in range(4000)]
    assert abs(np.mean(found)) < 4 * np.std(found) / np.sqrt(len(found))


def test_invariances_and_independence():
    rng = RNG(2)
    one = rng.normal(size=(128, 10)) * np.arange(1, 11)
    rotation = stats.ortho_group.rvs(10, random_state=3)
    assert cka(one, one) == pytest.approx(1.0, abs=1e-12)
    assert cka(one, 0.01 * one @ rotation + 7.0) == pytest.approx(1.0, abs=1e-10)
    assert cka(one, one @ np.diag(np.arange(1, 11) ** 2.0)) < 0.99
    independent = [cka(rng.normal(size=(128, 600)), rng.normal(size=(128, 50))) for _ in range(20)]
    assert abs(np.mean(independent)) < 0.02
    assert min(independent) < 0.0 < max(independent)
    biased = VECTOR_MEASURES["linear-cka"]
    wide = [biased.prepare(rng.normal(size=(128, 600)), 1) for _ in range(2)]
    assert biased.compare(*wide) > 0.6, "where the unbiased one is about 0"


def test_negative_values_are_kept_and_constant_representations_are_undefined():
    one = np.array([[1.0], [1.0], [-1.0], [-1.0]])
    other = np.array([[1.0], [-1.0], [1.0], [-1.0]])
    found = cka(one, other)
    norms = [hsic1(gram(part)[0], gram(part)[0]) for part in (one, other)]
    expected = hsic1(gram(one)[0], gram(other)[0]) / np.sqrt(norms[0] * norms[1])
    assert found == pytest.approx(expected)
    assert found < 0
    constant = np.full((32, 9), 123.456) + np.zeros((32, 1))
    assert np.isnan(cka(constant, RNG(4).normal(size=(32, 3))))


def test_minibatches_count_by_their_rows():
    rng = RNG(5)
    one = rng.normal(size=(50, 4))
    other = one[:, :2] + rng.normal(size=(50, 2))
    parts = [(a, b, len(a)) for a, b in zip(batches(one, 32), batches(other, 32), strict=True)]

    def mean(first, second):
        return sum(n * hsic1(gram(part[first])[0], gram(part[second])[0]) for part in parts for n in part[2:]) / 50

    assert cka(one, other) == pytest.approx(mean(0, 1) / np.sqrt(mean(0, 0) * mean(1, 1)), rel=1e-10)


def vit_analysis(one, other, size=32):
    """The variant of mwalmer-umd/vit_analysis: every Gram matrix less its smallest entry, then over its largest."""

    def scaled(vectors, divided):
        matrix = gram(vectors)[0]
        matrix = matrix - matrix.min()
        return matrix / (matrix.max() if divided else 1.0)

    def value(divided):
        sums = np.zeros(3)
        for a, b in zip(batches(one, size), batches(other, size), strict=True):
            first, second = scaled(a, divided), scaled(b, divided)
            sums += [hsic1(first, second), hsic1(first, first), hsic1(second, second)]
        return sums[0] / np.sqrt(sums[1] * sums[2])

    return value(False), value(True)


def test_the_variant_of_vit_analysis_deviates_only_where_minibatches_differ_in_scale():
    rng = RNG(6)
    one = rng.normal(size=(96, 5))
    other = one @ rng.normal(size=(5, 8)) + rng.normal(size=(96, 8))
    other[32:64] = 5.0 * rng.normal(size=(32, 8))  # one minibatch is unrelated, and large
    shifted, divided = vit_analysis(one, other)
    assert shifted == pytest.approx(cka(one, other), rel=1e-9), "HSIC1 does not see the shift"
    assert divided > cka(one, other) + 0.1, "the division lets the large minibatch count less"
    alone = one[:32], other[:32]
    assert vit_analysis(*alone)[1] == pytest.approx(cka(*alone), rel=1e-9), "of one minibatch the scale cancels"


def reference(measure, x, y):
    """Every measure again, from its formula."""
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    if measure == "linear-cka":
        return np.linalg.norm(y.T @ x) ** 2 / (np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y))
    if measure == "procrustes":
        x, y = x / np.linalg.norm(x), y / np.linalg.norm(y)
        squared = 1 + 1 - 2 * np.linalg.norm(x.T @ y, "nuc")
        return 1 - squared / 2
    if measure == "cca":
        kept = []
        for part in (x, y):
            values, vectors = np.linalg.eigh(part.T @ part)
            values, vectors = values[::-1], vectors[:, ::-1]
            count = next(i for i in range(1, 99) if values[:i].sum() >= 0.99 * values.sum())
            kept.append(np.linalg.qr(part @ vectors[:, :count])[0])
        return np.linalg.svd(kept[0].T @ kept[1], compute_uv=False).mean()
    raise AssertionError


@pytest.mark.parametrize("measure", ["linear-cka", "procrustes", "cca"])
@pytest.mark.parametrize("n_images", [40, 7])
def test_measures_of_components_against_their_formulas(measure, n_images):
    rng = RNG(7)
    x = rng.normal(size=(n_images, 9)) * np.linspace(3, 0.01, 9) + 50.0
    y = (x[:, :4] @ rng.normal(size=(4, 12)) + rng.normal(size=(n_images, 12))).astype(np.float32)
    one = VECTOR_MEASURES[measure]
    prepared = one.prepare(x, 1), one.prepare(y, 1)
    assert one.compare(*prepared) == pytest.approx(reference(measure, x, y.astype(float)), rel=1e-7)
    assert one.compare(prepared[0], prepared[0]) == pytest.approx(1.0)
    assert np.isnan(one.compare(prepared[0], one.prepare(np.full((n_images, 3), 5.3), 1)))


def test_rsa_is_the_spearman_correlation_of_cosine_distances():
    rng = RNG(8)
    x = rng.normal(size=(25, 6))
    y = x[:, :3] + rng.normal(size=(25, 3))
    distances = []
    for part in (x, y):
        unit = part / np.linalg.norm(part, axis=1, keepdims=True)
        distances.append(1 - (unit @ unit.T)[np.triu_indices(25, 1)])
    one = VECTOR_MEASURES["rsa"]
    expected = stats.spearmanr(*distances).statistic
    assert one.compare(one.prepare(x, 1), one.prepare(y, 1)) == pytest.approx(expected, abs=1e-12)
    assert one.compare(one.prepare(y, 1), one.prepare(3 * y, 1)) == pytest.approx(1.0)
    assert np.isnan(one.prepare(np.ones((5, 2)), 1)).all()


def test_mutual_knn_counts_shared_neighbours_without_the_image_itself():
    rng = RNG(9)
    x = rng.normal(size=(30, 6))
    y = x + rng.normal(size=(30, 6))
    one = VECTOR_MEASURES["mutual-knn"]
    sets = []
    for part in (x, y):
        unit = part / np.linalg.norm(part, axis=1, keepdims=True)
        similarity = unit @ unit.T
        np.fill_diagonal(similarity, -9)
        sets.append([set(np.argsort(-row)[:4]) for row in similarity])
    expected = np.mean([len(a & b) / 4 for a, b in zip(*sets, strict=True)])
    assert one.compare(one.prepare(x, 4), one.prepare(y, 4)) == pytest.approx(expected)
    assert one.compare(one.prepare(x, 4), one.prepare(x, 4)) == 1.0


def test_the_depth_of_divergence_is_the_first_below_one_half():
    values = np.array([[0.9, 0.4, 0.6], [0.9, 0.5, 0.6], [np.nan, 0.8, 0.1]])
    assert divergence_depth(values, np.array([1.0, 2.0, 3.0])).tolist() == [2.0, np.inf, 3.0]


def test_resampled_values_are_those_of_the_minibatches_drawn_again():
    rng = RNG(10)
    one = rng.normal(size=(12 * 8, 3))
    other = one + rng.normal(size=one.shape)
    pairs = [(gram(a), gram(b)) for a, b in zip(batches(one, 8), batches(other, 8), strict=True)]
    found = MinibatchHsic.of(pairs).resampled(seed=3, resamples=5)
    drawn = np.random.Generator(np.random.PCG64(3)).integers(0, 12, size=(5, 12))
    for values, units in zip(found, drawn, strict=True):
        again = MinibatchHsic.of([pairs[unit] for unit in units]).cka()
        np.testing.assert_allclose(values, again)
    assert MinibatchHsic.of(pairs[:9]).resampled(seed=3, resamples=5) is None
