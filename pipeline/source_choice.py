"""The choice of source images to extract, and its key in digests."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas as pd


def _all(table: pd.DataFrame) -> list[str]:
    return list(table["source"])


@dataclass(frozen=True)
class SourceChoice:
    """A rule that chooses source images, with the value that stands for it in the keys of a store's index."""

    choose: Callable[[pd.DataFrame], Sequence[str]] = _all
    """Takes a table of all sources (source, group, split) and returns the names of those to extract."""
    key: object = "all"
    """The rule as plain JSON values."""


ALL_SOURCES = SourceChoice()
"""Every source of the data set."""
