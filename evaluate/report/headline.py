"""The report's first table: one line a model with its main numbers."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import pandas as pd

from evaluate.figures.main_scores import MainScore, patch_scores, same_m
from evaluate.figures.style import metric_rows
from evaluate.report.page import escape, table
from evaluate.report.store_state import WHOLE
from evaluate.results.metrics import SHARE_OF_VARIANCE
from evaluate.results.preferred import conditions, preferred_rows


def headline(results: pd.DataFrame, stored: Mapping[str, str]) -> str | None:
    """Return one line a model: nearest neighbours with and without the leading features, the probe, the variance.

    Layer, k and training size are those of figures and claims; all models of a column have the same m where there is
    one that they share. Columns and models without a number are left out; None where no column has one. The highest
    score of a column is bold, and a sentence says how many pairs of models each score orders otherwise than the first.
    """
    models = list(dict.fromkeys(results["model"].dropna()))
    scores = patch_scores(results)
    columns = {score.title: _cells(score.rows, models, score.note, bold=len(models) > 1) for score in scores}
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
    order = _other_orders([score for score in scores if not score.rows.empty])
    return f"<p>{escape(named)}</p>" + table(["model", *columns], lines, raw=True, fit=True) + order


def mark(model: object, stored: Mapping[str, str]) -> str:
    """Return the note beside the title of a model whose stored sets are not whole."""
    state = stored.get(str(model), WHOLE)
    return "" if state == WHOLE else f" ({state})"


def _interval_words(rows: pd.DataFrame) -> str:
    return " In brackets the 95 % bootstrap interval over images." if rows["low"].notna().any() else ""


class _Interval(NamedTuple):
    value: float
    low: float
    high: float


def _other_orders(scores: Sequence[MainScore]) -> str:
    """Return how many pairs of models each score orders otherwise than the first; nothing for fewer than two scores.

    Two models are in another order where one score is larger and the other smaller; their intervals are apart where
    they do not overlap in either score.
    """
    if len(scores) < 2:
        return ""
    first, *others = (_intervals(score.rows) for score in scores)
    found = []
    for score, other in zip(scores[1:], others, strict=True):
        pairs = list(combinations([model for model in first if model in other], 2))
        turned = [(one, two) for one, two in pairs if _sign(first, one, two) * _sign(other, one, two) < 0]
        apart = sum(_are_apart(first, one, two) and _are_apart(other, one, two) for one, two in turned)
        if pairs:
            also = f", {apart} of them with intervals apart" if apart else ""
            found.append(f"{score.title} {len(turned)} of {len(pairs)}{also}")
    if not found:
        return ""
    said = f"Pairs of models that another score orders otherwise than {scores[0].title}: {'; '.join(found)}."
    return f'<p class="note">Bold is the highest score of a column. {escape(said)}</p>'


def _intervals(rows: pd.DataFrame) -> dict[str, _Interval]:
    """Return each model's first value with its interval, NaN where there is none."""
    columns = (rows[name].to_numpy(dtype=float, na_value=float("nan")) for name in _Interval._fields)
    found: dict[str, _Interval] = {}
    for model, *numbers in zip(rows["model"], *columns, strict=True):
        found.setdefault(str(model), _Interval(*map(float, numbers)))
    return found


def _sign(scores: Mapping[str, _Interval], one: str, two: str) -> int:
    difference = scores[one].value - scores[two].value
    return (difference > 0) - (difference < 0)


def _are_apart(scores: Mapping[str, _Interval], one: str, two: str) -> bool:
    """Whether the intervals of two models do not overlap; False where one has none."""
    return scores[one].high < scores[two].low or scores[two].high < scores[one].low


def _cells(rows: pd.DataFrame, models: Sequence[str], note: str = "", *, bold: bool = False) -> list[str | None]:
    """Return each model's value, its interval and the note below it; None for a model without a row.

    Args:
        rows: one row a model, or more, of which the first counts.
        models: titles by line.
        note: text below each value, with ``{m}`` for its m.
        bold: whether the highest value is bold.
    """
    cells: list[str | None] = []
    highest = rows["value"].max() if bold else None
    for model in models:
        of_model = rows[rows["model"] == model]
        if of_model.empty:
            cells.append(None)
            continue
        row = of_model.iloc[0]
        interval = "" if pd.isna(row["low"]) else f" [{row['low']:.3f}, {row['high']:.3f}]"
        below = f"<br><small>{note.format(m=int(row['m']))}</small>" if note else ""
        number = f"{row['value']:.3f}"
        cells.append(f"{f'<strong>{number}</strong>' if row['value'] == highest else number}{interval}{below}")
    return cells
