"""Rows of a neighbour search: their exact distances in float64, and the same rows as operands of matrix products."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Float, Float64, Int64

from evaluate.kernels.moments import read_float32
from stores.errors import UserError

CHUNK_BYTES = 1 << 20
"""Size of one float64 piece of rows, in bytes: small enough to stay in a core's cache."""

MASKED = -1e38
"""Score of the rows that fill up a block."""
FLOOR = -1e37
"""Rows of a lower score are no candidates."""

_HALF_INFINITY = 0x7C00  # bit pattern of float16 infinity; larger patterns are NaN


@dataclass(frozen=True)
class Rows:
    """Stored rows, with the columns and the metric of their distances."""

    array: Float[np.ndarray, "row channel"]
    order: Int64[np.ndarray, " kept"] | None
    """Columns to use, in this order; None takes all as stored."""
    unit: bool
    """Whether rows are normalised to unit length in float64 (a zero row stays zero), for the cosine metric."""

    @property
    def width(self) -> int:
        """Number of columns used."""
        return int(self.array.shape[1] if self.order is None else self.order.size)

    def float64(self, rows: slice | Int64[np.ndarray, " chosen"], first: int = 0) -> Float64[np.ndarray, "chosen kept"]:
        """Return the chosen rows without their ``first`` columns, in float64 and normalised if the metric is cosine."""
        if self.order is not None:
            stored = np.take(self.array[rows], self.order[first:], axis=1)
        elif isinstance(rows, np.ndarray) and not first and self.array.flags.c_contiguous:
            stored = self.array.take(rows, axis=0)  # faster than an index, but copies what is not contiguous
        else:
            stored = self.array[:, first:][rows]
        values = _float64(stored)
        if self.unit:
            norms = np.sqrt(np.square(values).sum(axis=1))
            norms[norms == 0] = 1.0
            values /= norms[:, None]
        return values

    def chunk_rows(self) -> int:
        """Return how many rows make one float64 piece of about `CHUNK_BYTES`."""
        return max(1, CHUNK_BYTES // (8 * self.width))


def _float64(stored: Float[np.ndarray, "row kept"]) -> Float64[np.ndarray, "row kept"]:
    """Return a copy in float64, by way of float32 where that is faster: both are exact."""
    if stored.dtype != np.float16:
        return stored.astype(np.float64, order="C")
    narrow = np.empty(stored.shape, np.float32)
    read_float32(stored, narrow)
    return narrow.astype(np.float64)


@dataclass(frozen=True)
class Frame:
    """Centre that is subtracted from rows before products, and their scale; neither changes which rows are nearest."""

    centre: Float64[np.ndarray, " kept"]
    scale: float
    """A power of two, so that scaling is exact."""


@dataclass(frozen=True)
class Operand:
    """Rows cut into column segments, lowest variance first, each with one extra column.

    The extra column is 1 for a query, and for a bank row the part of its score that does not depend on the query.
    """

    segments: list[Float[np.ndarray, "row _"]]
    squares: Float64[np.ndarray, "level row"]
    """Squared length of the centred, scaled rows up to each level."""


def squared_distances(
    bank: Rows,
    queries: Rows,
    bank_rows: Int64[np.ndarray, " pair"],
    query_rows: Int64[np.ndarray, " pair"],
    first: int = 0,
) -> Float64[np.ndarray, " pair"]:
    """Return the squared Euclidean distance of each pair by direct differences in float64.

    This is the definition that "exact" refers to. The bits of numpy's pairwise summation over a row do not depend on
    the other rows, so equal rows have equal distances.

    Args:
        bank: bank rows.
        queries: query rows.
        bank_rows: number of the bank row of each pair.
        query_rows: number of the query of each pair.
        first: leading columns to leave out.
    """
    result = np.empty(bank_rows.size)
    step = bank.chunk_rows()
    for begin in range(0, bank_rows.size, step):
        pairs = slice(begin, begin + step)
        difference = bank.float64(bank_rows[pairs], first)
        # Pairs come by query: each query is converted once for all of its pairs that are together.
        is_next = np.diff(query_rows[pairs], prepend=-1) != 0
        own = queries.float64(query_rows[pairs][is_next], first)
        difference -= own if len(own) == len(difference) else own.take(np.cumsum(is_next) - 1, axis=0)
        np.square(difference, out=difference)
        difference.sum(axis=1, out=result[pairs])
    return result


def largest_magnitude(array: Float[np.ndarray, "row channel"], name: str) -> float:
    """Return the largest absolute value; raises UserError when a value is not finite."""
    largest = 0.0
    step = max(1, CHUNK_BYTES // max(1, array.shape[1] * array.itemsize))
    for begin in range(0, array.shape[0], step):
        block = array[begin : begin + step]
        if array.dtype == np.float16:
            # Bit patterns without the sign are ordered as magnitudes, and integers compare much faster than float16.
            bits = int((np.ascontiguousarray(block).view(np.uint16) & 0x7FFF).max(initial=0))
            finite, value = bits < _HALF_INFINITY, float(np.array(bits, np.uint16).view(np.float16))
        else:
            value = max(float(block.max(initial=0)), -float(block.min(initial=0)))
            finite = bool(np.isfinite(value))
        if not finite:
            raise UserError(
                f"{name} rows {begin} to {begin + len(block) - 1} hold a value that is not finite; leave such rows out"
            )
        largest = max(largest, value)
    return largest


def frame_of(bank: Rows, largest: float) -> Frame:
    """Return the centre of the bank's rows, near their mean, and a scale that brings all values below 1.

    A common mean (of MAE's few huge features) cancels in distances but not in products, so it is subtracted first.
    Any centre is valid; this one is the mean of at most 4096 evenly spaced rows.
    """
    rows = bank.array.shape[0]
    chosen = np.unique(np.linspace(0, rows - 1, min(rows, 4096)).astype(np.int64))
    total = np.zeros(bank.width)
    step = bank.chunk_rows()
    for begin in range(0, chosen.size, step):
        total += bank.float64(chosen[begin : begin + step]).sum(axis=0)
    bound = 2.0 if bank.unit else 2.0 * largest
    return Frame(total / chosen.size, float(2.0 ** -np.frexp(bound)[1]) if bound else 1.0)


def score_errors(width: int, n_levels: int, dtype: type[np.float32] | type[np.float64]) -> tuple[float, float]:
    """Return e and a of the bound in `evaluate.neighbours.blocks`: relative error of scores, and that of underflow.

    Raises UserError when the rows are too wide for the bound.

    Args:
        width: channels of a row.
        n_levels: sets of removed channels, each of which adds a column.
        dtype: type of the products.
    """
    precision = float(np.finfo(dtype).eps) / 2
    terms = width + n_levels
    gamma = terms * precision / (1 - terms * precision)
    if not 0 <= gamma <= 0.01:
        raise UserError(f"rows of {width:,} channels are too wide for a float32 product; split the channels")
    return 1.01 * gamma + 16 * precision + 4 * (width + 4) * 2.0**-53, 32 * terms * float(np.finfo(dtype).tiny)


def segment_edges(width: int, removed: Iterable[int]) -> list[tuple[int, int]]:
    """Return column ranges of which the first j together are the columns left by the j-th of ``removed``.

    ``removed`` is strictly decreasing.
    """
    return [(low, high) for high, low in pairwise([width, *removed])]


def empty_operand(rows: int, edges: list[tuple[int, int]], dtype: type[np.floating]) -> Operand:
    """Return an operand of ``rows`` filling rows, which are no candidates for any query."""
    segments = [np.zeros((rows, stop - start + 1), dtype) for start, stop in edges]
    segments[0][:, -1] = MASKED
    return Operand(segments, np.zeros((len(edges), rows)))


def fill_operand(
    operand: Operand,
    offset: int,
    rows: Rows,
    begin: int,
    end: int,
    frame: Frame,
    edges: list[tuple[int, int]],
    error: float | None,
) -> None:
    """Write rows ``begin:end`` to the operand's rows from ``offset`` on.

    Args:
        operand: where the rows are written.
        offset: first row of the operand to write.
        rows: rows to read.
        begin: first row to read.
        end: row after the last to read.
        frame: centre and scale.
        edges: column ranges of the segments.
        error: relative error bound of a bank's scores, whose extra column becomes ``(error - 1/2) |y|^2`` of the
            segment; None for queries.
    """
    step = rows.chunk_rows()
    for first in range(begin, end, step):
        values = rows.float64(slice(first, min(first + step, end)))
        values -= frame.centre
        values *= frame.scale
        written = slice(offset + first - begin, offset + first - begin + len(values))
        for segment, (start, stop) in zip(operand.segments, edges, strict=True):
            segment[written, :-1] = values[:, start:stop]
        np.square(values, out=values)
        squares = np.stack([values[:, start:stop].sum(axis=1) for start, stop in edges])
        for segment, part in zip(operand.segments, squares, strict=True):
            segment[written, -1] = 1.0 if error is None else (error - 0.5) * part
        operand.squares[:, written] = np.cumsum(squares, axis=0)


@dataclass(frozen=True)
class Groups:
    """Group number of every bank row and query; rows of a query's own group are left out."""

    bank: Int64[np.ndarray, " bank"]
    queries: Int64[np.ndarray, " query"]


def groups_bytes(n_bank: int, n_queries: int) -> int:
    """Return the bytes of numbering the groups of all rows: five int64 arrays, sorted and put back in order."""
    return 5 * 8 * (n_bank + n_queries)


def exclude(
    scores: np.ndarray,
    order: Int64[np.ndarray, " rows"],
    codes: Int64[np.ndarray, " rows"],
    own: Int64[np.ndarray, " query"],
) -> None:
    """Set the scores of each query's own group to minus infinity, where later sums leave them.

    Args:
        scores: scores of bank rows (with filling rows) by queries, changed in place.
        order: bank rows of the block by group.
        codes: their groups, ascending.
        own: group of each query.
    """
    low, high = np.searchsorted(codes, own, "left"), np.searchsorted(codes, own, "right")
    counts = high - low
    total = int(counts.sum())
    if total > scores.size // 16:  # index lists would outgrow a mask
        unsorted = np.empty_like(codes)
        unsorted[order] = codes
        scores[: order.size][unsorted[:, None] == own] = -np.inf
    elif total:
        columns = np.repeat(np.arange(own.size), counts)
        positions = np.arange(total) + np.repeat(low - np.cumsum(counts) + counts, counts)
        scores[order[positions], columns] = -np.inf
