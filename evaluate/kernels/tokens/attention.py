"""Attention weights between patches, and the distance they reach.

For queries ``Q`` and keys ``K`` of one head, prefix tokens left out, ``A = softmax(Q K^T / sqrt(c))`` row by row; the
mean distance is ``1/N sum_ij A_ij d_ij`` with ``d`` between patch centres (Park et al., ICLR 2023;
naver-ai/cl-vs-mim, self_attention_analysis.ipynb, which drops the class token and divides rows by their new sums: the
same).
"""

import numpy as np
from jaxtyping import Float, Float32, Float64


def patch_distances(grid: tuple[int, int], patch: tuple[float, float]) -> Float64[np.ndarray, "query_patch key_patch"]:
    """Return the distances of all pairs of patch centres, row by row, in the unit of ``patch`` (height and width)."""
    rows = np.repeat(np.arange(grid[0]), grid[1]) * patch[0]
    columns = np.tile(np.arange(grid[1]), grid[0]) * patch[1]
    return np.hypot(rows[:, None] - rows, columns[:, None] - columns)


def uniform_distance(grid: tuple[int, int], patch: tuple[float, float]) -> float:
    """Return the mean distance of attention that is equal everywhere: 116.5 px on 14 x 14 patches of 16 px."""
    return float(patch_distances(grid, patch).mean())


def patch_attention(
    query: Float[np.ndarray, "token head_channel"], key: Float[np.ndarray, "token head_channel"], n_prefix: int
) -> Float32[np.ndarray, "query_patch key_patch"]:
    """Return one head's weights between patches; nothing is added to the products before the softmax."""
    patches = query[n_prefix:].astype(np.float32), key[n_prefix:].astype(np.float32)
    scores = patches[0] @ patches[1].T * np.float32(query.shape[1] ** -0.5)
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    weights /= weights.sum(axis=1, keepdims=True)
    return weights
