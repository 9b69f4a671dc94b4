import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluate.kernels.moments import (
    Moments,
    Standardisation,
    overlap,
    read_float32,
    share_of_variance,
    variance_ranking,
    without_top,
)
from stores.errors import UserError


def features(seed, rows, channels, dtype):
    """Features whose means are far larger than some of their deviations, as after a final norm."""
    generator = np.random.Generator(np.random.PCG64(seed))
    scale = 10.0 ** generator.uniform(-2, 1, channels)
    return (generator.standard_normal((rows, channels)) * scale + generator.normal(0, 30, channels)).astype(dtype)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(1, 700),
    channels=st.integers(1, 400),
    dtype=st.sampled_from([np.float16, np.float32]),
    cut=st.floats(0, 1),
)
def test_moments_equal_numpy_in_float64_however_the_rows_are_cut(seed, rows, channels, dtype, cut):
    block = features(seed, rows, channels, dtype)
    place = round(cut * rows)
    merged = Moments.from_block(block[:place]).merge(Moments.from_block(block[place:]))
    wide = block.astype(np.float64)
    for moments in (Moments.from_block(block), merged):
        assert moments.count == rows
        np.testing.assert_allclose(moments.mean, wide.mean(axis=0), rtol=1e-13, atol=1e-13)
        np.testing.assert_allclose(moments.variance, wide.var(axis=0), rtol=1e-10, atol=1e-20)


def test_a_shift_of_a_million_deviations_loses_nothing():
    block = features(0, 500, 6, np.float32)
    block[250:] += 1e6
    np.testing.assert_allclose(Moments.from_block(block).variance, block.astype(np.float64).var(axis=0), rtol=1e-13)
    merged = Moments.of([block[:250], block[250:]])
    np.testing.assert_allclose(merged.variance, block.astype(np.float64).var(axis=0), rtol=1e-13)


def test_merging_in_block_order_gives_the_same_bits_from_views_and_copies():
    block = features(1, 900, 50, np.float16)
    blocks = [block[start : start + 128] for start in range(0, 900, 128)]
    copies = [np.asfortranarray(part) for part in blocks]
    frozen = [part.copy() for part in blocks]
    for part in frozen:
        part.flags.writeable = False
    for others in (copies, frozen):
        np.testing.assert_array_equal(Moments.of(blocks).squared_deviations, Moments.of(others).squared_deviations)


def test_an_empty_block_changes_no_bit_and_has_no_variance():
    moments, empty = Moments.from_block(features(2, 9, 4, np.float16)), Moments.from_block(np.zeros((0, 4), np.float16))
    for merged in (moments.merge(empty), empty.merge(moments)):
        np.testing.assert_array_equal(merged.squared_deviations, moments.squared_deviations)
    for read in (lambda: empty.variance, lambda: Moments.of([])):
        with pytest.raises(UserError, match="no row"):
            read()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_refused_with_its_channel(value):
    block = features(3, 40, 7, np.float16)
    block[31, 5] = value
    with pytest.raises(UserError, match="channel 5 "):
        Moments.from_block(block)


def test_every_float16_reads_exactly():
    every = np.arange(2**16, dtype=np.uint16).view(np.float16)
    block = every[np.isfinite(every)].reshape(-1, 16)
    out = np.empty(block.shape, dtype=np.float32)
    read_float32(block, out)
    np.testing.assert_array_equal(out, block.astype(np.float32))


def test_the_ranking_is_by_decreasing_variance_then_by_number():
    variance = np.array([1.0, 3.0, 0.0, 3.0, 2.0])
    ranking = variance_ranking(variance)
    np.testing.assert_array_equal(ranking, [1, 3, 4, 0, 2])
    np.testing.assert_array_equal(without_top(ranking, 2), [True, False, True, False, True])
    assert share_of_variance(variance, ranking, 2) == pytest.approx(6 / 9)
    assert share_of_variance(variance, ranking, 5) == 1.0
    assert np.isnan(share_of_variance(np.zeros(5), ranking, 2))
    assert overlap(ranking, np.array([0, 1, 2, 3, 4]), 2) == 1
    assert overlap(ranking, ranking, 3) == 3


def test_impossible_rankings_are_refused():
    with pytest.raises(UserError, match=r"choose m in 0\.\.3"):
        without_top(np.arange(3), 4)
    with pytest.raises(UserError, match="not finite"):
        variance_ranking(np.array([1.0, np.nan]))


def test_standardisation_is_affine_free_batch_normalisation_in_evaluation_mode():
    torch = pytest.importorskip("torch")
    block = features(4, 600, 8, np.float32)
    normalisation = torch.nn.BatchNorm1d(8, eps=1e-6, affine=False, momentum=None).double()
    moments = Moments.from_block(block)
    normalisation.running_mean[:] = torch.from_numpy(moments.mean)
    normalisation.running_var[:] = torch.from_numpy(moments.variance)
    expected = normalisation.eval()(torch.from_numpy(block.astype(np.float64))).numpy()
    applied = Standardisation(moments.mean, moments.variance).apply(block)
    np.testing.assert_allclose(applied, expected, rtol=0, atol=2e-3)  # float32 mean of values near 30 +- 0.01
