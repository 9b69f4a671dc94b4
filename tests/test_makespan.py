"""The simulated schedule: within 5 % of the ideal with slow and dead workers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.makespan import N_RANGES, SCENES, SimulatedWorker, fixed_shares, ideal, schedule

RATES = st.floats(0.5, 2.0)
DEATHS = st.one_of(st.just(float("inf")), st.floats(1.0, 5_000.0))


@pytest.mark.parametrize("scene", SCENES)
def test_slow_and_dead_workers_cost_little(scene):
    workers = SCENES[scene]
    best = ideal(N_RANGES, workers)
    assert best <= schedule(N_RANGES, workers) <= 1.05 * best
    assert fixed_shares(N_RANGES, workers) >= 0.999 * best


def test_fixed_shares_wait_for_the_slowest():
    workers = SCENES["one at 0.7, one dead half way"]
    assert fixed_shares(N_RANGES, workers) > 1.3 * ideal(N_RANGES, workers)


@given(st.lists(st.tuples(RATES, DEATHS), min_size=1, max_size=8), st.integers(2_000, 8_000))
def test_any_workers_of_which_one_lives(drawn, n_ranges):
    workers = [SimulatedWorker(rate, death) for rate, death in drawn] + [SimulatedWorker()]
    best, found = ideal(n_ranges, workers), schedule(n_ranges, workers)
    # A dead worker's two shares, a minute of its work, can be lost to others at the very end.
    assert best * 0.999 <= found <= 1.05 * best + 90


def test_the_ideal_of_two_workers_by_hand():
    assert ideal(30, [SimulatedWorker(), SimulatedWorker(0.5)]) == 20
    assert ideal(30, [SimulatedWorker(), SimulatedWorker(1.0, dies_at=10.0)]) == 20
    assert schedule(1, [SimulatedWorker()]) == pytest.approx(1.2)
