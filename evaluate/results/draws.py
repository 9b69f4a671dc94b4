"""Resampled values of results, kept with an answer so that claims compare two numbers draw by draw.

An analysis gives rows their resampled values under `DRAWS`; `result_of` takes them out again and keeps those that
claims compare as arrays of the answer: line i of ``drawn`` is of row ``drawn_row[i]``. Lines with the same
``drawn_units`` resampled the same images or videos with the same draws, whichever model or answer they are of.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64

from evaluate.results.table import Result
from stores.canonical import digest

DRAWS = "drawn"
"""Key of a row that is no column: what was resampled of it."""


class BootstrapDraws(NamedTuple):
    """One number in every resample."""

    values: Float64[np.ndarray, " resample"]
    """nan where a resample does not define it."""
    units: str
    """Name of what was resampled and how: equal for equal units, seeds and numbers of resamples."""


def units_of(names: Sequence[str], seed: int, resamples: int) -> str:
    """Return the name of the draws of these images or videos, in this order."""
    return digest({"units": list(names), "seed": seed, "resamples": resamples})


def result_of(
    rows: Sequence[Mapping[str, Any]], compared: Sequence[str], arrays: Mapping[str, np.ndarray] | None = None
) -> Result:
    """Return an answer of rows, with the draws of the metrics that claims compare among its arrays."""
    kept = [
        (place, row[DRAWS])
        for place, row in enumerate(rows)
        if row["metric"] in compared and row.get(DRAWS) is not None
    ]
    plain = [{name: value for name, value in row.items() if name != DRAWS} for row in rows]
    found = dict(arrays or {})
    if kept:
        found["drawn"] = np.stack([drawn.values for _, drawn in kept])
        found["drawn_row"] = np.array([place for place, _ in kept], dtype=np.int64)
        found["drawn_units"] = np.array([drawn.units for _, drawn in kept])
    return Result(plain, found)


def draws_of(arrays: Mapping[str, np.ndarray], row: int) -> BootstrapDraws | None:
    """Return what was resampled of a row, counted within its answer; None where nothing was kept or it is not whole."""
    values, rows, units = (arrays.get(name) for name in ("drawn", "drawn_row", "drawn_units"))
    if values is None or rows is None or units is None:
        return None
    if values.ndim != 2 or values.dtype != np.float64 or not len(values) == len(rows) == len(units):
        return None
    found = np.flatnonzero(rows == row)
    return BootstrapDraws(values[found[0]], str(units[found[0]])) if len(found) == 1 else None
