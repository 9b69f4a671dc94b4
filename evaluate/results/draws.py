"""Bootstrap draws: resampled values of metrics, stored with a result so that claims compare two of them in pairs.

`evaluate.results.rows.Bootstrap` gives rows their draws under `DRAWS`; `with_draws` takes them out again and stores
those of the metrics that claims compare as arrays of the result: line i of ``drawn`` is of row ``drawn_row[i]``. Lines
with the same ``drawn_units`` resampled the same images or videos with the same draws, whatever their model or result.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64

from evaluate.results.table import Result
from stores.canonical import digest

DRAWS = "drawn"
"""Key of a row that is no column: its bootstrap draws."""


class BootstrapDraws(NamedTuple):
    """One metric in every resample."""

    values: Float64[np.ndarray, " resample"]
    """nan where a resample does not define it."""
    units: str
    """Digest of what was resampled and how: equal for equal units, seeds and numbers of resamples."""


def units_of(names: Sequence[str], seed: int, resamples: int) -> str:
    """Return the digest of the draws of these images or videos, in this order."""
    return digest({"units": list(names), "seed": seed, "resamples": resamples})


def with_draws(
    rows: Sequence[Mapping[str, Any]], compared: Collection[str], arrays: Mapping[str, np.ndarray]
) -> Result:
    """Return a result of rows without their draws; those of the metrics ``compared`` are among its arrays."""
    draws = {
        index: row[DRAWS] for index, row in enumerate(rows) if row.get(DRAWS) is not None and row["metric"] in compared
    }
    stored = dict(arrays)
    if draws:
        stored["drawn"] = np.stack([one.values for one in draws.values()])
        stored["drawn_row"] = np.array(list(draws), dtype=np.int64)
        stored["drawn_units"] = np.array([one.units for one in draws.values()])
    return Result([{name: value for name, value in row.items() if name != DRAWS} for row in rows], stored)


def draws_of(arrays: Mapping[str, np.ndarray], row: int) -> BootstrapDraws | None:
    """Return the draws of a row, counted within its result; None where none are stored or they are not whole."""
    values, rows, units = (arrays.get(name) for name in ("drawn", "drawn_row", "drawn_units"))
    if values is None or rows is None or units is None:
        return None
    if values.ndim != 2 or values.dtype != np.float64 or not len(values) == len(rows) == len(units):
        return None
    lines = np.flatnonzero(rows == row)
    return BootstrapDraws(values[lines[0]], str(units[lines[0]])) if len(lines) == 1 else None
