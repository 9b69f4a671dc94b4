"""k nearest neighbours: exact in float64, or by plain FAISS; for one or many sets of removed features.

"Exact" means ordered by (float64 squared distance of the stored values by direct differences, index), as by float64
brute force; `evaluate.neighbours.blocks` derives the error bound that guarantees it.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Float64, Int64, Integer

from evaluate.neighbours.blocks import has_same_plan, most_bytes, search
from evaluate.neighbours.device import search_on
from evaluate.neighbours.faiss_library import query_bytes, search_flat
from evaluate.neighbours.found import MergedNeighbours, sections
from evaluate.neighbours.found import Method as Method
from evaluate.neighbours.found import Metric as Metric
from evaluate.neighbours.found import Neighbours as Neighbours
from evaluate.neighbours.operands import Frame, Groups, Rows, frame_of, largest_magnitude, squared_distances
from stores.errors import UserError

DEFAULT_MEMORY_BYTES = 1 << 30
"""Memory a search may use beside its inputs and its result, in bytes."""
SEARCH_BYTES = 64 << 20
"""Memory that a search is given at least, in bytes: with less its blocks become small and it slow."""


def nearest(
    bank: Float[np.ndarray, "bank channel"],
    queries: Float[np.ndarray, "query channel"],
    k: int,
    *,
    metric: Metric = "euclidean",
    bank_groups: Integer[np.ndarray, " bank"] | None = None,
    query_groups: Integer[np.ndarray, " query"] | None = None,
    method: Method = "exact",
    memory_bytes: int = DEFAULT_MEMORY_BYTES,
    device: str | None = None,
) -> Neighbours:
    """Return the k nearest bank rows of each query.

    Raises UserError for wrong shapes or types, values that are not finite, fewer than ``k`` allowed bank rows, or
    ``memory_bytes`` that do not suffice.

    Args:
        bank: rows to search among, stored values in float16 or float32.
        queries: rows whose neighbours are searched, of the same array.
        k: neighbours of each query.
        metric: ``cosine`` normalises rows in float64; a row of zeros stays zero, so that its squared distance to any
            other row is 1 and to another zero row 0.
        bank_groups: group of each bank row; rows of a query's own group are left out (own-image exclusion).
        query_groups: group of each query.
        method: ``faiss`` is FAISS's flat index: float32 norm expansion, whose order is wrong where squared distances
            differ by less than its rounding.
        memory_bytes: memory beside inputs and result.
        device: where torch computes the products, such as ``cuda``; None for numpy and SciPy. Exact neighbours are the
            same everywhere.
    """
    _check(bank, queries, k)
    groups = _groups(bank, queries, k, bank_groups, query_groups)
    rows = Rows(bank, None, metric == "cosine"), Rows(queries, None, metric == "cosine")
    frame = _frame(*rows)
    if method == "faiss":
        level = search_flat(*rows, k, groups, memory_bytes, device)
        return Neighbours(level.indices, level.squared_distances, 0.0, "faiss", metric)
    return _exact(*rows, k, [0], frame, groups, memory_bytes, device)[0]


def nearest_without_top(
    bank: Float[np.ndarray, "bank channel"],
    queries: Float[np.ndarray, "query channel"],
    ranking: Integer[np.ndarray, " channel"],
    removed: Sequence[int],
    k: int,
    *,
    metric: Metric = "euclidean",
    bank_groups: Integer[np.ndarray, " bank"] | None = None,
    query_groups: Integer[np.ndarray, " query"] | None = None,
    memory_bytes: int = DEFAULT_MEMORY_BYTES,
    device: str | None = None,
) -> dict[int, Neighbours]:
    """Return, for each m of ``removed``, the exact neighbours on the features ``ranking[m:]``.

    Distances are summed in the order of ``ranking[m:]``. For the Euclidean metric all m share one product; the cosine
    metric searches once for each m, because norms change with the features. On a CPU a bank without groups is searched
    section by section (`evaluate.neighbours.found`). Raises UserError as `nearest`.

    Args:
        bank: rows to search among, stored values in float16 or float32.
        queries: rows whose neighbours are searched, of the same array.
        ranking: all feature numbers by decreasing variance.
        removed: numbers m of features to remove.
        k: neighbours of each query.
        metric: as in `nearest`.
        bank_groups: group of each bank row; rows of a query's own group are left out.
        query_groups: group of each query.
        memory_bytes: memory beside inputs and result.
        device: as in `nearest`.
    """
    _check(bank, queries, k)
    if not np.array_equal(np.sort(ranking), np.arange(bank.shape[1])):
        raise UserError(f"ranking must hold each of the {bank.shape[1]} feature numbers once; compute it on this array")
    wrong = [m for m in removed if not 0 <= m < bank.shape[1]]
    if wrong:
        raise UserError(f"cannot remove {wrong[0]} of {bank.shape[1]} features; choose 0 to {bank.shape[1] - 1}")
    groups = _groups(bank, queries, k, bank_groups, query_groups)
    order = ranking.astype(np.int64)
    levels = sorted(set(removed), reverse=True)
    cut = sections(len(bank)) if groups is None and device is None else [(0, len(bank))]
    if len(cut) == 1:
        found = _without_top(bank, queries, order, levels, k, metric, groups, memory_bytes, device)
        return {m: found[m] for m in removed}
    merged = {m: MergedNeighbours(len(queries), k) for m in levels}
    memory_bytes -= min(memory_bytes // 2, len(queries) * len(levels) * (16 * k + 1))  # the merged neighbours
    for start, stop in cut:
        section, fewer = bank[start:stop], min(k, stop - start)
        for m, some in _without_top(section, queries, order, levels, fewer, metric, None, memory_bytes, None).items():
            merged[m].add(start, some)
    return {m: merged[m].neighbours(metric) for m in removed}


def _without_top(
    bank: np.ndarray,
    queries: np.ndarray,
    order: Int64[np.ndarray, " channel"],
    levels: list[int],
    k: int,
    metric: Metric,
    groups: Groups | None,
    memory_bytes: int,
    device: str | None,
) -> dict[int, Neighbours]:
    """Return the neighbours of one section, or of a whole bank, for every m of ``levels``, which decrease."""
    found: dict[int, Neighbours] = {}
    if metric == "cosine":
        for m in levels:
            pair = Rows(bank, order[m:], True), Rows(queries, order[m:], True)
            found[m] = _exact(*pair, k, [0], _frame(*pair), groups, memory_bytes, device)[0]
    elif levels:
        pair = Rows(bank, order, False), Rows(queries, order, False)
        frame = _frame(*pair)
        copy_bytes = bank.nbytes + queries.nbytes
        sizes = bank.shape[0], queries.shape[0], bank.shape[1], k
        has_room = has_same_plan(*sizes, len(levels), groups is not None, memory_bytes, memory_bytes - copy_bytes)
        if device is None and has_room:
            # A permuted copy is read in whole runs, which is faster than gathering columns.
            pair = (
                Rows(np.take(bank, order, axis=1), None, False),
                Rows(np.take(queries, order, axis=1), None, False),
            )
            memory_bytes -= copy_bytes
        found = dict(zip(levels, _exact(*pair, k, levels, frame, groups, memory_bytes, device), strict=True))
    return found


def peak_bytes(n_queries: int, k: int, n_levels: int, bank: tuple[int, int] | None = None) -> int:
    """Return the bytes of an exact search that is given `SEARCH_BYTES`, with its result, beside its inputs.

    Args:
        n_queries: rows whose neighbours are searched.
        k: neighbours of each query.
        n_levels: sets of removed features of one search.
        bank: number and width of the bank's rows, of which a small one takes less than is given; None counts it all.
    """
    results = n_levels * ((8 + 8) * k + 1)  # a query: int64 rows, float64 distances, and whether it is redone
    taken = SEARCH_BYTES if bank is None else min(SEARCH_BYTES, most_bytes(bank[0], n_queries, bank[1], k, n_levels))
    return taken + n_queries * results


def faiss_peak_bytes(n_queries: int, n_channels: int, k: int) -> int:
    """Return the bytes that ``method="faiss"`` is given, beside its inputs and its result."""
    return SEARCH_BYTES + query_bytes(n_queries, n_channels, k)


def _check(bank: np.ndarray, queries: np.ndarray, k: int) -> None:
    for name, array in (("bank", bank), ("query", queries)):
        if array.dtype not in (np.float16, np.float32):
            raise UserError(f"{name} rows are {array.dtype}; neighbours are searched in float16 or float32")
    if bank.shape[1] != queries.shape[1] or bank.shape[1] == 0:
        raise UserError(
            f"bank rows have {bank.shape[1]} channels and query rows {queries.shape[1]}; take both from the same array"
        )
    if not 1 <= k <= bank.shape[0]:
        raise UserError(f"k = {k} neighbours of {bank.shape[0]} bank rows; choose k from 1 to that number")


def _groups(
    bank: np.ndarray,
    queries: np.ndarray,
    k: int,
    bank_groups: np.ndarray | None,
    query_groups: np.ndarray | None,
) -> Groups | None:
    if bank_groups is None and query_groups is None:
        return None
    if bank_groups is None or query_groups is None:
        raise UserError("groups were given for one side only; give bank_groups and query_groups, or neither")
    if bank_groups.shape != bank.shape[:1] or query_groups.shape != queries.shape[:1]:
        raise UserError(
            f"{bank_groups.size} bank groups and {query_groups.size} query groups for {bank.shape[0]} and "
            f"{queries.shape[0]} rows; give one group for each row"
        )
    codes = np.unique(np.concatenate([bank_groups, query_groups]), return_inverse=True)[1].astype(np.int64)
    groups = Groups(codes[: bank.shape[0]], codes[bank.shape[0] :])
    if queries.shape[0]:
        own = np.bincount(groups.bank, minlength=int(codes.max()) + 1)[groups.queries]
        if bank.shape[0] - own.max() < k:
            raise UserError(
                f"query {int(own.argmax())} has {bank.shape[0] - int(own.max())} bank rows outside its own group and "
                f"k is {k}; lower k or add images to the bank"
            )
    return groups


def _frame(bank: Rows, queries: Rows) -> Frame:
    largest = max(largest_magnitude(bank.array, "bank"), largest_magnitude(queries.array, "query"))
    return frame_of(bank, largest)


def _exact(
    bank: Rows,
    queries: Rows,
    k: int,
    levels: list[int],
    frame: Frame,
    groups: Groups | None,
    memory_bytes: int,
    device: str | None,
) -> list[Neighbours]:
    if device is None:
        searched = search(bank, queries, k, levels, frame, groups, np.float32, memory_bytes)
    else:
        searched = search_on(device, bank, queries, k, levels, frame, groups, memory_bytes)
    results = []
    for m, level in zip(levels, searched, strict=True):
        unresolved = np.flatnonzero(level.unresolved)
        # The same search in float64 bounds its errors 2^29 times tighter; queries that even this leaves open (hundreds
        # of equal rows) have all their distances sorted.
        part_rows = max(1, memory_bytes // (4 * queries.array.shape[1] * queries.array.itemsize))
        for begin in range(0, unresolved.size, part_rows):
            chosen = unresolved[begin : begin + part_rows]
            part = Rows(queries.array[chosen], queries.order, queries.unit)
            own = None if groups is None else Groups(groups.bank, groups.queries[chosen])
            again = search(bank, part, k, [m], frame, own, np.float64, memory_bytes - part.array.nbytes)[0]
            for query in np.flatnonzero(again.unresolved):
                again.indices[query], again.squared_distances[query] = _sorted(bank, part, int(query), k, m, own)
            level.indices[chosen], level.squared_distances[chosen] = again.indices, again.squared_distances
        share = unresolved.size / max(1, level.unresolved.size)
        of_level = level.indices, level.squared_distances, share
        results.append(Neighbours(*of_level, "exact", _metric(bank), level.unresolved))
    return results


def _sorted(
    bank: Rows, queries: Rows, query: int, k: int, m: int, groups: Groups | None
) -> tuple[Int64[np.ndarray, " k"], Float64[np.ndarray, " k"]]:
    """Return one query's neighbours from all its direct differences."""
    rows = np.arange(bank.array.shape[0])
    if groups is not None:
        rows = rows[groups.bank != groups.queries[query]]
    distances = squared_distances(bank, queries, rows, np.full(rows.size, query), m)
    order = np.argsort(distances, kind="stable")[:k]
    return rows[order], distances[order]


def _metric(rows: Rows) -> Metric:
    return "cosine" if rows.unit else "euclidean"
