"""Some queries of a retrieval with the clean patches nearest to them, as tiles for a picture.

Pictures are the stored inputs of the clean tiles (``input_pixels = true`` in [features]): views have none, so that a
query is shown at the clean patch that holds its centre, and one without such a patch is not shown.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Int64, UInt8

from evaluate.inputs.model_sets import ModelSets
from evaluate.inputs.rows import RowSelection

NEAREST = 3
"""Retrieved patches shown of every query."""
LARGEST = 128
"""Pixels a side above which a tile is shown smaller: a page of them must stay light."""

ARRAYS = "example_"
"""Before the names of the arrays of an answer that hold examples."""


def pixels_of(model: ModelSets) -> str | None:
    """Return the address of the clean tiles' inputs in the label set, None where the experiment does not keep them."""
    name = f"inputs/pixels.{model.spec.model.interpolation}"
    return name if model.labels.sealed(name) else None


def smaller(tiles: UInt8[np.ndarray, "tile height width 3"]) -> UInt8[np.ndarray, "tile rows columns 3"]:
    """Return tiles as means of squares of pixels, the least that bring both sides to `LARGEST` or below."""
    height, width = tiles.shape[1:3]
    side = -(-max(height, width) // LARGEST)
    rows, columns = height // side, width // side
    parts = tiles[:, : rows * side, : columns * side].reshape(len(tiles), rows, side, columns, side, 3)
    means: np.ndarray = np.rint(parts.mean(axis=(2, 4))).astype(np.uint8)
    return means


@dataclass
class Examples:
    """Examples as they are found; places count as in the gallery, row times patches plus patch."""

    per_view: int
    views: list[str] = field(default_factory=list)
    """One a line: what the view was."""
    removed: list[int] = field(default_factory=list)
    queries: list[int] = field(default_factory=list)
    """The query's clean place, one a line."""
    query_labels: list[int] = field(default_factory=list)
    hits: list[Int64[np.ndarray, " hit"]] = field(default_factory=list)
    outcomes: list[Int64[np.ndarray, " hit"]] = field(default_factory=list)
    """What every hit is, as numbers of `evaluate.scoring.retrieval.OUTCOMES`."""

    def shown(self, own: Int64[np.ndarray, " query"]) -> Int64[np.ndarray, " example"]:
        """Return which queries are shown: spread evenly over those that a clean patch corresponds to."""
        known = np.flatnonzero(own >= 0)
        n_shown = min(self.per_view, len(known))
        return known[np.unique(np.linspace(0, len(known) - 1, n_shown).round().astype(np.int64))]

    def add(
        self, view: str, m: int, query: tuple[int, int], hits: Int64[np.ndarray, " hit"], became: np.ndarray
    ) -> None:
        """Keep one line: the query's place and label, and its hits, nearest first."""
        self.views.append(view)
        self.removed.append(m)
        self.queries.append(query[0])
        self.query_labels.append(query[1])
        self.hits.append(hits)
        self.outcomes.append(became)

    def arrays(self, model: ModelSets, chosen: RowSelection, array: str, pixels: str) -> Mapping[str, np.ndarray]:
        """Return what a figure needs; each tile is kept once."""
        if not self.views:
            return {}
        rows, columns = model.grid(array)
        places = np.column_stack([np.array(self.queries, dtype=np.int64), np.stack(self.hits)])
        wanted, tile = np.unique(places // (rows * columns), return_inverse=True)
        names = model.classes["name"].to_numpy()
        found = {
            "tiles": smaller(model.labels[pixels][chosen.rows[wanted]]),
            "tile": tile.reshape(places.shape),
            "patch": places % (rows * columns),
            "grid": np.array([rows, columns]),
            "view": np.array(self.views),
            "m": np.array(self.removed),
            "category": np.array([str(names[label]) for label in self.query_labels]),
            "outcome": np.stack(self.outcomes),
        }
        return {f"{ARRAYS}{name}": values for name, values in found.items()}


def strongest(views: Sequence[tuple[str, float]]) -> list[tuple[str, float]]:
    """Return every view at the level that is listed last of it."""
    return list({name: (name, level) for name, level in views}.values())
