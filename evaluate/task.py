"""A cell: one answer to be had, with the way to compute it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from evaluate.inputs.model_sets import ModelSets
from evaluate.results.table import Result, ResultKey


@dataclass(frozen=True)
class Task:
    """One answer of one analysis: what it is named by and how it is computed."""

    title: str
    """The model, or the models, as figures and tables call them."""
    names: dict[str, Any]
    """Columns of the long table that all rows of the answer share unless a row has its own."""
    asked: ResultKey
    compute: Callable[[], Result]
    """Called only when the answer is not there yet."""
    what: str
    """For people: the analysis and what it is about."""
    peak_bytes: Callable[[], int]
    """The most that computing holds at once above the process, in bytes (`evaluate.kernels.memory`)."""

    def answer(self) -> Result:
        """Compute the answer and complete its rows."""
        found = self.compute()
        return Result([{"analysis": self.asked.analysis, **self.names, **row} for row in found.rows], found.arrays)


def task_of(
    model: ModelSets,
    array: str | None,
    asked: ResultKey,
    compute: Callable[[], Result],
    what: str,
    peak_bytes: Callable[[], int],
) -> Task:
    """Return the cell of an analysis of one model, about one array if one is named by its address."""
    spec = model.spec
    names: dict[str, Any] = {"data_set": spec.dataset.name, "model": spec.model.name, "view": spec.view.name}
    if array is not None:
        names |= {"array": array.partition("/")[2], "token": "prefix" if array.startswith("prefix/") else "patch"}
    return Task(model.title, names, asked, compute, what, peak_bytes)
