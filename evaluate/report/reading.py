"""What a report is made from, read back from a results folder alone."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from evaluate.claims.evidence import Evidence
from evaluate.claims.roles import ModelInfo, read_model_infos
from evaluate.results.files import plain_name, read_bounded
from evaluate.results.table import Result, ResultStore, read_long_table
from stores.errors import MissingError, UserError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NOTE = "report.json"
"""What the page needs beside the long table: the models' sets and which answers hold arrays for figures."""

_NAMES = ("model", "class", "array", "view", "classifier")
"""Columns whose text comes from outside and enters figures."""


@dataclass(frozen=True)
class StoredResults:
    """What a page is made from."""

    table: pd.DataFrame
    about: list[dict[str, str]]
    """What is said of each model's sets, all with the same keys."""
    answers: dict[str, tuple[str, Result]]
    """Models and answers by result digest."""
    models_info: tuple[ModelInfo, ...] = ()
    beside: tuple[str, ...] = ()
    """Other experiments of the results folder that the claims may compare with."""

    def evidence(self, beside: Sequence[Evidence] = ()) -> Evidence:
        """Return the rows as the claims read them."""
        arrays = {digest: answer.arrays for digest, (_, answer) in self.answers.items()}
        return Evidence(self.table, self.models_info, arrays, beside)

    def drawable(self) -> tuple[pd.DataFrame, list[tuple[str, Result]]]:
        """Return rows and answers under names that figures show as they are."""
        plain = {name: self.table[name].map(_no_formula, na_action="ignore") for name in _NAMES}
        return self.table.assign(**plain), [(_no_formula(model), answer) for model, answer in self.answers.values()]

    def figure(self, name: str) -> "Figure":
        """Return a figure of the report, drawn again: its ``axes`` are matplotlib's, to change and to save.

        Raises UserError when there is no such figure, or no number for it.
        """
        from evaluate.figures import FIGURES  # matplotlib, which tables alone do not need

        entries = {entry.name: entry for entry in FIGURES}
        if name not in entries:
            raise UserError(f"there is no figure {name!r}: choose one of {', '.join(entries)}")
        drawn = entries[name].draw(*self.drawable())
        if drawn is None:
            raise UserError(
                f"the results hold no numbers for the figure {name}: ask for its analysis and evaluate again"
            )
        return drawn


def _no_formula(name: str) -> str:
    """Return a name that figures show as it is; between dollars matplotlib would read TeX."""
    return name.replace("$", r"\$")


def read(results: Path | str, experiment: str) -> StoredResults:
    """Return what an evaluated experiment of a results folder came to; raises as `read_stored_results`."""
    return read_stored_results(ResultStore(results), experiment)


def read_stored_results(results: ResultStore, experiment: str) -> StoredResults:
    """Return what the page of an evaluated experiment is made from.

    Raises MissingError when the experiment was not evaluated there, UserError when what is there is not readable.
    """
    folder = results.root / experiment
    try:
        note = json.loads(read_bounded(folder / NOTE))
        found = read_long_table(folder / "results.parquet")
        named = [(str(model), str(digest)) for model, digest in note["answers"]]
        answers = {digest: (model, results.read_digest(digest)) for model, digest in named}
        about = [{str(key): str(value) for key, value in entry.items()} for entry in note["about"]]
        if any(entry.keys() != about[0].keys() or "data set" not in entry for entry in about):
            raise ValueError(f"{NOTE} does not describe every model in the same way")
        # Notes of earlier versions have neither.
        models_info = read_model_infos(note.get("models", []))
        return StoredResults(
            found, about, answers, models_info, tuple(plain_name(name) for name in note.get("beside", []))
        )
    except FileNotFoundError:
        raise MissingError(
            f"{folder} holds no evaluated experiment {experiment!r}: run `patchbank evaluate` on its file first"
        ) from None
    except UserError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, OSError, RecursionError) as error:
        raise UserError(f"{folder} is not readable ({error}): run `patchbank evaluate` again") from error
