"""Exact k nearest rows, for one or more trailing column sets, by blocks of matrix products with an error bound.

Notation: x is a query, y a bank row, both centred and scaled (`evaluate.neighbours.operands.Frame`), u the unit
roundoff of the products (2^-24 or 2^-53), n the number of terms of a score. Since |x - y|^2 = |x|^2 - 2 s with
the score s = x.y - |y|^2 / 2, near rows are rows of large score, and the |y|^2 part is one more column of the
product. In any order of summation, with or without fused operations, the computed score differs from s by at
most gamma_n (|x| |y| + |y|^2 / 2), gamma_n = n u / (1 - n u) (Higham, Accuracy and Stability of Numerical
Algorithms, 2nd ed., equation 3.5), which is at most gamma_n (|x|^2 / 2 + |y|^2). Rounding of the centred rows
moves |x - y|^2 / 2 by at most u (|x| + |y|)^2 <= 2 u (|x|^2 + |y|^2), rounding of the extra column and of |y|^2 by
at most 2 u |y|^2, rounding of a lower score by u (|x|^2 / 2 + |y|^2), and the definition itself, direct differences
in float64, by at most (D + 4) 2^-53 (|x|^2 + |y|^2). All of them stay below

    e (|x|^2 / 2 + |y|^2) + a,   e = 1.01 gamma_n + 16 u + 4 (D + 4) 2^-53,

where 1.01 covers products of roundings (gamma_n <= 0.01 is checked) and a = 32 n times the smallest normal number
covers underflow. e |y|^2 is added to the extra column, so that a computed score c is an upper score; c - 2 e |y|^2
is a lower one, both up to e |x|^2 / 2 + a. A row that is among the k nearest has c >= (k-th largest lower score of
any rows) - e |x|^2 - 2 a. All rows that pass are rescored by direct differences; no other row can matter.

With columns in order of decreasing variance the scores without the first m columns are, for all m, partial sums
of one product, accumulated from the last column on (squared distances are sums over columns).
"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from evaluate.kernels.blas import product
from evaluate.kernels.moments import convert_alone
from evaluate.kernels.progress import report
from evaluate.neighbours.operands import (
    CHUNK_BYTES,
    Frame,
    Groups,
    Operand,
    Rows,
    empty_operand,
    exclude,
    fill_operand,
    groups_bytes,
    score_errors,
    segment_edges,
    squared_distances,
)
from evaluate.neighbours.shortlist import Level, Shortlist, capacity_for, empty_levels, merge
from stores.errors import UserError

_BLOCKS = ((2048, 1024), (1024, 512), (512, 128), (128, 32), (64, 4))
"""Bank rows and queries of a block of scores, largest first; the first that fits into the memory is taken."""


@dataclass(frozen=True)
class _Plan:
    block_rows: int
    """Bank rows of a block of scores."""
    block_queries: int
    """Queries of a block of scores."""
    group: int
    """Bank rows of a run, by whose largest scores queries get their first threshold."""
    slab_rows: int
    """Bank rows that are prepared as an operand at a time."""
    workers: int
    """Threads."""


def _n_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


def _row_bytes(width: int, n_levels: int, itemsize: int) -> int:
    """Return the bytes of a row as an operand."""
    return (width + n_levels) * itemsize + 16 * n_levels + 24


def _query_bytes(block_rows: int, width: int, k: int, n_levels: int, itemsize: int) -> int:
    """Return what a query of a block holds: scores, group maxima with masks and temporaries, candidates, its row."""
    candidates = capacity_for(k) * n_levels * (2 * itemsize + 4 + 40)
    return block_rows * (2 * itemsize + 2) + candidates + _row_bytes(width, n_levels, itemsize)


def _piece_bytes(width: int) -> int:
    """Return the float64 pieces of rows that a worker holds."""
    return 6 * max(CHUNK_BYTES, 8 * width)


def plan(n_bank: int, n_queries: int, width: int, k: int, n_levels: int, itemsize: int, memory_bytes: int) -> _Plan:
    """Choose block sizes that keep the search within ``memory_bytes``; raises UserError if none do.

    Args:
        n_bank: bank rows.
        n_queries: query rows.
        width: channels of a row.
        k: neighbours of each query.
        n_levels: sets of removed channels.
        itemsize: bytes of a number of the products, 4 or 8.
        memory_bytes: memory beside the inputs and the result.
    """
    n_cores, row_bytes, needed = _n_cores(), _row_bytes(width, n_levels, itemsize), 0
    # All cores, half of them, and so on. Small blocks, five times slower a product, are left to one worker.
    for workers in [n_cores >> halved for halved in range(n_cores.bit_length())]:
        for block_rows, block_queries in _BLOCKS if workers == 1 else _BLOCKS[:3]:
            rows, queries = min(block_rows, n_bank), min(block_queries, n_queries)
            fixed = workers * (queries * _query_bytes(rows, width, k, n_levels, itemsize) + _piece_bytes(width))
            needed = fixed + rows * row_bytes
            if needed <= memory_bytes:
                slab = min(n_bank, (memory_bytes - fixed) // row_bytes)
                group = next(size for size in (32, 16, 8, 4, 2, 1) if size == 1 or rows >= 4 * size * k)
                rounds = -(-n_queries // (block_queries * workers))
                even = -(-n_queries // (rounds * workers))
                rows = -(-rows // group) * group
                return _Plan(rows, even, group, slab if slab == n_bank else slab // rows * rows, workers)
    raise UserError(
        f"the neighbour search needs at least {needed:,} bytes beside its inputs and may use {memory_bytes:,}; "
        "raise memory_bytes or lower k"
    )


def most_bytes(n_bank: int, n_queries: int, width: int, k: int, n_levels: int) -> int:
    """Return the bytes that a search takes beside its inputs and its result however many it is given.

    That is the plan with the largest blocks and the whole bank at once, in float64: every query may be redone, from a
    copy of its row. Of equal rows all scores of a block are gathered too, with their places. Large banks are searched
    in slabs with less.

    Args:
        n_bank: bank rows.
        n_queries: query rows.
        width: channels of a row.
        k: neighbours of each query.
        n_levels: sets of removed channels.
    """
    (block_rows, block_queries), workers = _BLOCKS[0], _n_cores()
    at_work = min(n_queries, workers * block_queries)  # queries, shared evenly
    rows = min(block_rows, n_bank)
    fixed = at_work * (_query_bytes(rows, width, k, n_levels, 8) + 16 * rows) + workers * _piece_bytes(width)
    copies = groups_bytes(n_bank, n_queries) + 4 * width * n_queries
    return fixed + n_bank * _row_bytes(width, n_levels, 8) + copies


def has_same_plan(
    n_bank: int, n_queries: int, width: int, k: int, n_levels: int, has_groups: bool, memory_bytes: int, less: int
) -> bool:
    """Return whether a search has the same block sizes with less memory, and enough to redo queries in float64.

    Args:
        n_bank: bank rows.
        n_queries: query rows.
        width: channels of a row.
        k: neighbours of each query.
        n_levels: sets of removed channels.
        has_groups: whether rows of a query's own group are left out.
        memory_bytes: memory beside the inputs and the result.
        less: the smaller memory.
    """
    reserved = groups_bytes(n_bank, n_queries) if has_groups else 0
    try:
        plan(n_bank, n_queries, width, k, 1, 8, less - reserved)
        plans = [plan(n_bank, n_queries, width, k, n_levels, 4, given - reserved) for given in (memory_bytes, less)]
    except UserError:
        return False
    return plans[0] == plans[1]


def search(
    bank: Rows,
    queries: Rows,
    k: int,
    removed: Sequence[int],
    frame: Frame,
    groups: Groups | None,
    dtype: type[np.float32] | type[np.float64],
    memory_bytes: int,
) -> list[Level]:
    """Return the k nearest bank rows of each query, for each number of removed columns.

    Each query must have at least ``k`` bank rows outside its own group. Raises UserError when the rows are too wide
    for the bound or the memory does not suffice.

    Args:
        bank: rows to search among.
        queries: rows whose neighbours are searched.
        k: neighbours of each query.
        removed: numbers of leading columns to leave out, strictly decreasing.
        frame: centre and scale of the products.
        groups: with groups given, rows of a query's own group are left out.
        dtype: type of the products.
        memory_bytes: memory beside the inputs and the result.
    """
    n_bank, n_queries = bank.array.shape[0], queries.array.shape[0]
    levels = empty_levels(n_queries, k, len(removed))
    if not n_queries:
        return levels
    error, underflow = score_errors(bank.width, len(removed), dtype)
    if groups is not None:
        memory_bytes -= groups_bytes(n_bank, n_queries)
    blocks = plan(n_bank, n_queries, bank.width, k, len(removed), np.dtype(dtype).itemsize, memory_bytes)
    task = _Search(bank, queries, k, removed, frame, groups, dtype, error, underflow, blocks)
    starts = range(0, n_queries, blocks.block_queries)
    n_done, n_blocks = 0, len(starts) * len(range(0, n_bank, blocks.slab_rows))
    # One thread a product and several products at a time: the steps between products then use all cores too.
    prepare = convert_alone if np.float16 in (bank.array.dtype, queries.array.dtype) else None
    with threadpool_limits(limits=1, user_api="blas"), ThreadPoolExecutor(blocks.workers, initializer=prepare) as pool:
        for begin in range(0, n_bank, blocks.slab_rows):
            slab = task.slab(begin, min(begin + blocks.slab_rows, n_bank), pool)
            for _ in pool.map(lambda start, slab=slab: task.block(slab, start, levels), starts):
                n_done += 1
                report("blocks of distances", n_done, n_blocks)
    return levels


@dataclass(frozen=True)
class _Slab:
    operand: Operand
    begin: int
    end: int
    order: list[Int64[np.ndarray, " _"]]
    """Rows of each block by group; empty without groups."""
    codes: list[Int64[np.ndarray, " _"]]
    """Their groups, ascending."""


@dataclass(frozen=True)
class _Search:
    bank: Rows
    queries: Rows
    k: int
    removed: Sequence[int]
    frame: Frame
    groups: Groups | None
    dtype: type[np.float32] | type[np.float64]
    error: float
    underflow: float
    plan: _Plan

    def slab(self, begin: int, end: int, pool: ThreadPoolExecutor) -> _Slab:
        """Prepare bank rows ``begin:end``, with filling rows up to whole groups."""
        edges = segment_edges(self.bank.width, self.removed)
        rows = -(-(end - begin) // self.plan.group) * self.plan.group
        operand = empty_operand(rows, edges, self.dtype)
        for _ in pool.map(
            lambda start: fill_operand(
                operand, start - begin, self.bank, start, min(start + 1024, end), self.frame, edges, self.error
            ),
            range(begin, end, 1024),
        ):
            pass
        order, codes = [], []
        if self.groups is not None:
            for start in range(begin, end, self.plan.block_rows):
                block = self.groups.bank[start : min(start + self.plan.block_rows, end)]
                order.append(np.argsort(block, kind="stable"))
                codes.append(block[order[-1]])
        return _Slab(operand, begin, end, order, codes)

    def block(self, slab: _Slab, start: int, levels: list[Level]) -> None:
        """Search one slab for one block of queries and merge the neighbours into ``levels``."""
        stop = min(start + self.plan.block_queries, self.queries.array.shape[0])
        size = stop - start
        edges = segment_edges(self.bank.width, self.removed)
        own = empty_operand(size, edges, self.dtype)
        fill_operand(own, 0, self.queries, start, stop, self.frame, edges, None)
        lists = []
        for squares, level in zip(own.squares, levels, strict=True):
            slack = self.error * squares + 2 * self.underflow
            kth = level.squared_distances[start:stop, -1] * self.frame.scale**2
            lists.append(Shortlist(self.k, slack, (squares - kth) / 2, self.dtype))
        buffer = np.empty(self.plan.block_rows * size, self.dtype)
        rows = slab.operand.squares.shape[1]
        for number, first in enumerate(range(0, rows, self.plan.block_rows)):
            last = min(first + self.plan.block_rows, rows)
            scores = buffer[: (last - first) * size].reshape(last - first, size)
            for index, shortlist in enumerate(lists):
                product(slab.operand.segments[index][first:last], own.segments[index], scores, add=index > 0)
                if index == 0 and self.groups is not None:
                    exclude(scores, slab.order[number], slab.codes[number], self.groups.queries[start:stop])
                margin = (2 * self.error * slab.operand.squares[index, first:last]).astype(self.dtype)
                shortlist.offer(scores, slab.begin + first, margin, self.plan.group)
        for first_column, shortlist, level in zip(self.removed, lists, levels, strict=True):
            query, row = shortlist.candidates()
            distance = squared_distances(self.bank, self.queries, row, query + start, first_column)
            level.unresolved[start:stop] |= shortlist.overflowed
            merge(level, start, size, query, row, distance)
