"""Products on a device: the same neighbours as the search by numpy, index for index and bit for bit.

The default tests run the same code with torch on the processor; those marked ``gpu`` need one.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import evaluate.neighbours.device as module
from evaluate.neighbours.knn import nearest, nearest_without_top
from stores.errors import UserError
from tests.evaluate.test_neighbours import assert_exact, clusters

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


def assert_same(one, other):
    np.testing.assert_array_equal(one.indices, other.indices)
    np.testing.assert_array_equal(one.squared_distances, other.squared_distances)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(st.integers(2, 600), st.integers(1, 80), st.integers(2, 40)),
    k=st.integers(1, 30),
    spread=st.sampled_from([0.0, 1e-6, 1e-3, 1.0, 1e20]),
    dtypes=st.tuples(*[st.sampled_from([np.float16, np.float32])] * 2),
    metric=st.sampled_from(["euclidean", "cosine"]),
    grouped=st.booleans(),
    small=st.booleans(),
    data=st.data(),
)
def test_equals_the_search_by_numpy(seed, shape, k, spread, dtypes, metric, grouped, small, data):
    check("cpu", seed, shape, k, spread, dtypes, metric, grouped, small, data.draw)


@pytest.mark.gpu
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("spread", [0.0, 1e-6, 1e-3, 1.0])
def test_equals_the_search_by_numpy_on_a_gpu(metric, spread):
    for seed in range(6):
        rng = np.random.default_rng(seed)
        shape = (int(rng.integers(500, 5000)), int(rng.integers(1, 600)), int(rng.integers(2, 300)))
        removed = [0, 1, shape[2] // 2]
        check("cuda", seed, shape, 1 + seed * 7, spread, (np.float16,) * 2, metric, seed % 2 == 1, False,
              lambda _, removed=removed: removed)  # fmt: skip


def check(device, seed, shape, k, spread, dtypes, metric, grouped, small, draw):
    n_bank, n_queries, width = shape
    if np.float16 in dtypes:
        spread = min(spread, 1.0)
    rng = np.random.default_rng(seed)
    bank = clusters(seed, n_bank, 1, width, spread, dtypes[0])[0]
    queries = clusters(seed, 1, n_queries, width, spread, dtypes[1])[1]
    bank[rng.integers(0, n_bank, n_bank // 3)] = bank[0]  # duplicates and ties
    bank[rng.random(n_bank) < 0.05] = 0
    if dtypes[0] == dtypes[1]:
        queries[0] = bank[-1]
    k, groups = min(k, max(1, n_bank - 3)), {}
    if grouped and n_bank > k + 3:
        groups = {"bank_groups": np.arange(n_bank) // 3, "query_groups": rng.integers(0, n_bank, n_queries)}
    ranking = np.argsort(-bank.astype(np.float64).var(axis=0), kind="stable")
    removed = draw(st.lists(st.integers(0, width - 1), min_size=1, max_size=5))
    with pytest.MonkeyPatch.context() as patch:
        if small:  # several blocks of queries and rows, and several slabs
            patch.setattr(module, "_MOST_QUERIES", 64)
            patch.setattr(module, "_MOST_ROWS", 64)
            row_bytes = 8 * (2 * (width + len(set(removed))) + len(set(removed)) + 3)
            free = 64 * (64 * 10 + module.capacity_for(k) * module.GROUP * 24) + (64 + 130) * row_bytes
            patch.setattr(module, "_free_bytes", lambda device, memory_bytes: free)
        found = nearest_without_top(
            bank, queries, ranking, removed, k, metric=metric, memory_bytes=1 << 28, device=device, **groups
        )
    expected = nearest_without_top(bank, queries, ranking, removed, k, metric=metric, **groups)
    assert found.keys() == set(removed)
    for m in removed:
        assert_same(found[m], expected[m])


@pytest.mark.slow
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("k", [1, 20])
def test_every_query_of_a_larger_search_agrees(device, k):
    bank, queries = clusters(5, 20_000, 700, 96, 1.0, np.float16)
    groups = {"bank_groups": np.arange(len(bank)) // 196, "query_groups": np.arange(len(queries)) // 196}
    found = nearest(bank, queries, k, device=device, **groups)
    assert_same(found, nearest(bank, queries, k, **groups))
    assert found.redone == 0.0
    assert_exact(found, bank, queries, k, **groups)


@pytest.mark.parametrize("device", DEVICES)
def test_hundreds_of_equal_rows_are_sorted_by_number(device):
    bank, queries = clusters(1, 9_000, 20, 8, 1.0)
    bank[:] = bank[0]
    bank[::2] += 1
    found = nearest(bank, queries, 5, device=device)
    assert_same(found, nearest(bank, queries, 5))
    assert found.redone == 1.0


def test_what_does_not_fit_is_refused_with_what_to_do(monkeypatch):
    bank, queries = clusters(1, 100, 20, 8, 1.0)
    monkeypatch.setattr(module, "_free_bytes", lambda device, memory_bytes: 1000)
    with pytest.raises(UserError, match=r"does not fit the device's free memory.*--device cpu"):
        nearest(bank, queries, 5, device="cpu")
    assert nearest(bank, queries[:0], 5, device="cpu").indices.shape == (0, 5)
