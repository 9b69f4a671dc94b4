"""Pictures of patch tokens, models and layers side by side: components as colours, norms, cosines with a query."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.patches import Rectangle

from evaluate.figures import style
from evaluate.results.table import Result

CELL = 1.5
"""Width of a picture, in inches."""
MOST_COLUMNS = 7
"""Pictures side by side; more go on in further lines."""
MOST_CHARACTERS = 27
"""Of a name above an input."""
BOXES = ("#D55E00", "#0072B2", "#009E73", "#CC79A7")
"""Colours of query patches."""

Column = tuple[str, dict[str, np.ndarray], int]
"""Title, arrays of the model, and number of the layer."""


def components(table: pd.DataFrame, results: list[tuple[str, Result]]) -> Figure | None:
    """Return one row an image: the input, then the three principal components of every model and layer as colours."""

    def show(panel: Axes, arrays: dict[str, np.ndarray], layer: int, image: int) -> None:
        _show(panel, arrays[f"picture_components/{layer}"][image])

    return _grid(results, "components", show)


def norm(table: pd.DataFrame, results: list[tuple[str, Result]]) -> Figure | None:
    """Return one row an image: the input, then the norms of the tokens of every model and layer, one scale a layer."""

    def show(panel: Axes, arrays: dict[str, np.ndarray], layer: int, image: int) -> None:
        values = arrays[f"picture_norm/{layer}"]
        _show(panel, values[image], vmin=float(values.min()), vmax=float(values.max()), cmap="viridis")
        if image == len(values) - 1:
            panel.set_xlabel(f"{values.min():.3g} to {values.max():.3g}", fontsize=7)

    return _grid(results, "norm", show)


def cosine(table: pd.DataFrame, results: list[tuple[str, Result]]) -> Figure | None:
    """Return one row an image and query: the input with the query framed, then the cosines of every model and layer."""
    drawn_from = _columns(results, "cosine")
    n_queries = max((len(arrays["picture_queries"]) for _, arrays, _ in drawn_from), default=0)

    def show(panel: Axes, arrays: dict[str, np.ndarray], layer: int, line: int) -> None:
        image, query = divmod(line, n_queries)
        values = arrays[f"picture_cosine/{layer}"][image]
        if query < len(values):
            _show(panel, values[query], vmin=-1.0, vmax=1.0, cmap="RdBu_r")
            _box(panel, arrays["picture_queries"][query], values.shape[1:], values.shape[1:], query)
        if line == len(arrays["picture_samples"]) * n_queries - 1:
            panel.set_xlabel("cosine -1 to 1", fontsize=7)

    return _grid(results, "cosine", show, n_queries)


def _columns(results: list[tuple[str, Result]], kind: str) -> list[Column]:
    """Return the pictures of one kind that results have."""
    found = []
    for model, result in results:
        arrays = result.arrays
        for number, layer in enumerate(arrays.get("picture_layers", ())):
            if f"picture_{kind}/{number}" in arrays:
                found.append((f"{model}\n{layer}", arrays, number))
    return found


def _grid(
    results: list[tuple[str, Result]],
    kind: str,
    show: Callable[[Axes, dict[str, np.ndarray], int, int], None],
    n_queries: int = 1,
) -> Figure | None:
    """Return a grid: a row an image (and query), its input and then a column a model and layer."""
    columns = _columns(results, kind)
    if not columns or not n_queries:
        return None
    n_lines = max(len(arrays["picture_samples"]) for _, arrays, _ in columns) * n_queries
    blocks = [columns[start : start + MOST_COLUMNS] for start in range(0, len(columns), MOST_COLUMNS)]
    n_columns = 1 + max(map(len, blocks))
    heights = [CELL * _ratio(columns) + 0.28] * n_lines
    size = CELL * n_columns + 0.2, len(blocks) * (sum(heights) + 0.75)
    drawn, axes = style.new_figure(size, n_columns, n_lines * len(blocks))
    for panel in axes.flat:
        style.hide_axes(panel)
        panel.set_frame_on(False)
    for block, some in enumerate(blocks):
        lines = axes[block * n_lines : (block + 1) * n_lines]
        _inputs([line[0] for line in lines], columns[0][1], kind, n_queries, _ratio(columns))
        for place, (title, arrays, layer) in enumerate(some, start=1):
            for line in range(min(n_lines, len(arrays["picture_samples"]) * n_queries)):
                show(lines[line][place], arrays, layer, line)
            lines[0][place].set_title(style.wrapped(title, 26), fontsize=7)
    return drawn


def _ratio(columns: Sequence[Column]) -> float:
    """Return the height of the pictures over their width."""
    _, arrays, number = columns[0]
    shape = next(
        arrays[name].shape[-3:-1] if "components" in name else arrays[name].shape[-2:]
        for name in arrays
        if name.startswith("picture_") and name.endswith(f"/{number}")
    )
    return float(shape[0]) / float(shape[1])


def _inputs(panels: Sequence[Axes], arrays: dict[str, np.ndarray], kind: str, n_queries: int, ratio: float) -> None:
    """Show the inputs in the first column, each below its name, with the queries framed."""
    for line, panel in enumerate(panels):
        image, query = divmod(line, n_queries)
        if image >= len(arrays["picture_samples"]):
            continue
        if "picture_inputs" in arrays:
            pixels = arrays["picture_inputs"][image]
            _show(panel, pixels)
            if kind == "cosine" and query < len(arrays["picture_queries"]):
                grid = arrays["picture_cosine/0"].shape[2:]
                _box(panel, arrays["picture_queries"][query], grid, pixels.shape[:2], query)
        else:
            panel.set_box_aspect(ratio)  # as high as a picture, so that the name stands just above
            words = "no input pixels\nare stored"
            panel.text(0.5, 0.5, words, fontsize=7, ha="center", va="center", transform=panel.transAxes)
        # parse_math would read TeX between two dollars of a file's name.
        panel.set_title(_sample_name(str(arrays["picture_samples"][image])), fontsize=6.5, parse_math=False)


def _sample_name(sample: str) -> str:
    """Return the name of an image and of its tile in two lines, the middle of a long name left out."""
    font = get_font(findfont(FontProperties()))
    shown = "".join(one if one.isprintable() and font.get_char_index(ord(one)) else ascii(one)[1:-1] for one in sample)
    name, bracket, tile = shown.rpartition("[") if shown.endswith("]") else (shown, "", "")
    if len(name) > MOST_CHARACTERS:
        half = (MOST_CHARACTERS - 1) // 2
        name = f"{name[:half]}\N{HORIZONTAL ELLIPSIS}{name[-half:]}"
    return f"{name}\n{bracket}{tile}" if bracket and name else name or shown


def _show(panel: Axes, picture: np.ndarray, **options: Any) -> None:
    """Show a picture whose coordinates count its pixels or patches."""
    extent = (0, picture.shape[1], picture.shape[0], 0)
    panel.imshow(picture, interpolation="nearest", extent=extent, **options)


def _box(panel: Axes, query: np.ndarray, grid: Sequence[int], size: Sequence[int], number: int) -> None:
    """Frame a query patch in a picture of ``size`` (height, width) in the panel's coordinates."""
    row, column = (min(int(share * side), side - 1) for share, side in zip(query, grid, strict=True))
    height, width = size[0] / grid[0], size[1] / grid[1]
    for edge, thickness in (("white", 2.4), (BOXES[number % len(BOXES)], 1.2)):
        corner = column * width, row * height
        panel.add_patch(Rectangle(corner, width, height, fill=False, edgecolor=edge, linewidth=thickness))
