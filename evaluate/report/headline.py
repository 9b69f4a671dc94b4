"""The report's first table: one line a model with its main numbers."""

from collections.abc import Mapping

import pandas as pd

from evaluate.figures.style import metric_rows, smallest_k
from evaluate.report.page import escape, table
from evaluate.report.store_state import WHOLE
from evaluate.results.metrics import PATCH_MIOU, SHARE_OF_VARIANCE

_COLUMNS = {
    "k-NN mIoU, all features": ("knn", False),
    "k-NN mIoU, most removed": ("knn", True),
    "probe mIoU, all features": ("probe", False),
    "probe mIoU, most removed": ("probe", True),
}


def headline(results: pd.DataFrame, stored: Mapping[str, str]) -> str | None:
    """Return one line a model: nearest neighbours with and without the leading features, the probe, the variance.

    Columns without a number are left out; None where no column has one.
    """
    by_model = {model: results[results["model"] == model] for model in dict.fromkeys(results["model"].dropna())}
    shown = {
        title: [_score(rows, classifier, most_removed=most) for rows in by_model.values()]
        for title, (classifier, most) in _COLUMNS.items()
    }
    shown["share of variance"] = [_share(rows) for rows in by_model.values()]
    shown = {title: values for title, values in shown.items() if any(values)}
    if not shown:
        return None
    explained = (
        "<p>mIoU of validation patches over the classes that occur, last layer evaluated, largest training set; "
        "in brackets the 95 % bootstrap interval over images where there are at least ten.</p>"
        if any("mIoU" in title for title in shown)
        else ""
    )
    lines = [
        [escape(f"{model}{mark(model, stored)}"), *values]
        for model, *values in zip(by_model, *shown.values(), strict=True)
    ]
    return explained + table(["model", *shown], lines, raw=True, fit=True)


def mark(model: object, stored: Mapping[str, str]) -> str:
    """Return the note beside the title of a model whose stored sets are not whole."""
    state = stored.get(str(model), WHOLE)
    return "" if state == WHOLE else f" ({state})"


def _score(of_model: pd.DataFrame, classifier: str, *, most_removed: bool) -> str | None:
    """Return the mIoU in the last layer, of the largest training set and the smallest k, with its interval."""
    rows = metric_rows(of_model[of_model["classifier"] == classifier], "patch-classification", PATCH_MIOU)
    if rows.empty:
        return None
    rows = rows[rows["x_value"] == rows["x_value"].max()]
    rows = smallest_k(rows[rows["n_train"] == rows["n_train"].max()])
    rows = rows[rows["m"] == (rows["m"].max() if most_removed else 0)]
    if rows.empty or pd.isna(rows["value"].iloc[0]) or (most_removed and rows["m"].iloc[0] == 0):
        return None
    row = rows.iloc[0]
    interval = "" if pd.isna(row["low"]) else f" [{row['low']:.3f}, {row['high']:.3f}]"
    removed = f"<small>top {int(row['m'])} removed</small>" if most_removed else ""
    return "<br>".join(part for part in (f"{row['value']:.3f}{interval}", removed) if part)


def _share(of_model: pd.DataFrame) -> str | None:
    rows = metric_rows(of_model, "variance-spectrum", SHARE_OF_VARIANCE)
    rows = rows[rows["value"].notna()]  # features that do not vary have no share
    if rows.empty:
        return None
    row = rows[rows["m"] == rows["m"].max()].iloc[0]
    return f"{row['value']:.3f}<br><small>in the top {int(row['m'])}</small>"
