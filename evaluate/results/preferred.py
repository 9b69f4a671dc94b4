"""The training size that stands for an experiment with several: one choice for claims, figures and the first table."""

import pandas as pd

from evaluate.results.metrics import PATCH_MIOU


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
