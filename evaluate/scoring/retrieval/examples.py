"""Example queries of a retrieval with the clean patches nearest to them, as tiles for a picture.

Pictures are the stored inputs of the clean tiles (``input_pixels = true`` in [features]): views have none, so that a
query is shown at the clean patch that holds its centre, and one without such a patch is not shown.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int64, UInt8

from evaluate.inputs.model_sets import ModelSets
from evaluate.inputs.rows import RowSelection, spread_evenly

NEAREST = 3
"""Retrieved patches shown of every query."""
LARGEST = 128
"""Pixels a side above which a tile is shown smaller: a page of them must stay light."""

PREFIX = "example_"
"""Before the names of the arrays of a result that hold examples."""


class Example(NamedTuple):
    """One query with its nearest patches; patches are counted as `evaluate.inputs.gallery.Gallery.patches`."""

    view: str
    """Name and level of the query's view."""
    m: int
    query: int
    """The clean patch that corresponds to the query."""
    label: int
    hits: Int64[np.ndarray, " hit"]
    """The retrieved patches, nearest first."""
    outcomes: Int64[np.ndarray, " hit"]
    """What every hit is, as numbers of `evaluate.scoring.retrieval.outcomes.OUTCOMES`."""


def pixels_of(model: ModelSets) -> str | None:
    """Return the address of the clean tiles' inputs in the label set, None where the experiment does not keep them."""
    name = f"inputs/pixels.{model.spec.model.interpolation}"
    return name if model.labels.sealed(name) else None


def shown_queries(own: Int64[np.ndarray, " query"], n_shown: int) -> Int64[np.ndarray, " example"]:
    """Return ``n_shown`` queries, spread evenly over those that a clean patch corresponds to (``own`` is not -1)."""
    known = np.flatnonzero(own >= 0)
    return known[spread_evenly(len(known), n_shown)]


def example_arrays(
    examples: Sequence[Example], model: ModelSets, selection: RowSelection, array: str, pixels: str
) -> dict[str, np.ndarray]:
    """Return the arrays of a result that the figure of examples reads; each tile is stored once.

    Args:
        examples: queries with their nearest patches.
        model: stored sets of the model.
        selection: rows of the gallery.
        array: address of the token array.
        pixels: address of the inputs in the label set.
    """
    if not examples:
        return {}
    rows, columns = model.grid(array)
    patches = np.stack([[example.query, *example.hits] for example in examples])
    tiles, tile = np.unique(patches // (rows * columns), return_inverse=True)
    arrays = {
        "tiles": _smaller(model.labels[pixels][selection.rows[tiles]]),
        "tile": tile.reshape(patches.shape),
        "patch": patches % (rows * columns),
        "grid": np.array([rows, columns]),
        "view": np.array([example.view for example in examples]),
        "m": np.array([example.m for example in examples]),
        "category": np.array([model.class_names[example.label] for example in examples]),
        "outcome": np.stack([example.outcomes for example in examples]),
    }
    return {f"{PREFIX}{name}": values for name, values in arrays.items()}


def last_levels(views: Sequence[tuple[str, float]]) -> list[tuple[str, float]]:
    """Return every view at the level that is listed last of it."""
    return list(dict(views).items())


def _smaller(tiles: UInt8[np.ndarray, "tile height width 3"]) -> UInt8[np.ndarray, "tile rows columns 3"]:
    """Return tiles as means of squares of pixels, the least that bring both sides to `LARGEST` or below."""
    height, width = tiles.shape[1:3]
    side = -(-max(height, width) // LARGEST)
    rows, columns = height // side, width // side
    parts = tiles[:, : rows * side, : columns * side].reshape(len(tiles), rows, side, columns, side, 3)
    means: np.ndarray = np.rint(parts.mean(axis=(2, 4))).astype(np.uint8)
    return means
