"""Gallery and query patches of retrieval: clean patches, and patches under a view (paper A, section 3.3)."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Int64, UInt8

from evaluate.inputs.model_sets import ModelSets
from evaluate.inputs.patches import patch_labels, tokens
from evaluate.inputs.rows import RowSelection, image_numbers
from evaluate.inputs.views import correspondence
from stores.errors import UserError
from stores.specs import VOID

BACKGROUND = "background"
"""Name of the class that no query has."""

LeftOut = Literal["nothing", "tile", "source"]
"""What of the gallery a query does not see: nothing, its own tile, or its whole source image."""


@dataclass(frozen=True)
class Gallery:
    """The clean patches that can be found."""

    chosen: RowSelection
    features: np.ndarray
    """``(gallery, channel)``, as stored."""
    labels: Int64[np.ndarray, " gallery"]
    places: Int64[np.ndarray, " gallery"]
    """Row times patches plus patch, of each gallery entry, rows counted within the chosen ones."""
    n_patches: int
    sources: Int64[np.ndarray, " row"]
    """Number of each chosen row's source."""
    background: int | None
    """Number of the background class, None where the data set has none."""

    def groups(self, left_out: LeftOut) -> Int64[np.ndarray, " row"] | None:
        """Return the group of each row within which a query finds nothing; None where it sees everything."""
        return {"nothing": None, "tile": np.arange(len(self.sources)), "source": self.sources}[left_out]


@dataclass(frozen=True)
class Queries:
    """The patches under one view that show an object."""

    features: np.ndarray
    """``(query, channel)``, as stored."""
    labels: Int64[np.ndarray, " query"]
    rows: Int64[np.ndarray, " query"]
    """Which chosen row each is of."""
    own: Int64[np.ndarray, " query"]
    """Place in the gallery's numbering of the corresponding clean patch, -1 for none."""


def gallery(model: ModelSets, array: str, chosen: RowSelection) -> Gallery:
    """Read the labelled clean patches of the chosen rows; raises UserError when there is none."""
    labels = patch_labels(model, array, chosen)
    labelled = labels != VOID
    known = np.flatnonzero(labelled)
    if not len(known):
        raise UserError(f"none of the {chosen.title} for retrieval has a labelled patch: choose other images")
    return Gallery(
        chosen=chosen,
        features=tokens(model, array, chosen, labelled),
        labels=labels[known].astype(np.int64),
        places=known.astype(np.int64),
        n_patches=len(labels) // len(chosen.rows),
        sources=image_numbers(model, chosen),
        background=background_of(model),
    )


def background_of(model: ModelSets) -> int | None:
    """Return the class that shows no object, None where there is none."""
    names = list(model.classes["name"])
    return names.index(BACKGROUND) if BACKGROUND in names else None


def shows_object(labels: UInt8[np.ndarray, " patch"], background: int | None) -> Bool[np.ndarray, " patch"]:
    """Return which patches can be queries."""
    shown = labels != VOID
    return shown if background is None else shown & (labels != background)


def queries(model: ModelSets, array: str, view: tuple[str, float], found: Gallery) -> Queries:
    """Read the gallery's rows under a view, ``clean`` among them: the patches that are neither background nor void."""
    chosen = found.chosen
    if view[0] == "clean":
        for_view, same = model, np.tile(np.arange(found.n_patches), (len(chosen.rows), 1))
    else:
        for_view = model.for_view(*view)
        same = correspondence(model, model.views[view], array, chosen.rows)
    labels: UInt8[np.ndarray, " patch"] = patch_labels(for_view, array, chosen)
    shown = shows_object(labels, found.background)
    numbers = np.flatnonzero(shown)
    row = numbers // same.shape[1]
    patch = same.reshape(-1)[numbers].astype(np.int64)
    own = np.where(patch >= 0, row * found.n_patches + patch, -1)
    return Queries(tokens(for_view, array, chosen, shown), labels[numbers].astype(np.int64), row, own)
