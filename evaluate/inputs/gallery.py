"""Gallery and query patches of retrieval: clean patches, and patches under a view (paper A, section 3.3)."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Bool, Int64, UInt8

from evaluate.inputs.model_sets import ModelSets
from evaluate.inputs.patches import patch_labels, tokens
from evaluate.inputs.rows import RowSelection, image_numbers
from evaluate.inputs.views import correspondence
from evaluate.kernels.subspaces import Placement
from evaluate.kernels.treatments import Treatment, treat_bank
from stores.errors import UserError
from stores.specs import VOID

BACKGROUND = "background"
"""Name of the class that no query has."""

LeftOut = Literal["nothing", "tile", "source"]
"""What of the gallery is left out for a query: nothing, its own tile, or its whole source image."""


@dataclass(frozen=True)
class Gallery:
    """The clean patches that queries retrieve."""

    selection: RowSelection
    features: np.ndarray
    """``(gallery, channel)``, as stored or treated."""
    labels: Int64[np.ndarray, " gallery"]
    patches: Int64[np.ndarray, " gallery"]
    """Index of each among all patches of the selected rows, unlabelled ones counted."""
    n_patches: int
    """Patches of a row."""
    sources: Int64[np.ndarray, " row"]
    """Number of each selected row's source."""
    background: int | None
    """Number of the background class, None where the data set has none."""
    treat: Callable[[np.ndarray], np.ndarray] = lambda rows: rows
    """What was done to the features, for queries."""

    def groups(self, left_out: LeftOut) -> Int64[np.ndarray, " row"] | None:
        """Return the group of each row within which nothing is retrieved; None where nothing is left out."""
        return {"nothing": None, "tile": np.arange(len(self.sources)), "source": self.sources}[left_out]


@dataclass(frozen=True)
class Queries:
    """The patches under one view that show an object."""

    features: np.ndarray
    """``(query, channel)``, as the gallery's."""
    labels: Int64[np.ndarray, " query"]
    rows: Int64[np.ndarray, " query"]
    """Index of each one's row among the selected rows."""
    own: Int64[np.ndarray, " query"]
    """Index of the corresponding clean patch, counted as `Gallery.patches`; -1 for none."""


def read_gallery(model: ModelSets, array: str, selection: RowSelection) -> Gallery:
    """Read the labelled clean patches of the selected rows; raises UserError when there is none."""
    labels = patch_labels(model, array, selection)
    labelled = labels != VOID
    patches = np.flatnonzero(labelled)
    if not len(patches):
        raise UserError(f"none of the {selection.title} for retrieval has a labelled patch: choose other images")
    return Gallery(
        selection=selection,
        features=tokens(model, array, selection, labelled),
        labels=labels[patches].astype(np.int64),
        patches=patches.astype(np.int64),
        n_patches=len(labels) // len(selection.rows),
        sources=image_numbers(model, selection),
        background=background_of(model),
    )


def treat_gallery(gallery: Gallery, treatment: Treatment, seed: int) -> Gallery:
    """Return a gallery of treated features, without the patches that the treatment leaves out.

    Args:
        gallery: patches as stored.
        treatment: what is done, fitted on the gallery; no removal.
        seed: seed of random signs.
    """
    row, place = np.divmod(gallery.patches, gallery.n_patches)
    placed = Placement(gallery.sources[row], place, len(gallery.selection.sources), gallery.n_patches)
    bank = treat_bank(treatment, gallery.features, placed, seed)
    labels, patches = gallery.labels[bank.kept], gallery.patches[bank.kept]
    return replace(gallery, features=bank.features, labels=labels, patches=patches, treat=bank.treat)


def background_of(model: ModelSets) -> int | None:
    """Return the class that shows no object, None where there is none."""
    return model.class_names.index(BACKGROUND) if BACKGROUND in model.class_names else None


def shows_object(labels: UInt8[np.ndarray, " patch"], background: int | None) -> Bool[np.ndarray, " patch"]:
    """Return which patches can be queries: those that are neither void nor background."""
    labelled = labels != VOID
    return labelled if background is None else labelled & (labels != background)


def read_queries(model: ModelSets, array: str, view: tuple[str, float], gallery: Gallery) -> Queries:
    """Read the gallery's rows under a view, ``clean`` among them: the patches that show an object.

    Args:
        model: stored sets of the model.
        array: address of the token array.
        view: name and level of the view.
        gallery: the clean patches that will be retrieved.
    """
    selection = gallery.selection
    if view[0] == "clean":
        for_view, same = model, np.tile(np.arange(gallery.n_patches), (len(selection.rows), 1))
    else:
        for_view = model.for_view(*view)
        same = correspondence(model, model.views[view], array, selection.rows)
    labels: UInt8[np.ndarray, " patch"] = patch_labels(for_view, array, selection)
    shown = shows_object(labels, gallery.background)
    indices = np.flatnonzero(shown)
    row = indices // same.shape[1]
    patch = same.reshape(-1)[indices].astype(np.int64)
    own = np.where(patch >= 0, row * gallery.n_patches + patch, -1)
    return Queries(gallery.treat(tokens(for_view, array, selection, shown)), labels[indices].astype(np.int64), row, own)
