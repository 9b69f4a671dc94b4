"""Which patches of a sample a masked encoder sees: drawn from a seed and the sample's name, never from its row."""

import hashlib
from collections.abc import Iterable

import numpy as np
from jaxtyping import Int64, Integer

from pipeline.rows.frames import Box
from stores.canonical import canonical_json
from stores.errors import UserError

REVISION = 1
"""Raised when the same seed and sample give other patches."""

Place = tuple[str, Box]
"""What a sample is named by: its source and its tile box."""


def n_visible(n_patches: int, ratio: float) -> int:
    """Return how many patches stay visible: the whole part of ``n_patches (1 - ratio)``, as in MAE's code.

    Raises UserError when none would.
    """
    kept = int(n_patches * (1 - ratio))
    if kept < 1:
        raise UserError(
            f"a mask of {ratio:g} leaves none of {n_patches} patches: lower `ratio` of masked in [features]"
        )
    return kept


def visible_ids(
    places: Iterable[Place], n_patches: int, ratio: float, seed: int
) -> Int64[np.ndarray, "sample visible"]:
    """Return the patches each sample keeps, as row-major grid numbers in increasing order.

    Every patch of a sample gets a number from the raw bits of PCG64, keyed by the sha256 of (seed, source name, tile
    box); the lowest stay. That is MAE's uniform sampling without replacement (arXiv 2111.06377, section 3), whatever
    the batch, the order or the machine. MAE's code keeps the drawn order; the encoder's blocks do not see it.
    """
    kept = n_visible(n_patches, ratio)
    drawn = [_drawn(place, n_patches, seed)[:kept] for place in places]
    return np.sort(np.array(drawn, dtype=np.int64).reshape(len(drawn), kept), axis=1)


def _drawn(place: Place, n_patches: int, seed: int) -> Int64[np.ndarray, " patch"]:
    name, box = place
    key = hashlib.sha256(canonical_json([seed, name, list(box)])).digest()
    bits = np.random.PCG64(int.from_bytes(key[:16], "little")).random_raw(n_patches)
    return np.argsort(bits, kind="stable").astype(np.int64)


def ids_restore(ids: Integer[np.ndarray, "sample visible"], n_patches: int) -> Int64[np.ndarray, "sample patch"]:
    """Return MAE's ``ids_restore`` for visible patches: where each patch is in (visible tokens, then mask tokens).

    Masked patches are taken in increasing order; their mask tokens are equal, so that any order gives the same.
    """
    masked = [np.setdiff1d(np.arange(n_patches), row) for row in ids]
    sequence = np.concatenate([ids.astype(np.int64), np.array(masked, dtype=np.int64)], axis=1)
    return np.argsort(sequence, axis=1).astype(np.int64)
