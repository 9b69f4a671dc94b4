"""Indices of stored arrays: integers, slices, boolean masks and row numbers, each axis selected on its own."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int64

AxisIndex = Any
"""Selects entries of one axis: a number, a slice, numbers in any order, or a mask as long as the axis."""

Index = Any
"""Selects entries of an array: of its rows, or a tuple for several axes in which ``...`` stands for whole axes."""


@dataclass(frozen=True)
class Selection:
    """The selected entries of every axis of an array."""

    rows: Int64[np.ndarray, " row"]
    inner: tuple[slice | Int64[np.ndarray, " _"], ...]
    """What is selected of every axis after the rows."""
    row_shape: tuple[int, ...]
    """Shape of the selected part of one row, before axes are removed."""
    whole_rows: bool
    removed: tuple[int, ...]
    """Axes that an integer selected; the result does not have them."""

    def of_rows(self, rows: np.ndarray) -> np.ndarray:
        """Return the selected part of every row of a block of rows."""
        slices = tuple(chosen if isinstance(chosen, slice) else slice(None) for chosen in self.inner)
        part = rows[(slice(None), *slices)]
        for axis, chosen in enumerate(self.inner, start=1):
            if not isinstance(chosen, slice):
                part = np.take(part, chosen, axis)
        return part

    def result(self, out: np.ndarray) -> Any:
        """Return an array without the axes that an integer selected; a numpy scalar when none is left."""
        if not self.removed:
            return out
        return out[tuple(0 if axis in self.removed else slice(None) for axis in range(out.ndim))]


def select(index: Index, shape: tuple[int, ...], axes: Sequence[str]) -> Selection:
    """Return the selection that an index makes of an array.

    Integers, slices and ``...`` mean what they mean in numpy. Lists, integer arrays and masks select entries of one
    axis each, whatever the other axes have, as ``oindex`` of Zarr and ``np.ix_`` do. A plain numpy array does so too
    for one list; where an index holds two, or a list and an integer apart, numpy pairs them and the result differs.

    Raises IndexError, in one sentence, for an entry outside its axis, a mask of another length than its axis, too many
    indices, a new axis, and an index of any other kind.

    Args:
        index: The index.
        shape: Shape of the array, rows first.
        axes: Names of its axes, for messages.
    """
    given = list(index) if isinstance(index, tuple) else [index]
    ellipses = [number for number, one in enumerate(given) if one is Ellipsis]
    if len(ellipses) > 1:
        raise IndexError("an index holds one ellipsis (...) at most")
    n_whole = len(shape) - len(given) + len(ellipses)
    if n_whole < 0:
        raise IndexError(f"{len(given) - len(ellipses)} indices for an array of {len(shape)} axes ({', '.join(axes)})")
    gap = ellipses[0] if ellipses else len(given)
    given[gap : gap + len(ellipses)] = [slice(None)] * n_whole
    chosen = [
        _entries(one, extent, f"axis {number} ({axes[number]})")
        for number, (one, extent) in enumerate(zip(given, shape, strict=True))
    ]
    spans = [range(extent)[one] if isinstance(one, slice) else one for one, extent in zip(chosen, shape, strict=True)]
    rows = spans[0]
    return Selection(
        rows=np.arange(rows.start, rows.stop, rows.step, dtype=np.int64) if isinstance(rows, range) else rows,
        inner=tuple(chosen[1:]),
        row_shape=tuple(map(len, spans[1:])),
        whole_rows=all(
            isinstance(span, range) and span == range(extent) for span, extent in zip(spans[1:], shape[1:], strict=True)
        ),
        removed=tuple(number for number, one in enumerate(given) if _is_integer(one)),
    )


def row_numbers(rows: AxisIndex, n_rows: int) -> Int64[np.ndarray, " row"]:
    """Return the numbers of the selected rows; raises IndexError as `select` does."""
    return select(rows, (n_rows,), ("row",)).rows


def _is_integer(index: Any) -> bool:
    return hasattr(index, "__index__") and np.ndim(index) == 0


def _entries(index: Any, extent: int, axis: str) -> slice | Int64[np.ndarray, " _"]:
    """Return what an index selects of one axis; entries that are numbered count from 0 up."""
    if isinstance(index, slice):
        try:
            index.indices(extent)
        except (TypeError, ValueError) as error:
            raise IndexError(f"{index} cannot select from {axis}: {error}") from None
        return index
    try:
        numbers = np.asarray(index)
    except ValueError:  # lists of unequal lengths
        numbers = np.asarray(None)
    if numbers.dtype == bool and numbers.ndim == 1:
        if len(numbers) != extent:
            raise IndexError(f"a mask of {len(numbers)} entries cannot select from {axis}, which has {extent}")
        return np.flatnonzero(numbers).astype(np.int64)
    if isinstance(index, Sequence) and not isinstance(index, str) and not len(index):
        numbers = np.zeros(0, np.int64)
    if numbers.ndim > 1 or numbers.dtype.kind not in "iu":
        given = f"an array of {numbers.ndim} axes" if numbers.ndim > 1 else f"{index!r:.40}"
        raise IndexError(f"{axis} is selected by a number, a slice, a list of numbers or a mask, not by {given}")
    numbers = np.atleast_1d(numbers)
    for number in (int(numbers.min()), int(numbers.max())) if numbers.size else ():
        if not -extent <= number < extent:
            raise IndexError(f"{number} is outside {axis}, which has {extent} entries")
    numbers = numbers.astype(np.int64)
    return np.where(numbers < 0, numbers + extent, numbers)
