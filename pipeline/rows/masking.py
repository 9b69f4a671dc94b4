"""Chooses the visible patches of a masked encoder from a seed and the sample's source and tile, not from its row."""

import hashlib
from collections.abc import Iterable

import numpy as np
from jaxtyping import Int64, Integer

from pipeline.rows.frames import Box
from stores.canonical import canonical_json
from stores.errors import UserError

REVISION = 1
"""Increased when the same seed and sample give other patches."""

TileId = tuple[str, Box]
"""Identity of a sample: source name and tile box."""


def n_visible(n_patches: int, ratio: float) -> int:
    """Return how many patches stay visible: the whole part of ``n_patches (1 - ratio)``, as in MAE's code.

    Raises UserError when that is none.
    """
    kept = int(n_patches * (1 - ratio))
    if kept < 1:
        raise UserError(
            f"a mask of {ratio:g} leaves no visible patch of {n_patches}: lower `ratio` of masked in [features]"
        )
    return kept


def visible_ids(
    tile_ids: Iterable[TileId], n_patches: int, ratio: float, seed: int
) -> Int64[np.ndarray, "sample visible"]:
    """Return the visible patches of each sample, as row-major grid numbers in increasing order.

    Every patch of a sample gets a number from the raw bits of PCG64, keyed by the sha256 of (seed, source name, tile
    box); the patches with the lowest numbers are visible. That is MAE's uniform sampling without replacement (arXiv
    2111.06377, section 3), independent of batch, order and machine. MAE's code keeps the drawn order, which makes no
    difference to the encoder's blocks.

    Args:
        tile_ids: Source name and tile box of each sample.
        n_patches: Patches of a sample.
        ratio: Share of patches that are masked, 0..1.
        seed: Seed of the choice.
    """
    n_kept = n_visible(n_patches, ratio)
    drawn = [_drawn(tile_id, n_patches, seed)[:n_kept] for tile_id in tile_ids]
    return np.sort(np.array(drawn, dtype=np.int64).reshape(len(drawn), n_kept), axis=1)


def _drawn(tile_id: TileId, n_patches: int, seed: int) -> Int64[np.ndarray, " patch"]:
    name, box = tile_id
    key = hashlib.sha256(canonical_json([seed, name, list(box)])).digest()
    bits = np.random.PCG64(int.from_bytes(key[:16], "little")).random_raw(n_patches)
    return np.argsort(bits, kind="stable").astype(np.int64)


def ids_restore(ids: Integer[np.ndarray, "sample visible"], n_patches: int) -> Int64[np.ndarray, "sample patch"]:
    """Return MAE's ``ids_restore`` for visible patches: where each patch is in (visible tokens, then mask tokens).

    Masked patches are in increasing order; since all mask tokens are equal, any order gives the same result.
    """
    masked = [np.setdiff1d(np.arange(n_patches), row) for row in ids]
    sequence = np.concatenate([ids.astype(np.int64), np.array(masked, dtype=np.int64)], axis=1)
    return np.argsort(sequence, axis=1).astype(np.int64)
