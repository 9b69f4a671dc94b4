"""Why rows are not compared: another model has the quantity, measured in another way, or no other model has it.

Of a refused row the fields are named in which it differs from the nearest row of another model. Where one model alone
has a quantity, as with treatments of another rank, the measurement is named that the others lack.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

_FOLLOWS = ("distance",)
"""Columns that say what was measured and follow from a parameter, such as ``normalise`` of ``overclustering``."""

_OF_IMAGES = ("label files", "facts of images")
"""Fields whose digests say nothing more to a person where the images differ."""

_MOST_LISTED = 3

Fields = tuple[tuple[str, str, str], ...]
"""Fields that differ, with the value of either side."""


@dataclass(frozen=True)
class Refusal:
    """Rows of one model that were measured in another way than those of all other models."""

    model: str
    other: str
    """The model whose rows differ least."""
    analysis: str
    fields: Fields
    """Field, its value for this model, and its value for the other one."""
    n_rows: int

    def __str__(self) -> str:
        of_images = "image files" in {field for field, *_ in self.fields}
        with_them = [field for field, *_ in self.fields if of_images and field in _OF_IMAGES]
        fields = [one for one in self.fields if one[0] not in with_them]
        own = ", ".join(f"{field} {value}" for field, value, _ in fields)
        others = ", ".join(f"{field} {value}" for field, _, value in fields)
        more = f"; {' and '.join(with_them)} differ with the images" if with_them else ""
        counted = _counted(self.n_rows, self.analysis)
        return f"{counted} are not compared: {self.model} has {own}; {self.other} has {others}{more}"


@dataclass(frozen=True)
class Alone:
    """Rows of one analysis with measurements that one model alone has."""

    model: str
    analysis: str
    measurements: tuple[str, ...]
    """What the others lack, such as ``treatment remove-position 9``; nothing where they lack the analysis."""
    n_rows: int

    def __str__(self) -> str:
        lacked = ", ".join(self.measurements[:_MOST_LISTED])
        if len(self.measurements) > _MOST_LISTED:
            lacked += f" and {len(self.measurements) - _MOST_LISTED:,} more"
        what = lacked or "the whole analysis"
        return f"{_counted(self.n_rows, self.analysis)} are not compared: only {self.model} has {what}"


def differences(
    alone: pd.DataFrame, rows: pd.DataFrame, what: Sequence[str], how: Sequence[str]
) -> tuple[tuple[Refusal, ...], tuple[Alone, ...]]:
    """Return which rows differ in how they were measured, and which have no counterpart that measured the same.

    Args:
        alone: The rows that no other model has, of ``rows``.
        rows: All rows, of all models, with a column ``model``.
        what: Columns that say what was measured.
        how: Columns that say in which way.
    """
    counts: Counter[tuple[str, str, str, Fields]] = Counter()
    left = _matched(alone, rows, what, how, counts)
    # Two rows that differ in what follows from a parameter are told so, unless each has its like elsewhere.
    follow = [name for name in _FOLLOWS if name in what]
    left = _matched(left, left, [name for name in what if name not in follow], [*how, *follow], counts)
    refused: dict[tuple[str, str, str, Fields], Refusal] = {}
    for (model, other, analysis, fields), n_rows in counts.items():
        mirrored = other, model, analysis, tuple((field, theirs, own) for field, own, theirs in fields)
        if mirrored not in refused:
            refused[model, other, analysis, fields] = Refusal(model, other, analysis, fields, n_rows)
    return tuple(refused.values()), tuple(_alone(left, rows, what))


def _matched(
    alone: pd.DataFrame,
    rows: pd.DataFrame,
    what: Sequence[str],
    how: Sequence[str],
    counts: Counter[tuple[str, str, str, Fields]],
) -> pd.DataFrame:
    """Count the rows with a counterpart of another model by the fields that differ; return the others."""
    n_what = len(what)
    counterparts: dict[tuple[str, ...], dict[str, tuple[str, ...]]] = {}
    named = rows[["model", *what, *how]].astype(str)
    for model, *values in named.itertuples(index=False, name=None):
        counterparts.setdefault(tuple(values[:n_what]), {}).setdefault(model, tuple(values[n_what:]))
    is_left = []
    for model, *values in named.loc[alone.index].itertuples(index=False, name=None):
        differing = [
            (other, _differing(how, values[n_what:], of_other))
            for other, of_other in counterparts[tuple(values[:n_what])].items()
            if other != model
        ]
        is_left.append(not differing)
        if differing:
            other, fields = min(differing, key=lambda one: len(one[1]))
            counts[model, other, values[what.index("analysis")], fields] += 1
    return alone.loc[np.array(is_left, dtype=bool)]


def _differing(fields: Sequence[str], own: Sequence[str], others: Sequence[str]) -> Fields:
    pairs = zip(fields, own, others, strict=True)
    return tuple((field, _short(a), _short(b)) for field, a, b in pairs if a != b)


def _short(value: str) -> str:
    return re.sub(r"\b([0-9a-f]{12})[0-9a-f]{52}\b", r"\1", value) or "none"


def _alone(left: pd.DataFrame, rows: pd.DataFrame, what: Sequence[str]) -> Iterator[Alone]:
    """Yield the rows that have no counterpart, by model and analysis, with what the other models lack."""
    names = [name for name in what if name not in ("analysis", "place", "x_name", "x_value")]
    for (model, analysis), some in left.groupby(["model", "analysis"], sort=False):
        others = rows[(rows["model"] != model) & (rows["analysis"] == analysis)]
        if others.empty:
            yield Alone(str(model), str(analysis), (), len(some))
            continue
        lacked = pd.Series("", index=some.index)
        for name in names:
            found = (lacked == "") & (some[name] != "") & ~some[name].isin(others[name])
            lacked[found] = f"{name} " + some.loc[found, name].astype(str)
        known = set(zip(others["x_name"], others["x_value"], strict=True))
        places = list(zip(some["x_name"], some["x_value"], strict=True))
        on_axis = [f"{name} {value}" if name and (name, value) not in known else "" for name, value in places]
        lacked = lacked.where(lacked != "", pd.Series(on_axis, index=some.index))
        lacked = lacked.where(lacked != "", "this combination of " + ", ".join(_several(some, names)))
        yield Alone(str(model), str(analysis), tuple(dict.fromkeys(lacked)), len(some))


def _several(some: pd.DataFrame, names: Sequence[str]) -> list[str]:
    """Return the columns that have a value at all."""
    return [name for name in names if (some[name] != "").any()]


def _counted(n_rows: int, analysis: str) -> str:
    return f"{n_rows:,} row{'' if n_rows == 1 else 's'} of {analysis}"
