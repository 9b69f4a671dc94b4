"""Comparison of recomputed features with the stored ones: differences, nearest neighbours, nearest labels."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int64, UInt8

from evaluate.neighbours.knn import nearest
from stores.specs import VOID


@dataclass(frozen=True)
class Fidelity:
    """The differences of one array over the compared rows."""

    array: str
    n_rows: int
    equal: bool
    """Whether every value is the same."""
    largest_absolute: float
    """Largest |again - stored|, in the unit of the features."""
    largest_relative: float
    """Largest |again - stored| over the largest |stored| of the array: single values may be zero."""
    neighbours_moved: int
    """Rows whose nearest other row, among the compared ones, is a different one for the recomputed features."""
    labels_moved: int | None
    """Patches whose nearest patch in another image has a different class then; None without labels."""
    n_patches: int
    """Patches that were compared for ``labels_moved``."""


def compare(
    array: str,
    stored: Float[np.ndarray, "sample ... channel"],
    again: Float[np.ndarray, "sample ... channel"],
    images: Int64[np.ndarray, " sample"],
    labels: UInt8[np.ndarray, "sample patch"] | None,
) -> Fidelity:
    """Compare recomputed rows with the stored ones.

    Neighbours of both are searched among the stored rows: a row as one vector among the other rows, a patch among
    the patches of other images that have a label. Distances are exact in float64, ties go to the lower index.

    Args:
        array: name of the array.
        stored: stored rows.
        again: the same rows, recomputed.
        images: source image of each row.
        labels: class of each patch, 255 for void; None compares no labels.
    """
    difference = np.abs(again.astype(np.float64) - stored)
    absolute = float(difference.max(initial=0.0))
    scale = float(np.abs(stored.astype(np.float64)).max(initial=0.0))
    equal = bool(np.array_equal(stored, again))
    labels_moved, n_patches = (None, 0)
    if labels is not None:
        labels_moved, n_patches = _labels_moved(stored, again, images, labels)
    return Fidelity(
        array=array,
        n_rows=len(stored),
        equal=equal,
        largest_absolute=absolute,
        largest_relative=absolute / scale if scale else absolute,
        neighbours_moved=0 if equal else int((nearest_rows(stored, stored) != nearest_rows(stored, again)).sum()),
        labels_moved=labels_moved,
        n_patches=n_patches,
    )


def nearest_rows(
    bank: Float[np.ndarray, "sample ... channel"], queries: Float[np.ndarray, "sample token channel"]
) -> Int64[np.ndarray, " sample"]:
    """Return for each query row the nearest bank row of another number; -1 where there is none."""
    rows = bank.reshape(len(bank), -1).astype(np.float64)
    nearest_row = np.full(len(queries), -1, np.int64)
    for number, query in enumerate(queries.reshape(len(queries), -1).astype(np.float64)):
        squared = ((rows - query) ** 2).sum(axis=1)
        squared[number] = np.inf
        if len(rows) > 1:
            nearest_row[number] = int(squared.argmin())
    return nearest_row


def _labels_moved(
    stored: Float[np.ndarray, "sample token channel"],
    again: Float[np.ndarray, "sample token channel"],
    images: Int64[np.ndarray, " sample"],
    labels: UInt8[np.ndarray, "sample patch"],
) -> tuple[int | None, int]:
    """Return how many patches get another 1-NN label, and of how many; None below two labelled images."""
    known = labels.reshape(-1) != VOID
    groups = np.repeat(images, labels.shape[1])[known]
    if len(np.unique(groups)) < 2:
        return None, 0
    bank = stored.reshape(-1, stored.shape[-1])[known]
    ids = labels.reshape(-1)[known]
    if np.array_equal(stored, again):
        return 0, len(ids)
    votes = [
        ids[nearest(bank, queries, 1, bank_groups=groups, query_groups=groups).indices[:, 0]]
        for queries in (bank, again.reshape(-1, stored.shape[-1])[known])
    ]
    return int((votes[0] != votes[1]).sum()), len(ids)
