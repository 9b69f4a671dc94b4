"""Exact neighbours against float64 brute force, where that is hard and where it is easy."""

import tracemalloc

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import evaluate.neighbours.blocks as module
from evaluate.kernels.blas import add_second_moment, product
from evaluate.neighbours.knn import SEARCH_BYTES, nearest, nearest_without_top, peak_bytes
from evaluate.neighbours.shortlist import empty_levels, merge
from stores.errors import UserError


def brute(bank, queries, k, metric="euclidean", bank_groups=None, query_groups=None):
    """Ten lines of float64 numpy: the definition of exact."""
    rows = [np.ascontiguousarray(array).astype(np.float64) for array in (bank, queries)]
    if metric == "cosine":
        norms = [np.sqrt((array**2).sum(axis=1, keepdims=True)) for array in rows]
        rows = [array / np.where(norm == 0, 1, norm) for array, norm in zip(rows, norms, strict=True)]
    indices, distances = [], []
    for number, query in enumerate(rows[1]):
        distance = ((rows[0] - query) ** 2).sum(axis=1)
        if bank_groups is not None:
            distance[bank_groups == query_groups[number]] = np.inf
        order = np.lexsort((np.arange(distance.size), distance))[:k]
        indices.append(order)
        distances.append(distance[order])
    return np.array(indices).reshape(-1, k), np.array(distances).reshape(-1, k)


def assert_exact(found, bank, queries, k, **options):
    indices, distances = brute(bank, queries, k, **options)
    np.testing.assert_array_equal(found.indices, indices)
    np.testing.assert_array_equal(found.squared_distances, distances)
    assert found.method == "exact"


def clusters(seed, n_bank, n_queries, width, spread, dtype=np.float32, huge=3, magnitude=50.0):
    """Rows within ``spread`` of one mean with a few huge features: MAE's regime."""
    rng = np.random.default_rng(seed)
    mean = rng.standard_normal(width)
    mean[:huge] = magnitude
    return [(mean + spread * rng.standard_normal((rows, width))).astype(dtype) for rows in (n_bank, n_queries)]


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(st.integers(1, 300), st.integers(0, 40), st.integers(1, 40)),
    share=st.floats(0, 1),
    spread=st.sampled_from([0.0, 1e-6, 1e-3, 1.0, 1e20]),
    dtypes=st.tuples(*[st.sampled_from([np.float16, np.float32])] * 2),
    metric=st.sampled_from(["euclidean", "cosine"]),
    grouped=st.booleans(),
    memory_bytes=st.sampled_from([7_000_000, 1 << 28]),
)
def test_equals_float64_brute_force(seed, shape, share, spread, dtypes, metric, grouped, memory_bytes):
    n_bank, n_queries, width = shape
    if np.float16 in dtypes:
        spread = min(spread, 1.0)
    rng = np.random.default_rng(seed)
    bank = clusters(seed, n_bank, 1, width, spread, dtypes[0])[0]
    queries = clusters(seed, 1, n_queries, width, spread, dtypes[1])[1]
    bank[rng.integers(0, n_bank, n_bank // 3)] = bank[0]  # duplicates
    bank[rng.random(n_bank) < 0.05] = 0
    if dtypes[0] == dtypes[1] and n_queries:
        queries[0] = bank[-1]
    groups, allowed = {}, n_bank
    if grouped:
        groups = {"bank_groups": rng.integers(-3, 9, n_bank), "query_groups": rng.integers(-3, 9, n_queries)}
        own = [(groups["bank_groups"] == group).sum() for group in groups["query_groups"]]
        allowed = n_bank - max(own, default=0)
    if allowed == 0:
        with pytest.raises(UserError, match="outside its own group"):
            nearest(bank, queries, 1, metric=metric, **groups)
        return
    k = 1 + int(share * (allowed - 1))
    found = nearest(bank, queries, k, metric=metric, memory_bytes=memory_bytes, **groups)
    assert_exact(found, bank, queries, k, metric=metric, **groups)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(st.integers(2, 400), st.integers(1, 30), st.integers(2, 40)),
    k=st.integers(1, 30),
    spread=st.sampled_from([1e-6, 1e-3, 1.0]),
    dtype=st.sampled_from([np.float16, np.float32]),
    metric=st.sampled_from(["euclidean", "cosine"]),
    grouped=st.booleans(),
    memory_bytes=st.sampled_from([7_000_000, 1 << 28]),
    data=st.data(),
)
def test_sweep_equals_brute_force_on_every_subset(seed, shape, k, spread, dtype, metric, grouped, memory_bytes, data):
    n_bank, n_queries, width = shape
    bank, queries = clusters(seed, n_bank, n_queries, width, spread, dtype)
    rng = np.random.default_rng(seed)
    groups = {}
    if grouped:
        groups = {"bank_groups": np.arange(n_bank) // 2, "query_groups": rng.integers(0, n_bank, n_queries)}
    k = min(k, max(1, n_bank - 2))
    if grouped and n_bank - 2 < k:
        groups = {}
    ranking = np.argsort(-bank.astype(np.float64).var(axis=0), kind="stable")
    removed = data.draw(st.lists(st.integers(0, width - 1), max_size=6))
    found = nearest_without_top(bank, queries, ranking, removed, k, metric=metric, memory_bytes=memory_bytes, **groups)
    assert set(found) == set(removed)
    for m in removed:
        assert_exact(found[m], bank[:, ranking[m:]], queries[:, ranking[m:]], k, metric=metric, **groups)


@pytest.fixture(scope="module")
def blocks():
    """Enough rows for several blocks of scores, in an order that keeps getting nearer."""
    bank, queries = clusters(5, 7_000, 90, 24, 1.0)
    far = np.argsort(-((bank - queries[0]) ** 2).sum(axis=1))
    return bank[far], queries


@pytest.mark.parametrize("k", [1, 20, 300, 6_900])
@pytest.mark.parametrize("memory_bytes", [40_000_000, 1 << 30])
def test_many_blocks_and_slabs(blocks, k, memory_bytes):
    bank, queries = blocks
    groups = {"bank_groups": np.arange(len(bank)) % 71, "query_groups": np.arange(len(queries))}
    assert_exact(nearest(bank, queries, k, memory_bytes=memory_bytes, **groups), bank, queries, k, **groups)


def test_sweep_over_many_blocks(blocks):
    bank, queries = blocks
    ranking = np.arange(24)[::-1].copy()
    for m, found in nearest_without_top(bank, queries, ranking, [0, 3, 23], 5, memory_bytes=15_000_000).items():
        assert_exact(found, bank[:, ranking[m:]], queries[:, ranking[m:]], 5)


def test_the_hard_clusters_are_hard_for_float32_norm_expansion():
    bank, queries = clusters(0, 2_000, 200, 256, 1e-3)
    squares = np.einsum("ij,ij->i", bank, bank)
    plain = (squares - 2 * (queries @ bank.T)).argmin(axis=1)
    indices, _ = brute(bank, queries, 1)
    assert np.mean(plain != indices[:, 0]) > 0.3
    found = nearest(bank, queries, 1)
    assert_exact(found, bank, queries, 1)
    assert found.redone < 0.1  # centring keeps this regime in float32


def test_an_outlier_does_not_send_every_query_to_float64():
    bank, queries = clusters(1, 5_000, 50, 32, 1.0)
    bank[17] = 6e4
    found = nearest(bank, queries, 5)
    assert_exact(found, bank, queries, 5)
    assert found.redone == 0


def test_share_redone_counts_queries_float32_cannot_settle():
    bank, queries = clusters(2, 3_000, 40, 16, 1.0, huge=0)
    tight = np.random.default_rng(2)  # a thousand rows within a few float32 steps, away from the bank's mean
    bank[:1_000] = 5 + 1e-6 * tight.standard_normal((1_000, 16))
    queries[:10] = 5 + 1e-6 * tight.standard_normal((10, 16))
    found = nearest(bank, queries, 3)
    assert_exact(found, bank, queries, 3)
    assert found.redone == 0.25


def test_underflow_and_huge_values_stay_exact():
    rng = np.random.default_rng(3)
    for magnitude in (1e-40, 1e-25, 3e37):
        bank, queries = ((magnitude * rng.standard_normal((rows, 8))).astype(np.float32) for rows in (200, 20))
        assert_exact(nearest(bank, queries, 4), bank, queries, 4)
    mixed = np.where(rng.random((300, 8)) < 0.5, 1e30, 1e-30).astype(np.float32)
    mixed[:, 0] = (1e-15 * rng.standard_normal(300)).astype(np.float32)
    assert_exact(nearest(mixed, mixed[:30], 6), mixed, mixed[:30], 6)


def test_zero_rows_of_the_cosine_metric():
    bank = np.array([[0, 0], [3, 0], [0, 1]], np.float32)
    queries = np.array([[0, 0], [2, 0]], np.float32)
    found = nearest(bank, queries, 3, metric="cosine")
    np.testing.assert_array_equal(found.indices, [[0, 1, 2], [1, 0, 2]])
    np.testing.assert_array_equal(found.squared_distances, [[0, 1, 1], [0, 1, 2]])


def test_memory_order_of_the_inputs_does_not_matter():
    bank, queries = clusters(4, 500, 30, 40, 1e-3)
    expected = nearest(bank, queries, 7)
    found = nearest(np.asfortranarray(bank), np.repeat(queries, 2, axis=1)[:, ::2], 7)
    np.testing.assert_array_equal(found.indices, expected.indices)
    np.testing.assert_array_equal(found.squared_distances, expected.squared_distances)


def test_float64_direct_differences_when_even_its_products_leave_too_many():
    bank, queries = clusters(6, 600, 4, 8, 0.0)
    bank[100:] += np.float32(1)
    groups = {"bank_groups": np.arange(600) // 10, "query_groups": np.arange(4)}
    found = nearest(bank, queries, 3, **groups)
    assert_exact(found, bank, queries, 3, **groups)
    assert found.redone == 1


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("memory_bytes", [400_000, 1 << 28])
def test_agrees_with_faiss_on_easy_data(metric, grouped, memory_bytes):
    bank, queries = clusters(7, 3_000, 50, 16, 1.0, huge=0)
    groups = {}
    if grouped:
        groups = {"bank_groups": np.arange(3_000) // 7, "query_groups": np.arange(50)}
    plain = nearest(bank, queries, 5, metric=metric, method="faiss", memory_bytes=memory_bytes, **groups)
    exact = nearest(bank, queries, 5, metric=metric, **groups)
    assert plain.method == "faiss"
    assert np.mean(plain.indices == exact.indices) > 0.99
    np.testing.assert_allclose(plain.squared_distances, exact.squared_distances, rtol=1e-3, atol=1e-5)


def test_the_faiss_method_is_plain_faiss():
    bank, queries = clusters(8, 2_000, 50, 64, 1e-3)
    distances, indices = faiss.knn(queries, bank, 4)
    found = nearest(bank, queries, 4, method="faiss")
    np.testing.assert_array_equal(found.squared_distances, distances)
    assert np.mean(found.indices == indices) > 0.99  # equal float32 distances may be listed in another order


@pytest.mark.parametrize("dtype", [pytest.param(np.float16, marks=pytest.mark.slow), np.float32])
@pytest.mark.parametrize("memory_bytes", [12_000_000, pytest.param(60_000_000, marks=pytest.mark.slow)])
def test_memory_stays_within_the_bound(dtype, memory_bytes):
    bank, queries = clusters(9, 31_000, 600, 96, 1.0, dtype)
    groups = {"bank_groups": np.arange(31_000) // 50, "query_groups": np.arange(600) // 50}
    ranking = np.arange(96)
    for search in (
        lambda: nearest(bank, queries, 10, memory_bytes=memory_bytes, **groups),
        lambda: nearest_without_top(bank, queries, ranking, [0, 10, 50], 3, memory_bytes=memory_bytes),
    ):
        tracemalloc.start()  # numpy reports its arrays to it
        try:
            search()
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < memory_bytes + 600 * 10 * 16  # and the result


@pytest.mark.parametrize("spread", [0.0, 1.0], ids=["equal rows, searched again in float64", "rows apart"])
def test_a_small_bank_takes_less_than_a_search_is_given(spread):
    bank, queries = clusters(9, 2_000, 100, 96, 1.0)
    bank, queries = (bank * spread).astype(np.float32), (queries * spread).astype(np.float32)
    stated = peak_bytes(100, 10, 1, bank.shape)
    assert stated < SEARCH_BYTES / 2
    assert peak_bytes(100, 10, 1, (200_000, 96)) == peak_bytes(100, 10, 1) > SEARCH_BYTES
    tracemalloc.start()
    try:
        nearest(bank, queries, 10, metric="cosine", memory_bytes=SEARCH_BYTES)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < stated


def test_a_copy_in_another_order_never_takes_the_memory_the_search_needs():
    bank, queries = clusters(13, 30_000, 500, 96, 1.0, np.float16)
    ranking = np.arange(96)[::-1].copy()
    tight, wide = (
        nearest_without_top(bank, queries, ranking, [0, 10, 50], 3, memory_bytes=memory_bytes)
        for memory_bytes in (12_000_000, 1 << 28)
    )
    for m, found in wide.items():
        np.testing.assert_array_equal(tight[m].indices, found.indices)


def test_refuses_with_both_numbers_when_memory_does_not_suffice():
    bank, queries = clusters(10, 100, 10, 8, 1.0)
    with pytest.raises(UserError, match=r"at least [\d,]+ bytes .* may use 1,000"):
        nearest(bank, queries, 1, memory_bytes=1_000)
    with pytest.raises(UserError, match=r"at least [\d,]+ bytes .* may use 1,000"):
        nearest(bank, queries, 1, method="faiss", memory_bytes=1_000)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("side", ["bank", "query"])
def test_values_that_are_not_finite_are_refused(dtype, value, side):
    bank, queries = clusters(11, 50, 10, 8, 1.0, dtype)
    (bank if side == "bank" else queries)[7, 3] = value
    for method in ("exact", "faiss"):
        with pytest.raises(UserError, match=f"{side} rows .* not finite"):
            nearest(bank, queries, 1, method=method)


def test_wrong_requests_are_refused():
    bank, queries = clusters(12, 50, 10, 8, 1.0)
    with pytest.raises(UserError, match="k = 51"):
        nearest(bank, queries, 51)
    with pytest.raises(UserError, match="k = 0"):
        nearest(bank, queries, 0)
    with pytest.raises(UserError, match="float64"):
        nearest(bank.astype(np.float64), queries, 1)
    with pytest.raises(UserError, match="one side only"):
        nearest(bank, queries, 1, bank_groups=np.zeros(50, np.int64))
    with pytest.raises(UserError, match="outside its own group"):
        nearest(bank, queries, 1, bank_groups=np.zeros(50, np.int64), query_groups=np.zeros(10, np.int64))
    with pytest.raises(UserError, match="ranking"):
        nearest_without_top(bank, queries, np.zeros(8, np.int64), [0], 1)
    with pytest.raises(UserError, match="cannot remove 8"):
        nearest_without_top(bank, queries, np.arange(8), [0, 8], 1)


def test_no_queries_give_no_neighbours():
    bank, queries = clusters(13, 50, 0, 8, 1.0)
    assert nearest(bank, queries, 3).indices.shape == (0, 3)


def test_result_does_not_depend_on_the_number_of_workers(monkeypatch):
    bank, queries = clusters(14, 4_000, 100, 32, 1e-2)
    several = nearest(bank, queries, 9)
    monkeypatch.setattr(module.os, "sched_getaffinity", lambda _: {0})
    one = nearest(bank, queries, 9)
    np.testing.assert_array_equal(several.indices, one.indices)
    np.testing.assert_array_equal(several.squared_distances, one.squared_distances)


@pytest.mark.parametrize(
    ("cores", "megabytes", "workers"),
    [
        (2, 64, 2),
        (2, 16, 1),
        (16, 64, 4),
        (16, 128, 8),
        (16, 256, 16),
        (64, 256, 16),
        (64, 1024, 64),
        (6, 64, 3),
        (1, 64, 1),
    ],
)
def test_less_memory_takes_fewer_workers_and_not_one_at_once(monkeypatch, cores, megabytes, workers):
    monkeypatch.setattr(module.os, "sched_getaffinity", lambda _: set(range(cores)))
    chosen = module.plan(451_584, 188_160, 768, 1, 13, 4, megabytes << 20)
    assert (chosen.workers, chosen.block_rows >= 512 or workers == 1) == (workers, True)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_product_accumulates_and_checks_its_operands(dtype):
    rng = np.random.default_rng(15)
    left, right = rng.standard_normal((7, 5)).astype(dtype), rng.standard_normal((9, 5)).astype(dtype)
    out = np.full((7, 9), np.nan, dtype)
    product(left, right, out, add=False)
    np.testing.assert_allclose(out, left @ right.T, rtol=1e-5, atol=1e-6)
    product(left, right, out, add=True)
    np.testing.assert_allclose(out, 2 * left @ right.T, rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="C-contiguous"):
        product(left, right, np.asfortranarray(out), add=True)


def test_a_second_moment_is_added_to_the_lower_triangle():
    rng = np.random.default_rng(3)
    rows, out = rng.normal(size=(50, 7)), np.full((7, 7), 2.0)
    add_second_moment(rows, out)
    np.testing.assert_allclose(np.tril(out), np.tril(rows.T @ rows + 2.0), rtol=1e-12)
    assert (out[np.triu_indices(7, 1)] == 2.0).all()
    add_second_moment(rows[:0], out)
    with pytest.raises(ValueError, match="must be C-contiguous and float64"):
        add_second_moment(rows[:, ::-1], out)


def test_pairs_in_order_give_the_neighbours_of_pairs_in_any_order():
    rng = np.random.default_rng(4)
    size, k = 30, 5
    counts = rng.integers(0, 12, size)
    query = np.repeat(np.arange(size), counts)
    row = np.concatenate([np.sort(rng.choice(1000, count, replace=False)) for count in counts])
    distance = rng.integers(0, 4, query.size).astype(float)  # with ties, which the row decides
    [ordered], [mixed] = empty_levels(size + 2, k, 1), empty_levels(size + 2, k, 1)
    merge(ordered, 1, size, query, row, distance)
    shuffled = rng.permutation(query.size)
    merge(mixed, 1, size, query[shuffled], row[shuffled], distance[shuffled])
    np.testing.assert_array_equal(ordered.indices, mixed.indices)
    np.testing.assert_array_equal(ordered.squared_distances, mixed.squared_distances)
    assert (ordered.indices[1:-1] >= 0).sum() == np.minimum(counts, k).sum()
