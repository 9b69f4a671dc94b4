"""One figure of a report: its name, title, caption and what draws it."""

from collections.abc import Callable
from typing import NamedTuple

import pandas as pd
from matplotlib.figure import Figure

from evaluate.results.preferred import untreated
from evaluate.results.table import Result

OVER_IMAGES = " {marks} are 95 % bootstrap intervals over images."
OVER_MINIBATCHES = " {marks} are 95 % bootstrap intervals over minibatches."
OVER_VIDEOS = " {marks} are 95 % bootstrap intervals over videos."


class FigureEntry(NamedTuple):
    """A figure with its title and caption."""

    name: str
    title: str
    caption: str
    figure: Callable[[pd.DataFrame, list[tuple[str, Result]]], Figure | None]
    """Takes the long table and (model, result) pairs; None when there is nothing to show."""
    analysis: str = ""
    """The analysis whose results may lack the arrays that the figure shows."""
    absent: str = ""
    """Text in place of the figure then."""
    interval: str = ""
    """What ``{marks}`` are (Bands or Bars); said where some are drawn."""
    shows_treated: bool = False
    """Whether it shows rows of treated features too; others get none."""

    def draw(self, table: pd.DataFrame, results: list[tuple[str, Result]]) -> Figure | None:
        """Return the figure of a long table and its (model, result) pairs; None when there is nothing to show."""
        if not self.shows_treated:
            table, results = untreated(table), [one for one in results if not _is_treated(one[1])]
        return self.figure(table, results)


def _is_treated(result: Result) -> bool:
    return bool(result.rows) and bool(pd.notna(result.rows[0].get("treatment")))
