"""Which features vary most elsewhere too, against chance: paper A, appendix (experiment A-9)."""

import textwrap
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from evaluate.figures.style import cells, error_bars, grid_figure, last_array, legend_above, looks, numbers
from evaluate.results.table import Result


def compared(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the comparisons that are drawn, a row an m: of last layers with elsewhere, of layers with the last one."""
    layers = rows[rows["outcome"] == "layer"]
    last = layers.groupby("model", sort=False)["reference"].transform("last")
    return pd.concat([last_array(rows.drop(layers.index)), layers[layers["reference"] == last]])


def figure(table: pd.DataFrame, answers: list[tuple[str, Result]]) -> Figure | None:
    """Return one panel an m: a line a comparison, its share in the model's colour, the range of chance grey."""
    asked = table[table["analysis"] == "ranking-overlap"]
    rows = cells(asked, "overlap_share")
    if rows.empty:
        return None
    rows = compared(rows)
    keys = ["model", "array", "reference", "layer", "x_value"]
    lines = _keys(rows, keys)
    sizes = sorted({int(m) for m in rows["m"]})
    styles = looks(table)
    drawn, axes = grid_figure(2.0 * len(sizes) + 2.9, 0.42 * len(lines) + 1.5, 1, len(sizes), sharey=True, sharex=True)
    for panel, m in zip(axes[0], sizes, strict=True):
        low, high = (
            {key: value / m for key, value in zip(_keys(chance, keys), chance["value"], strict=True)}
            for chance in (cells(asked[asked["m"] == m], f"chance_overlap_{end}") for end in ("low", "high"))
        )
        for model in dict.fromkeys(rows["model"]):
            part = rows[(rows["model"] == model) & (rows["m"] == m)]
            named = _keys(part, keys)
            places = [lines.index(name) for name in named]
            starts, ends = ([float(bound[name]) for name in named] for bound in (low, high))
            panel.barh(
                places, [end - start for start, end in zip(starts, ends, strict=True)], 0.6, starts, color="#cfcfcf",
                linewidth=0,
            )  # fmt: skip
            look = {**styles[str(model)], "linestyle": "none"}
            panel.errorbar(
                numbers(part, "value"), places, xerr=error_bars(part), label=str(model), markersize=5.5,
                elinewidth=1.2, **look,
            )  # fmt: skip
        panel.set_title(f"top {m}", fontsize=10, loc="left")
        panel.set_xlim(-0.03, 1.03)
        panel.set_xticks([0.0, 0.5, 1.0])
        panel.set_xlabel("share in both")
    axes[0][0].set_yticks(range(len(lines)), ["\n".join(textwrap.wrap(_words(*line), 40)) for line in lines])
    axes[0][0].tick_params(axis="y", labelsize=8)
    axes[0][0].set_ylim(len(lines) - 0.5, -0.5)
    legend_above(drawn, axes[0][0])
    return drawn


def _keys(rows: pd.DataFrame, names: list[str]) -> list[tuple[Any, ...]]:
    """Return the values of some columns of every row, each once, empty cells as None."""
    plain = rows[names].astype(object).where(rows[names].notna(), None)
    return list(dict.fromkeys(plain.itertuples(index=False, name=None)))


def _words(model: str, array: str, reference: str, layer: int, other_layer: float | None) -> str:
    if other_layer is not None:
        return f"{model}: " + f"layers {layer} and {other_layer:g}".replace(" ", "\N{NO-BREAK SPACE}")
    return f"{model} and {reference}"
