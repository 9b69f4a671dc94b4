"""The rows that stand for an experiment with several layers, k or training sizes: one choice for everything shown.

Claims, figures and the report's first table take the last layer, the main training size, the smallest k and Euclidean
distances, and say so in the words of `conditions`.
"""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from evaluate.results.metrics import PATCH_MIOU

_TOKENS = {
    "patch": "patch tokens",
    "patches": "patch tokens",
    "all": "all tokens",
    "class-token": "class token",
    "mean-patch": "mean of patch tokens",
    "class-and-mean": "class token and mean of patch tokens",
}
_DISTANCES = {"euclidean": "Euclidean"}
_MOST_LISTED = 5
"""Values of one column that are listed; of more, the first and the last."""


def main_train_size(table: pd.DataFrame, column: str | None = None) -> int | None:
    """Return the number of training images for which most was evaluated; None where nothing trains.

    A sweep over training sizes usually has the last layer and all features alone, so that its largest size has neither
    the removals nor the other layers. The size with most layers and removals is taken, the larger one of several. With
    ``column``, the size with most values of that column.
    """
    rows = table[(table["metric"] == PATCH_MIOU) & (table["analysis"] == "patch-classification")]
    rows = rows[rows["n_train"].notna()]
    if rows.empty:
        rows = table[table["n_train"].notna()]
    if rows.empty:
        return None
    distinct = ["layer", "m", "k", "classifier"] if column is None else [column]
    sizes = sorted({int(size) for size in rows["n_train"]})
    counts = {size: len(rows.loc[rows["n_train"] == size, distinct].drop_duplicates()) for size in sizes}
    return max(counts, key=lambda size: (counts[size], size))


def untreated(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of features as stored or less the top m: what tables, claims and all but one figure are about."""
    return table[table["treatment"].isna()]


def layer_numbers(rows: pd.DataFrame) -> "pd.Series[float]":
    """Return the layer of every row, counted from 0; nan where a row has none."""
    axis = rows["x_value"].where((rows["x_name"] == "layer").fillna(False))
    return rows["layer"].astype("Float64").fillna(axis).astype(float)


def last_layer(rows: pd.DataFrame) -> pd.DataFrame:
    """Return each model's rows of its last layer, through the final norm where there are such rows."""
    for depth in (lambda part: layer_numbers(part).fillna(-1.0), lambda part: part["normed"].fillna(False).astype(int)):
        numbers = depth(rows)
        rows = rows[numbers == numbers.groupby(rows["model"]).transform("max")]
    last = rows.groupby("model", sort=False)["array"].transform("last")
    return rows[(rows["array"] == last).fillna(True)]


def preferred_rows(rows: pd.DataFrame, x: str | None = None, *, n_train: int | None = None) -> pd.DataFrame:
    """Return the rows of the last layer, one training size, the smallest k and one distance.

    Args:
        rows: rows of one analysis.
        x: column that is shown with all of its values (``m``, ``x_value`` for layers, ``n_train``); the training size
            is then the one with most of them.
        n_train: another choice of the training size, taken where the rows have it.
    """
    if rows.empty:
        return rows
    if x != "x_value":
        rows = last_layer(rows)
    if x != "n_train" and rows["n_train"].notna().any():
        size = n_train if (rows["n_train"] == n_train).any() else main_train_size(rows, x)
        rows = rows[rows["n_train"].isna() | (rows["n_train"] == size)]
    distances = sorted(rows["distance"].dropna().unique(), key=lambda name: (name != "euclidean", name))
    rows = rows[rows["distance"].isna() | (rows["distance"] == next(iter(distances), None))]
    return rows[rows["k"].isna() | (rows["k"] == rows["k"].min())]


def conditions(rows: pd.DataFrame) -> str:
    """Return what rows were computed with, in words: layer, k, m, training images, tokens and distance."""
    layers, k, m, sizes = (_values(column) for column in (layer_numbers(rows), rows["k"], rows["m"], rows["n_train"]))
    parts = [
        f"layer{'s' if len(layers) > 1 else ''} {_listed(layers)} (from 0)" if layers else "",
        f"k = {_listed(k)}" if k else "",
        f"m = {_listed(m)}" if m else "",
        f"{_listed(sizes)} training image{'' if sizes == [1] else 's'}" if sizes else "",
        " and ".join(_TOKENS.get(name, name) for name in dict.fromkeys(rows["token"].dropna())),
        " and ".join(f"{_DISTANCES.get(name, name)} distance" for name in dict.fromkeys(rows["distance"].dropna())),
    ]
    return "; ".join(part for part in parts if part)


def _values(column: "pd.Series[Any]") -> list[int]:
    return sorted({int(value) for value in column.dropna()})


def _listed(values: Sequence[int]) -> str:
    if len(values) > _MOST_LISTED:
        return f"{values[0]} to {values[-1]}"
    *first, last = (str(value) for value in values)
    return f"{', '.join(first)} and {last}" if first else last
