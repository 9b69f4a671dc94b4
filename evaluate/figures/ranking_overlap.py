"""Overlap of the features of highest variance with those elsewhere, against chance: paper A, appendix (A-9)."""

from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from evaluate.figures import style
from evaluate.results.metrics import CHANCE_OVERLAP_HIGH, CHANCE_OVERLAP_LOW, OVERLAP_SHARE
from evaluate.results.preferred import last_layer
from evaluate.results.table import Result


def figure(table: pd.DataFrame, results: list[tuple[str, Result]]) -> Figure | None:
    """Return one panel an m: a line a comparison, its share in the model's colour, the range of chance grey."""
    rows = style.metric_rows(table, "ranking-overlap", OVERLAP_SHARE)
    if rows.empty:
        return None
    rows = _compared(rows)
    lines, sizes = _keys(rows), style.counts(rows, "m")
    size = 2.0 * len(sizes) + 2.9, 0.42 * len(lines) + 1.5
    drawn, [panels] = style.new_figure(size, len(sizes), sharey=True, sharex=True)
    for panel, m in zip(panels, sizes, strict=True):
        chance = [
            style.metric_rows(table[table["m"] == m], "ranking-overlap", metric)
            for metric in (CHANCE_OVERLAP_LOW, CHANCE_OVERLAP_HIGH)
        ]
        low, high = (dict(zip(_keys(bound), bound["value"] / m, strict=True)) for bound in chance)
        for model, look, _, part in style.by_model(rows, table):
            part = part[part["m"] == m]
            keys = _keys(part)
            positions, starts = [lines.index(key) for key in keys], [float(low[key]) for key in keys]
            widths = [float(high[key]) - start for key, start in zip(keys, starts, strict=True)]
            panel.barh(positions, widths, 0.6, starts, color="#cfcfcf", linewidth=0)
            style.marks(panel, part, y=positions, label=model, markersize=5.5, **look)
        panel.set_title(f"top {m}", fontsize=10, loc="left")
        panel.set_xlim(-0.03, 1.03)
        panel.set_xticks([0.0, 0.5, 1.0])
        panel.set_xlabel("share in both")
    panels[0].set_yticks(range(len(lines)), [style.wrapped(_words(*line), 40) for line in lines])
    panels[0].tick_params(axis="y", labelsize=8)
    panels[0].set_ylim(len(lines) - 0.5, -0.5)
    style.legend_above(drawn, panels[0])
    style.name_conditions(drawn, rows)
    return drawn


def _compared(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the comparisons that are drawn: of last layers with other models and data, of layers with the last one."""
    layers = rows[rows["outcome"] == "layer"]
    last = layers.groupby("model", sort=False)["reference"].transform("last")
    return pd.concat([last_layer(rows.drop(layers.index)), layers[layers["reference"] == last]])


def _keys(rows: pd.DataFrame) -> list[tuple[Any, ...]]:
    """Return what tells comparisons apart, each once, empty values as None."""
    columns = rows[["model", "array", "reference", "layer", "x_value"]]
    return list(dict.fromkeys(columns.astype(object).where(columns.notna(), None).itertuples(index=False, name=None)))


def _words(model: str, array: str, reference: str, layer: int, other_layer: float | None) -> str:
    if other_layer is not None:
        return f"{model}: " + f"layers {layer} and {other_layer:g}".replace(" ", "\N{NO-BREAK SPACE}")
    return f"{model} and {reference}"
