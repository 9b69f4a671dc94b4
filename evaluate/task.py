"""A cell: one answer to be had, with the way to compute it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from evaluate.inputs.model_sets import Measured
from evaluate.results.table import Answer, Asked


@dataclass(frozen=True)
class Cell:
    """One answer of one analysis: what it is named by and how it is computed."""

    title: str
    """The model, or the models, as figures and tables call them."""
    names: dict[str, Any]
    """Columns of the long table that all rows of the answer share unless a row has its own."""
    asked: Asked
    compute: Callable[[], Answer]
    """Called only when the answer is not there yet."""
    what: str
    """For people: the analysis and what it is about."""
    holds: Callable[[], int]
    """The most that computing holds at once above the process, in bytes (`evaluate.kernels.memory`)."""

    def answer(self) -> Answer:
        """Compute the answer and complete its rows."""
        found = self.compute()
        return Answer([{"analysis": self.asked.analysis, **self.names, **row} for row in found.rows], found.arrays)


def cell_of(
    measured: Measured,
    array: str | None,
    asked: Asked,
    compute: Callable[[], Answer],
    what: str,
    holds: Callable[[], int],
) -> Cell:
    """Return the cell of an analysis of one model, about one array if one is named by its address."""
    spec = measured.spec
    names: dict[str, Any] = {"data_set": spec.dataset.name, "model": spec.model.name, "view": spec.view.name}
    if array is not None:
        names |= {"array": array.partition("/")[2], "token": "prefix" if array.startswith("prefix/") else "patch"}
    return Cell(measured.title, names, asked, compute, what, holds)
