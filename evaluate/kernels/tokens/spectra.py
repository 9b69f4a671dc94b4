"""Singular values of centred vectors, and how many dimensions they spread over.

With ``s`` the singular values of the centred matrix, decreasing, the spectrum is ``log s_i - log s_1``, and the
participation ratio is ``(sum lam)^2 / sum lam^2`` with ``lam = s^2``: 1 where all vectors lie on a line, D where they
spread evenly over D dimensions. Centring takes a dimension, so that n vectors have n - 1 singular values.
"""

import numpy as np
from jaxtyping import Float, Float64

RESOLUTION = 1e-6
"""Singular values below this share of the first count as this: stored tokens are rounded to more than that."""


def centred_gram(vectors: Float[np.ndarray, "vector channel"]) -> Float64[np.ndarray, "side side"]:
    """Return the products of the centred vectors, or of their channels where these are fewer."""
    centred = vectors.astype(np.float64)
    centred -= centred.mean(axis=0)
    return centred @ centred.T if len(centred) < centred.shape[1] else centred.T @ centred


def log_singular_values(gram: Float64[np.ndarray, "side side"], n_vectors: int) -> Float64[np.ndarray, " rank"]:
    """Return the logarithms of the singular values less that of the first; nan where all vectors are equal.

    Args:
        gram: what `centred_gram` gives.
        n_vectors: number of vectors; one fewer singular values are given, where there are so many channels.
    """
    squares = np.linalg.eigvalsh(gram)[::-1][: max(1, min(n_vectors - 1, len(gram)))]
    if squares[0] <= 0:
        return np.full(len(squares), np.nan)
    return 0.5 * np.log(np.maximum(squares / squares[0], RESOLUTION**2))


def shown_ranks(n_ranks: int) -> list[int]:
    """Return some numbers from 1 to ``n_ranks``, about two to a doubling, the last among them."""
    return sorted({n_ranks, *(rank for power in range(40) if (rank := round(2 ** (power / 2))) < n_ranks)})


def participation_ratio(gram: Float64[np.ndarray, "side side"]) -> float:
    """Return ``(sum lam)^2 / sum lam^2`` of a covariance or Gram matrix; nan where it is 0."""
    squares = float(np.square(gram).sum())
    return float(np.trace(gram)) ** 2 / squares if squares > 0 else float("nan")
