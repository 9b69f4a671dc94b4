"""Clusters of tokens by k-means, and which class each cluster is given."""

import numpy as np
from jaxtyping import Float, Float32, Int64, Integer
from scipy.optimize import linear_sum_assignment

MOST_ITERATIONS = 100


def cluster_centres(
    tokens: Float[np.ndarray, "token channel"], n_clusters: int, seed: int
) -> Float32[np.ndarray, "cluster channel"]:
    """Return the centres of scikit-learn's k-means: one k-means++ start of this seed, on one thread.

    Several threads would add tokens in another order, and give other bits.
    """
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    fitted = KMeans(n_clusters, n_init=1, max_iter=MOST_ITERATIONS, random_state=seed, algorithm="lloyd")
    with threadpool_limits(1):
        centres: np.ndarray = fitted.fit(tokens.astype(np.float32)).cluster_centers_
    return centres.astype(np.float32)


def nearest_centres(
    tokens: Float[np.ndarray, "token channel"], centres: Float32[np.ndarray, "cluster channel"]
) -> Int64[np.ndarray, " token"]:
    """Return the nearest centre of every token; of equally near ones the first."""
    wide = centres.astype(np.float64)
    products = tokens.astype(np.float64) @ wide.T
    found: np.ndarray = (np.square(wide).sum(axis=1) / 2 - products).argmin(axis=1)
    return found


def unit_length(tokens: Float[np.ndarray, "token channel"]) -> Float32[np.ndarray, "token channel"]:
    """Return tokens of length 1; those of length 0 stay as they are."""
    wide = tokens.astype(np.float32)
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    return np.divide(wide, lengths, out=wide.copy(), where=lengths > 0)


def contingency(
    clusters: Integer[np.ndarray, " token"], classes: Integer[np.ndarray, " token"], n_clusters: int, n_classes: int
) -> Int64[np.ndarray, "cluster class"]:
    """Return how many tokens of each class every cluster holds."""
    cells = clusters.astype(np.int64) * n_classes + classes
    counted: np.ndarray = np.bincount(cells, minlength=n_clusters * n_classes)
    return counted.reshape(n_clusters, n_classes).astype(np.int64)


def majority_mapping(counts: Int64[np.ndarray, "cluster class"]) -> Int64[np.ndarray, " cluster"]:
    """Return the most common class of every cluster, ties to the lowest; several clusters may have the same class."""
    mapped: np.ndarray = counts.argmax(axis=1)
    return mapped


def hungarian_mapping(counts: Int64[np.ndarray, "cluster class"]) -> Int64[np.ndarray, " cluster"]:
    """Return the one-to-one mapping that gets most tokens right (Kuhn 1955; scipy's `linear_sum_assignment`).

    Raises ValueError where there are not as many clusters as classes.
    """
    if counts.shape[0] != counts.shape[1]:
        raise ValueError(f"{counts.shape[0]} clusters cannot be mapped one to one to {counts.shape[1]} classes")
    _, classes = linear_sum_assignment(counts, maximize=True)
    return np.asarray(classes, dtype=np.int64)
