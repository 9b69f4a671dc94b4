"""Tiles as MAE's decoder reconstructs them from features with some zeroed: the pictures to paper A, Table 4."""

import pandas as pd
from matplotlib.figure import Figure

from evaluate.figures import style
from evaluate.results.table import Result

COLUMNS = {
    "input": "input",
    "masked_input": "what the encoder saw",
    "none": "nothing zeroed",
    "top": "top {m} zeroed",
    "random": "{m} random zeroed",
    "all-but-top": "all but top {m} zeroed",
}
CELL = 1.45
"""Width of a picture, in inches."""
LEFT, TOP = 0.5, 0.4
"""Room for titles, in inches."""


def figure(table: pd.DataFrame, results: list[tuple[str, Result]]) -> Figure | None:
    """Return one row a tile, model and share of masked patches; one column a variant."""
    lines = [
        (_title(model, float(result.arrays["reconstruction_mask_ratio"])), result.arrays, tile)
        for model, result in results
        for tile in range(len(result.arrays.get("reconstruction_input", ())))
    ]
    if not lines:
        return None
    height, width = lines[0][1]["reconstruction_input"].shape[1:3]
    size = LEFT + CELL * len(COLUMNS), TOP + CELL * height / width * len(lines)
    drawn, axes = style.new_figure(size, len(COLUMNS), len(lines), layout=None)
    style.place_panels(drawn, LEFT / size[0], 0.0, 1.0, 1.0 - TOP / size[1], wspace=0.04, hspace=0.04)
    for line, (title, arrays, tile) in zip(axes, lines, strict=True):
        for panel, name in zip(line, COLUMNS, strict=True):
            panel.imshow(arrays[f"reconstruction_{name}"][tile])
            style.hide_axes(panel)
        if tile == 0:
            line[0].set_ylabel(style.wrapped(title, 22), fontsize=7)
    rows = table[table["analysis"] == "reconstruction"]
    m = int(rows["m"].max())
    for panel, name in zip(axes[0], COLUMNS.values(), strict=True):
        panel.set_title(style.wrapped(name.format(m=m), 18), fontsize=8)
    style.name_conditions(drawn, rows)
    return drawn


def _title(model: str, ratio: float) -> str:
    return f"{model}, {'nothing' if ratio == 0 else f'{100 * ratio:g} %'} masked"
