"""The report's first table: one line a model with its main numbers."""

from collections.abc import Mapping, Sequence

import pandas as pd

from evaluate.figures.main_scores import patch_scores, same_m
from evaluate.figures.style import metric_rows
from evaluate.report.page import escape, table
from evaluate.report.store_state import WHOLE
from evaluate.results.metrics import SHARE_OF_VARIANCE
from evaluate.results.preferred import conditions, preferred_rows


def headline(results: pd.DataFrame, stored: Mapping[str, str]) -> str | None:
    """Return one line a model: nearest neighbours with and without the leading features, the probe, the variance.

    Layer, k and training size are those of figures and claims; all models of a column have the same m where there is
    one that they share. Columns and models without a number are left out; None where no column has one.
    """
    models = list(dict.fromkeys(results["model"].dropna()))
    scores = patch_scores(results)
    columns = {score.title: _cells(score.rows, models, score.note) for score in scores}
    shares = metric_rows(results, "variance-spectrum", SHARE_OF_VARIANCE)
    # Features that do not vary have no share.
    shares, m = same_m(preferred_rows(shares[shares["value"].notna()]))
    title = "share of variance" if m is None else f"share of variance, top {m}"
    columns[title] = _cells(shares, models, "in the top {m}" if m is None else "")
    columns = {title: cells for title, cells in columns.items() if any(cells)}
    if not columns:
        return None
    shown = pd.concat([score.rows for score in scores])
    named = f"mIoU of validation patches over the classes that occur: {conditions(shown)}.{_interval_words(shown)}"
    if shown.empty:
        named = f"Variance of features: {conditions(shares)}."
    lines = [
        [escape(f"{model}{mark(model, stored)}"), *values]
        for model, *values in zip(models, *columns.values(), strict=True)
        if any(values)
    ]
    return f"<p>{escape(named)}</p>" + table(["model", *columns], lines, raw=True, fit=True)


def mark(model: object, stored: Mapping[str, str]) -> str:
    """Return the note beside the title of a model whose stored sets are not whole."""
    state = stored.get(str(model), WHOLE)
    return "" if state == WHOLE else f" ({state})"


def _interval_words(rows: pd.DataFrame) -> str:
    return " In brackets the 95 % bootstrap interval over images." if rows["low"].notna().any() else ""


def _cells(rows: pd.DataFrame, models: Sequence[str], note: str = "") -> list[str | None]:
    """Return each model's value, its interval and the note below it; None for a model without a row."""
    cells: list[str | None] = []
    for model in models:
        of_model = rows[rows["model"] == model]
        if of_model.empty:
            cells.append(None)
            continue
        row = of_model.iloc[0]
        interval = "" if pd.isna(row["low"]) else f" [{row['low']:.3f}, {row['high']:.3f}]"
        below = f"<br><small>{note.format(m=int(row['m']))}</small>" if note else ""
        cells.append(f"{row['value']:.3f}{interval}{below}")
    return cells
