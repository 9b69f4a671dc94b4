"""The page of a comparison: models side by side, and what was not compared with the reason."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from evaluate.report.comparison import Comparison
from evaluate.report.page import escape, filter_field, page, table
from evaluate.results.metrics import LOG_SINGULAR_VALUE, VARIANCE

LONG = (VARIANCE, LOG_SINGULAR_VALUE)
"""Metrics with hundreds of numbers a layer, which the CSV file has and pages and terminals leave out."""

_FIRST = ("analysis", "metric", "normed", "m", "k", "x_value", "outcome", "class")


def comparison_page(compared: Comparison, experiments: Sequence[str]) -> str:
    """Return a comparison as one self-contained HTML page."""
    rows = compared.rows[~compared.rows["metric", ""].isin(LONG)]
    of_classes = rows["class", ""] != ""
    shared, varying = shared_and_varying(compared, rows)
    constant = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in shared.items())
    side = "<p>Values with 95 % bootstrap intervals in brackets, where there are some. All rows of one line were "
    side += "measured in the same way; intervals are of each model alone, not of a difference.</p>"
    side += f"<dl>{constant}</dl>{_table(compared, rows[~of_classes], varying, 'numbers')}"
    if of_classes.any():
        inner = _table(compared, rows[of_classes], varying, "class-numbers")
        side += f"<details><summary>Numbers of single classes</summary>{inner}</details>"
    sections = [("Side by side", side)]
    refused = "".join(f"<li>{escape(one)}</li>" for one in compared.refused)
    refused += "".join(f"<li>{escape(one)}</li>" for one in compared.alone)
    if compared.n_inner:
        refused += f"<li>{compared.n_inner:,} rows of layers and points before the last layer.</li>"
    if refused:
        sections.append(("Not compared", f"<ul>{refused}</ul>"))
    allowed = f" Allowed to differ: {', '.join(compared.allowed)}." if compared.allowed else ""
    lead = f"{len(compared.models)} models from {', '.join(experiments)}.{allowed}"
    return page("Comparison", lead, sections)


def shared_and_varying(compared: Comparison, rows: pd.DataFrame) -> tuple[dict[str, str], list[str]]:
    """Return the columns with one value in all rows, and the names of those with several."""
    names = [str(column[0]) for column in compared.rows.columns if not column[1]]
    values = {name: rows[name, ""].unique() for name in names}
    shared = {name: str(some[0]) for name, some in values.items() if len(some) == 1 and some[0] != ""}
    return shared, [name for name, some in values.items() if len(some) > 1]


def cell(row: Mapping[Any, Any], model: str, allowed: Sequence[str] = ()) -> str:
    """Return a model's value, its interval, and what was allowed to differ."""
    value, low, high = (row[model, name] for name in ("value", "low", "high"))
    if pd.isna(value):
        return ""
    interval = "" if pd.isna(low) else f" [{low:.3g}, {high:.3g}]"
    said = ", ".join(f"{name} {row[model, name]}" for name in allowed if row[model, name])
    return f"{value:.4g}{interval}{f' ({said})' if said else ''}"


def _table(compared: Comparison, rows: pd.DataFrame, varying: Sequence[str], name: str) -> str:
    # What tells most rows apart stands before the numbers, the rest behind them: the page is narrower than the table.
    before, after = ([column for column in varying if (column in _FIRST) == first] for first in (True, False))
    lines = [
        [
            *(str(row[column, ""]) for column in before),
            *(cell(row, model, compared.allowed) for model in compared.models),
            *(str(row[column, ""]) for column in after),
        ]
        for row in rows.to_dict("records")
    ]
    return filter_field(name, "Filter by words") + table([*before, *compared.models, *after], lines, name)
