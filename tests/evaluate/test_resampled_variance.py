"""Resampled variances against drawing the images themselves, and what is made of them."""

import numpy as np
import pytest

from evaluate.analyses.variance_spectrum import VarianceSpectrum
from evaluate.inputs.patches import token_variance
from evaluate.inputs.rows import select_rows
from evaluate.kernels.bootstrap import quantiles
from evaluate.kernels.moments import Moments
from evaluate.registry import EvaluationSettings
from evaluate.results.table import ResultStore
from evaluate.runner import evaluate
from evaluate.scoring.variance_bootstrap import moments_by_image, overlaps, rankings, resampled_variances
from tests.evaluate.planted import planted
from tests.evaluate.test_patch_classification import SELECTION


def test_variances_equal_numpys_over_the_images_that_were_drawn():
    rng = np.random.default_rng(0)
    images = [rng.normal(3.0 * n, 1.0 + n, size=(5 + n, 4)) for n in range(12)]
    found = resampled_variances([Moments.from_block(one) for one in images], seed=3, resamples=7)
    drawn = np.random.Generator(np.random.PCG64(3)).integers(0, 12, size=(7, 12))
    expected = [np.concatenate([images[n] for n in units]).var(axis=0) for units in drawn]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_a_large_mean_costs_no_digits():
    rng = np.random.default_rng(0)
    images = [rng.normal(size=(6, 3)) for _ in range(10)]
    near = resampled_variances([Moments.from_block(one) for one in images], seed=0, resamples=20)
    far = resampled_variances([Moments.from_block(one + 1e6) for one in images], seed=0, resamples=20)
    np.testing.assert_allclose(far, near, rtol=1e-8)


def test_below_ten_images_there_is_no_interval():
    few = [Moments.from_block(np.ones((2, 3)))] * 9
    assert resampled_variances(few, seed=0, resamples=10) is None
    assert quantiles(None) == quantiles(np.array([np.nan])) == (None, None)


def test_overlaps_equal_pythons_sets():
    rng = np.random.default_rng(1)
    one, other = (rankings(rng.random((5, 9))) for _ in range(2))
    expected = [len({*a[:4].tolist()} & {*b[:4].tolist()}) for a, b in zip(one, other, strict=True)]
    assert overlaps(one, other, 4).tolist() == expected


def test_images_are_told_apart_and_the_whole_keeps_its_bits(tmp_path):
    measured = planted(tmp_path, n_images=24)
    chosen = select_rows(measured, SELECTION.train)
    array = "tokens/block.0.norm"
    whole, of_image = moments_by_image(measured, array, chosen)
    np.testing.assert_array_equal(whole.variance, token_variance(measured, array, chosen))
    sources = measured.samples["source"].to_numpy()
    for name, moments in zip(chosen.sources, of_image, strict=True):
        tokens = measured.features[array][:][sources == name].astype(np.float64).reshape(-1, 16)
        np.testing.assert_allclose(moments.variance, tokens.var(axis=0), rtol=1e-10)


def test_planted_spectrum_comes_with_intervals(tmp_path):
    measured = planted(tmp_path / "store", n_images=40, planted=4)
    settings = EvaluationSettings(
        selection=SELECTION, analyses=(VarianceSpectrum(kind="variance-spectrum", top=(4, 16)),)
    )
    table = evaluate("t", [measured], settings, ResultStore(tmp_path / "r")).table.set_index(["metric", "m"])
    share = table.loc[("share_of_variance", 4)]
    assert 0.98 < share["low"] <= share["value"] <= share["high"] < 1.0
    assert table.loc[("share_of_variance", 16), ["low", "value", "high"]].tolist() == pytest.approx([1.0] * 3)
    spread = table.xs("max_to_median_variance").iloc[0]
    assert 200 < spread["low"] <= spread["value"] <= spread["high"]
    assert spread["n_units"] == 20
