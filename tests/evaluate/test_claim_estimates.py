"""Interval arithmetic against brute force, and pairs against resampling both."""

import math

import numpy as np
import pytest

from evaluate.claims.estimates import Estimate, difference, exactly, ratio, share, weighted
from evaluate.claims.verdicts import above, below, verdict_of


def test_bounds_are_the_worst_of_the_corners():
    rng = np.random.default_rng(0)
    for _ in range(50):
        low, width = rng.random(3), rng.random(3)
        terms = [Estimate("", a + w / 2, a, a + w) for a, w in zip(low, width, strict=True)]
        weights = rng.normal(size=3)
        corners = [
            sum(w * (one.low if bit else one.high) for w, one, bit in zip(weights, terms, bits, strict=True))
            for bits in np.ndindex(2, 2, 2)
        ]
        found = weighted("", [(float(w), one) for w, one in zip(weights, terms, strict=True)])
        assert (found.low, found.high) == pytest.approx((min(corners), max(corners)))
        quotients = [a / b for a in (terms[0].low, terms[0].high) for b in (terms[1].low, terms[1].high)]
        found = ratio("", terms[0], terms[1])
        assert (found.low, found.high) == pytest.approx((min(quotients), max(quotients)))


def test_equal_draws_are_combined_draw_by_draw():
    rng = np.random.default_rng(1)
    common = rng.normal(1.0, 0.1, 2000)
    one, other = (Estimate("", 1.0 + d, 0.8, 1.2, common + d, "images") for d in (0.05, 0.0))
    paired = difference("", one, other)
    assert (paired.low, paired.high) == pytest.approx((0.05, 0.05))
    assert ratio("", one, other).low == pytest.approx(np.quantile(one.drawn / other.drawn, 0.025), rel=1e-3)
    other_experiments = Estimate("", 1.0, 0.8, 1.2, common, "other images")
    assert difference("", one, other_experiments).low == pytest.approx(0.8 - 1.2)


def test_a_ratio_over_nothing_is_infinite_and_decides_nothing():
    zero, one = Estimate("", 0.0, 0.0, 0.1), Estimate("", 1.0, 0.9, 1.1)
    over = ratio("", one, zero)
    assert over.value == over.high == math.inf
    assert over.low == pytest.approx(9.0)
    assert above(over, 3.0).outcome is True
    assert below(ratio("", zero, zero), 3.0).outcome is None


def test_shares_count_what_is_open_both_ways():
    found = share("", [True, None, False, True])
    assert (found.low, found.high) == (0.5, 0.75)


@pytest.mark.parametrize(
    ("low", "high", "outcome"), [(0.1, 0.2, True), (0.0, 0.2, None), (-0.1, 0.1, None), (-0.2, 0.0, False)]
)
def test_a_threshold_is_met_from_beyond_alone(low, high, outcome):
    one = Estimate("", 0.15, low, high)
    assert above(one, 0.0).outcome is outcome
    assert below(Estimate("", -0.15, -high, -low), 0.0).outcome is outcome


def test_a_verdict_needs_every_condition_and_one_refutes_it():
    yes, no, unknown = (above(Estimate("x", 0.0, low, high), 0.0) for low, high in ((1, 2), (-2, -1), (-1, 1)))
    assert verdict_of(iter([yes, yes]))[0] == "holds"
    assert verdict_of(iter([yes, unknown, no]))[0] == "fails"
    assert verdict_of(iter([yes, unknown]))[0] == "not testable"
    assert verdict_of(iter([]))[0] == "not testable"
    assert str(exactly("x", 0.5)) == "x 0.5 [0.5, 0.5]"
