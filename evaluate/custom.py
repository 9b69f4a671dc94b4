"""A question of your own: a function over stored sets, answered once for every set and parameter.

::

    def spread(features, layer):
        tokens = features[layer][:]
        yield {"metric": "spread", "value": tokens.std()}

    table = evaluate.run(spread, [stores.open("07e897811dad")], layer="block.11.norm")
"""

import hashlib
import inspect
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from evaluate.results.table import COLUMNS, Result, ResultKey, ResultStore, long_table
from stores import ZarrSet
from stores.canonical import canonical_json
from stores.errors import UserError
from stores.specs import FeatureSpec

Rows = Iterable[Mapping[str, Any]] | Mapping[str, Any] | pd.DataFrame | float


def run(
    function: Callable[..., Rows],
    sets: Iterable[ZarrSet] | ZarrSet,
    *,
    results: Path | str | None = None,
    **parameters: Any,
) -> pd.DataFrame:
    """Call ``function(set, **parameters)`` for every set and return its rows as the long table.

    The function returns (or yields) rows: mappings from columns of the long table, evaluate/README.md lists them, to
    values; a DataFrame of such; one mapping; or one number, which becomes ``value``. With ``results``, a folder,
    answers are kept there and a question that was answered is read: its name is the function's source text, the
    parameters and the content digests of the set's sealed arrays. What the function calls is not part of the name, so
    say ``version=2`` or the like when that changes.

    Raises UserError when a row has a column the long table does not know, a parameter is no plain JSON value, or the
    function's source is not to be had (in an interactive prompt) while ``results`` is given.
    """
    kept = None if results is None else ResultStore(results)
    rows: list[dict[str, Any]] = []
    for one in [sets] if isinstance(sets, ZarrSet) else sets:
        if kept is None:
            rows += _rows(function, one, parameters)
            continue
        asked = _asked(function, one, parameters)
        if not kept.has(asked):
            kept.write(asked, Result(_rows(function, one, parameters)))
        rows += kept.read(asked).rows
    return long_table(rows)


def _asked(function: Callable[..., Rows], one: ZarrSet, parameters: dict[str, Any]) -> ResultKey:
    try:
        source = inspect.getsource(function)
    except (OSError, TypeError):
        raise UserError(
            f"the source of {_name(function)} is not to be had, so its answers cannot be named: put it into a file, "
            "or leave out results="
        ) from None
    named = {"function": _name(function), "source": hashlib.sha256(source.encode()).hexdigest(), **parameters}
    try:
        canonical_json(named)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"a parameter of {_name(function)} is no plain value ({error}): pass numbers, strings, lists and tables"
        ) from error
    return ResultKey("own", 1, named, {"set": one.digest, **one.content})


def _rows(function: Callable[..., Rows], one: ZarrSet, parameters: dict[str, Any]) -> list[dict[str, Any]]:
    names: dict[str, Any] = {"analysis": _name(function), "data_set": one.spec.dataset.name}
    names |= {"view": one.spec.view.name}
    if isinstance(one.spec, FeatureSpec):
        names["model"] = one.spec.model.name
    found = function(one, **parameters)
    if isinstance(found, pd.DataFrame):
        names_of = [str(name) for name in found.columns]
        given: list[Mapping[str, Any]] = [
            dict(zip(names_of, values, strict=True)) for values in found.itertuples(index=False)
        ]
    elif isinstance(found, Mapping):
        given = [found]
    elif isinstance(found, Iterable):
        given = list(found)
    else:
        given = [{"value": float(found)}]
    unknown = sorted({key for row in given for key in row} - COLUMNS.keys())
    if unknown:
        raise UserError(
            f"{_name(function)} gives the column {unknown[0]!r}, which the long table does not have: use "
            f"{', '.join(list(COLUMNS)[:8])} ... (evaluate/README.md lists them all)"
        )
    return [{**names, **row} for row in given]


def _name(function: Callable[..., Rows]) -> str:
    return getattr(function, "__name__", type(function).__name__)
