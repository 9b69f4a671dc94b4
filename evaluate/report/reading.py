"""Stored results of an experiment, from which its report is written: read from a results folder alone."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from evaluate.claims.evidence import Evidence
from evaluate.claims.roles import ModelInfo, read_model_infos
from evaluate.results.files import plain_name, read_bounded
from evaluate.results.preferred import untreated
from evaluate.results.table import Result, ResultStore, read_long_table
from stores.errors import MissingError, UserError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NOTE = "report.json"
"""File of what the page needs beside the long table: the models' sets and the results with arrays for figures."""

_NAMES = ("model", "class", "array", "view", "classifier", "reference")
"""Columns whose text comes from outside and enters figures."""


@dataclass(frozen=True, repr=False)
class StoredResults:
    """The results of an experiment from which its page is written."""

    table: pd.DataFrame
    about: list[dict[str, str]]
    """Facts about each model's sets, all with the same keys."""
    results: dict[str, tuple[str, Result]]
    """Models and results by result digest."""
    models_info: tuple[ModelInfo, ...] = ()
    beside: tuple[str, ...] = ()
    """Other experiments of the results folder that the claims may compare with."""
    experiment: str = ""
    revisions: Mapping[str, int | None] = field(default_factory=dict)
    """Revisions of the analyses by result digest, None where a result's record is gone."""

    def evidence(self, beside: Sequence[Evidence] = ()) -> Evidence:
        """Return the rows as the claims read them."""
        arrays = {digest: result.arrays for digest, (_, result) in self.results.items()}
        return Evidence(untreated(self.table), self.models_info, arrays, beside)

    def drawable(self) -> tuple[pd.DataFrame, list[tuple[str, Result]]]:
        """Return rows and results under names that figures show as they are."""
        plain = {name: self.table[name].map(_no_formula, na_action="ignore") for name in _NAMES}
        return self.table.assign(**plain), [(_no_formula(model), result) for model, result in self.results.values()]

    @cached_property
    def figures(self) -> tuple[str, ...]:
        """Names of the figures that these results have numbers for, in the report's order."""
        from evaluate.figures import FIGURES  # matplotlib, which tables alone do not need

        drawable = self.drawable()
        return tuple(entry.name for entry in FIGURES if entry.draw(*drawable) is not None)

    def figure(self, name: str, ax: "Axes | Iterable[Axes] | None" = None) -> "Figure":
        """Return a figure of the report, drawn again: its ``axes`` are matplotlib's, to change and to save.

        With ``ax`` it is drawn into these axes of a figure of your own, one a panel, row by row. Raises UserError when
        there is no such figure, no number for it, or another number of axes than of panels.
        """
        from evaluate.figures import FIGURES
        from evaluate.figures.style import drawn_into

        entries = {entry.name: entry for entry in FIGURES}
        if name not in entries:
            raise UserError(f"there is no figure {name!r}: choose one of {', '.join(entries)}")
        with drawn_into(() if ax is None else list(np.ravel(np.array(ax, dtype=object)))):
            drawn = entries[name].draw(*self.drawable())
        if drawn is None:
            raise UserError(
                f"the results hold no numbers for the figure {name}: ask for its analysis and evaluate again"
            )
        return drawn

    def __getitem__(self, name: str) -> "Figure":
        """Return the figure of this name, as `figure` does."""
        return self.figure(name)

    def _ipython_key_completions_(self) -> list[str]:
        return list(self.figures)

    def __repr__(self) -> str:
        """Return one line: experiment, models, data and how many numbers."""
        return f"<StoredResults {self._summary()}; .table, .figures, .figure(name)>"

    def _repr_html_(self) -> str:
        """Return the report's first table, for notebooks."""
        from evaluate.report.headline import headline
        from evaluate.report.page import escape

        return f"<p>{escape(self._summary())}</p>{headline(untreated(self.table), {}) or ''}"

    def _summary(self) -> str:
        names = ", ".join(dict.fromkeys(self.table["experiment"].dropna())) or "of no experiment"
        data_sets = ", ".join(dict.fromkeys(entry["data set"] for entry in self.about))
        n_models = self.table["model"].nunique()
        plural = "" if n_models == 1 else "s"
        return f"{names}: {n_models} model{plural} on {data_sets}, {len(self.table):,} numbers"


def _no_formula(name: str) -> str:
    """Return a name that figures show as it is.

    Between dollars matplotlib would read TeX, and labels with a leading underscore enter no legend: a character without
    width comes first.
    """
    return ("\N{ZERO WIDTH SPACE}" if name.startswith("_") else "") + name.replace("$", r"\$")


def read(results: Path | str, experiment: str) -> StoredResults:
    """Return the stored results of an evaluated experiment; raises as `read_stored_results`."""
    return read_stored_results(ResultStore(results), experiment)


def read_stored_results(results: ResultStore, experiment: str) -> StoredResults:
    """Return the stored results of an evaluated experiment.

    Raises MissingError when the experiment was not evaluated there, UserError when what is there is not readable.
    """
    folder = results.root / experiment
    try:
        note = json.loads(read_bounded(folder / NOTE))
        table = read_long_table(folder / "results.parquet")
        by_digest = {str(digest): (str(model), results.read_digest(str(digest))) for model, digest in note["answers"]}
        about = [{str(key): str(value) for key, value in entry.items()} for entry in note["about"]]
        if any(entry.keys() != about[0].keys() or "data set" not in entry for entry in about):
            raise ValueError(f"{NOTE} does not describe every model in the same way")
        # Notes of earlier versions have neither.
        models_info = read_model_infos(note.get("models", []))
        beside = tuple(plain_name(name) for name in note.get("beside", []))
        revisions = {one: results.revision(one) for one in by_digest}
        return StoredResults(table, about, by_digest, models_info, beside, experiment, revisions)
    except FileNotFoundError:
        raise MissingError(
            f"{folder} holds no evaluated experiment {experiment!r}: run `patchbank evaluate` on its file first"
        ) from None
    except UserError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, OSError, RecursionError) as error:
        raise UserError(f"{folder} is not readable ({error}): run `patchbank evaluate` again") from error
