"""Exact k nearest rows with float64 products in torch on a device; the numpy code on the host decides.

The notation and the bound are those of `evaluate.neighbours.blocks`, with u = 2^-53: any order of summation and fused
operations are allowed, so the products of a GPU are too (float64 ones, as PyTorch computes them by default). Stored
rows go to the device as they are and are centred and scaled there by the same two operations, to the same bits; rows of
the cosine metric are normalised on the host. Squared lengths are summed in another order there, which moves them by at
most D 2^-53 |y|^2, for which the bound has room: it counts 4 (D + 4) 2^-53 and needs half of that for the definition.

Rows that may be among the nearest come back to `Shortlist` and are rescored by direct differences. So every device
gives the same indices and distances, bit for bit.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float64, Int64

from evaluate.kernels.progress import report
from evaluate.neighbours.operands import (
    MASKED,
    Frame,
    Groups,
    Rows,
    score_errors,
    segment_edges,
    squared_distances,
)
from evaluate.neighbours.shortlist import Level, Shortlist, capacity_for, empty_levels, merge
from stores.errors import UserError

if TYPE_CHECKING:
    import torch

GROUP = 32
"""Bank rows that are compared with the threshold by their largest score first."""
_MOST_QUERIES, _MOST_ROWS = 4096, 16384
_SHARE = 0.8  # of the device's free memory


@dataclass(frozen=True)
class _Plan:
    queries: int
    """Queries of a block of scores."""
    rows: int
    """Bank rows of a block of scores, whole groups."""
    slab: int
    """Bank rows that are on the device at a time, whole blocks unless it is all."""


def _plan(n_bank: int, n_queries: int, width: int, k: int, n_levels: int, free: int, memory_bytes: int) -> _Plan:
    """Choose blocks that fit the device's ``free`` bytes and the host's ``memory_bytes``, or raise UserError."""
    row_bytes = 8 * (2 * (width + n_levels) + n_levels + 3)  # as an operand, and once more while it is made
    for shrink in range(8):
        queries, rows = max(64, _MOST_QUERIES >> shrink), max(GROUP, _MOST_ROWS >> shrink)
        queries, rows = min(queries, n_queries), min(rows, -(-n_bank // GROUP) * GROUP)
        # Candidates of every level with copies of those that are rescored, and the rows that one block may add.
        on_host = queries * capacity_for(k) * (n_levels * (8 + 4 + 40) + GROUP * 40)
        # Scores, their maxima and masks, and the groups that are looked at.
        scores = queries * (rows * 10 + capacity_for(k) * GROUP * 24) + queries * row_bytes
        slab = min(n_bank, (free - scores) // row_bytes)
        if on_host <= memory_bytes and slab >= min(rows, n_bank):
            return _Plan(queries, rows, slab if slab == n_bank else slab // rows * rows)
    raise UserError(
        f"a neighbour search of {n_bank:,} rows of {width:,} channels does not fit the device's free memory "
        f"({free:,} bytes) or the limit of this process ({memory_bytes:,}): raise --memory, or use --device cpu"
    )


def _free_bytes(device: str, memory_bytes: int) -> int:
    """Return the bytes that a search may take on a device; the host's own count as the rest of its limit."""
    import torch

    if device.startswith("cuda"):
        return int(_SHARE * torch.cuda.mem_get_info(device)[0])
    return memory_bytes


def search_on(
    device: str,
    bank: Rows,
    queries: Rows,
    k: int,
    removed: Sequence[int],
    frame: Frame,
    groups: Groups | None,
    memory_bytes: int,
) -> list[Level]:
    """Return what `evaluate.neighbours.blocks.search` returns in float64, with the products on a device.

    Args:
        device: torch's name of it, such as ``cuda:0``.
        bank: rows to search among.
        queries: rows whose neighbours are searched.
        k: neighbours of each query.
        removed: numbers of leading columns to leave out, strictly decreasing.
        frame: centre and scale of the products.
        groups: with groups given, rows of a query's own group are left out.
        memory_bytes: memory of the host beside the inputs and the result.
    """
    n_bank, n_queries = bank.array.shape[0], queries.array.shape[0]
    levels = empty_levels(n_queries, k, len(removed))
    if not n_queries:
        return levels
    error, underflow = score_errors(bank.width, len(removed), np.float64)
    free = _free_bytes(device, memory_bytes)
    blocks = _plan(n_bank, n_queries, bank.width, k, len(removed), free, memory_bytes)
    task = _DeviceSearch(device, bank, queries, k, removed, frame, groups, error, underflow, blocks)
    starts = range(0, n_queries, blocks.queries)
    n_done, n_blocks = 0, len(starts) * len(range(0, n_bank, blocks.slab))
    for begin in range(0, n_bank, blocks.slab):
        slab = task.operand(bank, begin, min(begin + blocks.slab, n_bank), is_bank=True)
        for start in starts:
            task.block(slab, begin, start, levels)
            n_done += 1
            report("blocks of distances", n_done, n_blocks)
        del slab
    return levels


@dataclass(frozen=True)
class _Operand:
    segments: "list[torch.Tensor]"
    """Centred, scaled columns of each level, lowest variance first, with one extra column as in `Operand`."""
    squares: "torch.Tensor"
    """Squared length up to each level, ``(level, row)``."""


@dataclass(frozen=True)
class _DeviceSearch:
    device: str
    bank: Rows
    queries: Rows
    k: int
    removed: Sequence[int]
    frame: Frame
    groups: Groups | None
    error: float
    underflow: float
    plan: _Plan

    def operand(self, rows: Rows, begin: int, end: int, *, is_bank: bool) -> _Operand:
        """Return rows ``begin:end`` on the device; those of a bank with filling rows up to whole groups."""
        import torch

        edges = segment_edges(rows.width, self.removed)
        size = -(-(end - begin) // GROUP) * GROUP if is_bank else end - begin
        zeros = partial(torch.zeros, dtype=torch.float64, device=self.device)
        segments = [zeros((size, stop - start + 1)) for start, stop in edges]
        squares = zeros((len(edges), size))
        if is_bank:
            segments[0][:, -1] = MASKED
        centre = torch.from_numpy(self.frame.centre).to(self.device)
        order = None if rows.order is None else torch.from_numpy(np.ascontiguousarray(rows.order)).to(self.device)
        step = rows.chunk_rows() * 16
        for first in range(begin, end, step):
            last = min(first + step, end)
            if rows.unit:
                values = torch.from_numpy(rows.float64(slice(first, last))).to(self.device)
            else:
                stored = torch.from_numpy(np.array(rows.array[first:last])).to(self.device)
                values = (stored if order is None else stored[:, order]).to(torch.float64)
            values = (values - centre) * self.frame.scale
            written = slice(first - begin, last - begin)
            for number, (start, stop) in enumerate(edges):
                part = values[:, start:stop]
                lengths = (part * part).sum(dim=1)
                segments[number][written, :-1] = part
                segments[number][written, -1] = (self.error - 0.5) * lengths if is_bank else 1.0
                squares[number:, written] += lengths
        return _Operand(segments, squares)

    def block(self, slab: _Operand, begin: int, start: int, levels: list[Level]) -> None:
        """Search the rows of one slab for one block of queries and merge the neighbours into ``levels``."""
        import torch

        stop = min(start + self.plan.queries, self.queries.array.shape[0])
        own = self.operand(self.queries, start, stop, is_bank=False)
        lists = []
        for squares, level in zip(own.squares.cpu().numpy(), levels, strict=True):
            slack = self.error * squares + 2 * self.underflow
            kth = level.squared_distances[start:stop, -1] * self.frame.scale**2
            lists.append(Shortlist(self.k, slack, (squares - kth) / 2, np.float64))
        rows = slab.squares.shape[1]
        for first in range(0, rows, self.plan.rows):
            last = min(first + self.plan.rows, rows)
            scores = torch.zeros((stop - start, last - first), dtype=torch.float64, device=self.device)
            for number, shortlist in enumerate(lists):
                scores.addmm_(own.segments[number], slab.segments[number][first:last].T)
                if number == 0 and self.groups is not None:
                    self._exclude(scores, begin + first, start)
                self._offer(shortlist, scores, 2 * self.error * slab.squares[number, first:last], begin + first)
        for column, shortlist, level in zip(self.removed, lists, levels, strict=True):
            query, row = shortlist.candidates()
            distance = squared_distances(self.bank, self.queries, row, query + start, column)
            level.unresolved[start:stop] |= shortlist.overflowed
            merge(level, start, stop - start, query, row, distance)

    def _exclude(self, scores: "torch.Tensor", first_row: int, first_query: int) -> None:
        import torch

        assert self.groups is not None
        bank = self.groups.bank[first_row : first_row + scores.shape[1]]
        queries = self.groups.queries[first_query : first_query + scores.shape[0]]
        sides = [torch.from_numpy(np.ascontiguousarray(side)).to(self.device) for side in (queries, bank)]
        scores[:, : len(bank)].masked_fill_(sides[0][:, None] == sides[1], -torch.inf)

    def _offer(self, shortlist: Shortlist, scores: "torch.Tensor", margin: "torch.Tensor", first_row: int) -> None:
        """Add the candidates of a block of scores, queries by bank rows."""
        import torch

        grouped = scores.view(scores.shape[0], -1, GROUP)
        maxima = grouped.amax(dim=2)
        if maxima.shape[1] >= self.k:
            # k groups hold k different rows, so the k-th largest lower bound of group maxima is valid.
            lower = maxima - margin.view(-1, GROUP).amax(dim=1)
            shortlist.reached(lower.topk(self.k, dim=1).values[:, -1].cpu().numpy())
        threshold = torch.from_numpy(shortlist.threshold).to(self.device)[:, None]
        passing = maxima >= threshold
        crowded = passing.sum(dim=1) > capacity_for(self.k)
        if bool(crowded.any()):  # hundreds of equal rows
            shortlist.overflow(crowded.nonzero()[:, 0].cpu().numpy())
            passing &= ~crowded[:, None]
        query, group = passing.nonzero(as_tuple=True)
        if not len(query):
            return
        near = grouped[query, group]
        pair, offset = (near >= threshold[query]).nonzero(as_tuple=True)
        row = group[pair] * GROUP + offset
        value = near[pair, offset]
        found = (query[pair], row + first_row, value, value - margin[row])
        shortlist.add(*_numpy(found))


def _numpy(
    found: "tuple[torch.Tensor, ...]",
) -> tuple[
    Int64[np.ndarray, " new"], Int64[np.ndarray, " new"], Float64[np.ndarray, " new"], Float64[np.ndarray, " new"]
]:
    query, row, score, lower = (one.cpu().numpy() for one in found)
    return query, row, score, lower
