"""The grid of patches: where each patch is, and how far pairs of patches are apart.

Distances are Manhattan distances in patches, as in iREPA (Singh et al. 2025, arXiv 2512.10794).
"""

from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
from jaxtyping import Float32, Float64, Int64

NEAR, FAR = 1, 6
"""Pairs at this distance are neighbours, and pairs at that distance or more are far (2512.10794)."""
FARTHEST_FITTED = 8
"""The decay of cosines with distance is fitted up to this distance (2512.10794)."""


@dataclass(frozen=True)
class PatchGrid:
    """Rows and columns of patches, counted row by row from the top left."""

    rows: int
    columns: int

    @property
    def n_patches(self) -> int:
        """Number of patches."""
        return self.rows * self.columns

    @property
    def n_distances(self) -> int:
        """Number of Manhattan distances between patches, 0 among them."""
        return self.rows + self.columns - 1

    @cached_property
    def coordinates(self) -> Float64[np.ndarray, "patch 2"]:
        """Row and column of every patch, each with mean 0 over the grid, in patches."""
        places = np.indices((self.rows, self.columns)).reshape(2, -1).T.astype(np.float64)
        return places - places.mean(axis=0)

    @cached_property
    def distances(self) -> Int64[np.ndarray, "patch patch"]:
        """Manhattan distance of every pair of patches."""
        places = np.indices((self.rows, self.columns)).reshape(2, -1)
        apart: Int64[np.ndarray, "patch patch"] = np.abs(places[:, :, None] - places[:, None, :]).sum(axis=0)
        return apart.astype(np.int64)

    @cached_property
    def pair_counts(self) -> Float64[np.ndarray, " distance"]:
        """Number of ordered pairs at every distance; a patch and itself is a pair at distance 0."""
        return np.bincount(self.distances.reshape(-1), minlength=self.n_distances).astype(np.float64)

    @cached_property
    def pairs_by_distance(self) -> tuple[Int64[np.ndarray, " pair"], Int64[np.ndarray, " distance"]]:
        """Places of all pairs in a flat matrix of patches, each once and the nearest first, and where each distance
        from 1 on begins among them."""
        rows, columns = np.tril_indices(self.n_patches, -1)
        apart = self.distances[rows, columns]
        order = np.argsort(apart, kind="stable")
        starts = np.searchsorted(apart[order], np.arange(1, self.n_distances))
        return (rows * self.n_patches + columns)[order].astype(np.int64), starts.astype(np.int64)

    @cached_property
    def edges(self) -> Int64[np.ndarray, " patch"]:
        """0 for patches inside the grid, 1 for those of its border, 2 for its corners."""
        first = (np.arange(self.rows) % max(1, self.rows - 1) == 0).astype(np.int64)
        second = (np.arange(self.columns) % max(1, self.columns - 1) == 0).astype(np.int64)
        return (first[:, None] + second[None, :]).reshape(-1)

    def between(self, nearest: int, farthest: int) -> Float32[np.ndarray, "patch patch"]:
        """Return 1 where two patches are at a distance from ``nearest`` to ``farthest``, else 0."""
        return _between(self, nearest, farthest)


@cache
def _between(grid: PatchGrid, nearest: int, farthest: int) -> Float32[np.ndarray, "patch patch"]:
    return ((grid.distances >= nearest) & (grid.distances <= farthest)).astype(np.float32)
