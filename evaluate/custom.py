"""Analyses of your own: a function over stored sets, computed once for every set and choice of parameters.

::

    def spread(features, layer):
        tokens = features[layer][:]
        yield {"metric": "spread", "value": tokens.std()}

    table = patchbank.run(spread, [patchbank.open("07e897811dad")], layer="block.11.norm")
"""

import hashlib
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd

from evaluate.results.table import COLUMNS, Result, ResultStore, long_table
from evaluate.task import Task
from stores import ZarrSet
from stores.canonical import canonical_json
from stores.errors import UserError
from stores.maintenance.checked import checked
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
    results are stored there and reused: the key is the function's source text, the parameters and the content digests
    of the set's sealed arrays. What the function calls is not part of the key: pass ``version=2`` or the like when that
    changes.

    Raises UserError when the function does not take these parameters (before anything is computed), a row has a column
    the long table does not know, a parameter is no plain JSON value, or the function's source cannot be read (in an
    interactive prompt) while ``results`` is given.
    """
    _check_call(function, parameters)
    stored = None if results is None else ResultStore(results)
    rows: list[dict[str, Any]] = []
    for one in [sets] if isinstance(sets, ZarrSet) else sets:
        task = FunctionTask(function, one, parameters)
        result = task.result() if stored is None else task.read_or_compute(stored)[0][1]
        rows += result.rows
    return long_table(rows)


@dataclass(frozen=True, eq=False)
class FunctionTask(Task):
    """A function of the user's over one set."""

    function: Callable[..., Rows]
    set: ZarrSet
    arguments: dict[str, Any]

    analysis: ClassVar[str] = "own"
    revision: ClassVar[int] = 2

    @property
    def title(self) -> str:
        """The set's digest."""
        return self.set.digest[:12]

    @property
    def description(self) -> str:
        """The function's name."""
        return _name(self.function)

    @property
    def columns(self) -> dict[str, Any]:
        """The function's name as analysis, data set, view and model."""
        spec = self.set.spec
        model = {"model": spec.model.name} if isinstance(spec, FeatureSpec) else {}
        shared = {"data_set": spec.dataset.name, "view": spec.view.name}
        return {"analysis": _name(self.function), **shared, **model}

    def parameters(self) -> dict[str, Any]:
        """Return the function's name, a digest of its source, and its arguments; raises UserError for other values."""
        try:
            source = inspect.getsource(self.function)
        except (OSError, TypeError):
            raise UserError(
                f"the source of {_name(self.function)} cannot be read, so its results cannot be named: put it into a "
                "file, or leave out results="
            ) from None
        digest = hashlib.sha256(source.encode()).hexdigest()
        parameters = {"function": _name(self.function), "source": digest, **self.arguments}
        try:
            canonical_json(parameters)
        except (TypeError, ValueError) as error:
            raise UserError(
                f"a parameter of {_name(self.function)} is no plain value ({error}): pass numbers, strings, lists and "
                "tables"
            ) from error
        return parameters

    def inputs(self) -> dict[str, str]:
        """Return the digests of the set and of its sealed arrays."""
        return {"set": self.set.digest, **self.set.content}

    def compute(self) -> Result:
        """Call the function."""
        return Result(_rows(self.function, checked(self.set), self.arguments))

    def peak_bytes(self) -> int:
        """Return 0: what a user's function needs is not known."""
        return 0


def _check_call(function: Callable[..., Rows], parameters: Mapping[str, Any]) -> None:
    """Raise UserError for what is no function of a set and these parameters."""
    if not callable(function):
        raise UserError(f"{function!r} is no function: give one that takes a set and returns rows")
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # some functions of C code have none
        return
    try:
        signature.bind(None, **parameters)
    except TypeError as error:
        given = ", ".join(["set", *(f"{name}=..." for name in parameters)])
        raise UserError(
            f"{_name(function)}{signature} cannot be called as {_name(function)}({given}): {error}"
        ) from None


def _rows(function: Callable[..., Rows], one: ZarrSet, parameters: dict[str, Any]) -> list[dict[str, Any]]:
    computed = function(one, **parameters)
    rows: list[Mapping[str, Any]]
    if isinstance(computed, pd.DataFrame):
        names = [str(name) for name in computed.columns]
        rows = [dict(zip(names, values, strict=True)) for values in computed.itertuples(index=False)]
    elif isinstance(computed, Mapping):
        rows = [computed]
    else:
        rows = list(computed) if isinstance(computed, Iterable) else [{"value": float(computed)}]
    unknown = sorted({key for row in rows for key in row} - COLUMNS.keys())
    if unknown:
        raise UserError(
            f"{_name(function)} gives the column {unknown[0]!r}, which the long table does not have: use "
            f"{', '.join(list(COLUMNS)[:8])} ... (evaluate/README.md lists them all)"
        )
    return [dict(row) for row in rows]


def _name(function: Callable[..., Rows]) -> str:
    return getattr(function, "__name__", type(function).__name__)
