"""Measures of two representations that give every image one vector, besides unbiased CKA; each is 1 for equal ones.

=============  =====================================================================================================
linear-cka     ``|X'Y|^2 / (|X'X| |Y'Y|)`` of centred columns, Frobenius norms; biased towards 1 where there are few
               images (Kornblith et al., ICML 2019, equation 4)
procrustes     ``|X'Y|_*`` (nuclear norm) of centred X and Y of Frobenius norm 1: one minus half the squared orthogonal
               Procrustes distance (Ding, Denain and Steinhardt, NeurIPS 2021, section 2)
cca            SVCCA: mean canonical correlation of the leading principal components that hold 99 % of the variance
               (Raghu et al., NeurIPS 2017); 1 of whatever data where there are fewer images than components
rsa            Spearman correlation of the cosine distances of all pairs of images (Kriegeskorte, Mur and Bandettini,
               2008, there of correlation distances)
mutual-knn     mean share of an image's k nearest neighbours by cosine similarity that both have (Huh et al., "The
               Platonic Representation Hypothesis", ICML 2024, without its clipping of outliers)
=============  =====================================================================================================

Singular values, ranks, distances and neighbours are those of scipy and scikit-learn, in float64.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Float64, Int64

VARIANCE_KEPT = 0.99
"""Share of the variance that the principal components of ``cca`` hold."""
WORKING_MEGABYTES = 32
"""Block of distances that scikit-learn computes at a time."""


@dataclass(frozen=True)
class Components:
    """Principal components of one representation."""

    directions: Float64[np.ndarray, "image component"]
    """Left singular vectors of the centred vectors."""
    lengths: Float64[np.ndarray, " component"]
    """Singular values, largest first, of vectors whose Frobenius norm is 1."""


def components(vectors: Float[np.ndarray, "image channel"]) -> Components:
    """Return the principal components of vectors, those that only rounding makes left out; none of constant ones."""
    from scipy.linalg import svd

    of_columns = vectors.astype(np.float64)
    of_columns -= of_columns.mean(axis=0)
    directions, lengths, _ = svd(of_columns, full_matrices=False, overwrite_a=True)
    scale = float(np.abs(vectors).max()) * max(vectors.shape) * np.finfo(np.float64).eps
    kept = lengths > max(scale, lengths[0] * max(vectors.shape) * np.finfo(np.float64).eps)
    return Components(directions[:, kept], lengths[kept] / np.linalg.norm(lengths[kept]))


def linear_cka(one: Components, other: Components) -> float:
    """Return biased linear CKA of two representations of the same images; nan where one does not vary."""
    if not len(one.lengths) or not len(other.lengths):
        return float("nan")
    product = (one.directions * one.lengths).T @ (other.directions * other.lengths)
    return float((product**2).sum() / (np.linalg.norm(one.lengths**2) * np.linalg.norm(other.lengths**2)))


def procrustes(one: Components, other: Components) -> float:
    """Return one minus half the squared Procrustes distance; nan where one representation does not vary."""
    from scipy.linalg import svdvals

    if not len(one.lengths) or not len(other.lengths):
        return float("nan")
    return float(svdvals((one.directions * one.lengths).T @ (other.directions * other.lengths)).sum())


def cca(one: Components, other: Components) -> float:
    """Return the mean canonical correlation of the components that hold 99 % of the variance; nan without variance."""
    from scipy.linalg import svdvals

    if not len(one.lengths) or not len(other.lengths):
        return float("nan")
    leading = [part.directions[:, : _n_leading(part.lengths)] for part in (one, other)]
    return float(np.clip(svdvals(leading[0].T @ leading[1]), 0.0, 1.0).mean())


def _n_leading(lengths: Float64[np.ndarray, " component"]) -> int:
    shares = np.cumsum(lengths**2)
    return int(np.searchsorted(shares, VARIANCE_KEPT * shares[-1])) + 1


def distance_ranks(vectors: Float[np.ndarray, "image channel"]) -> Float64[np.ndarray, " pair"]:
    """Return the ranks of the cosine distances of all pairs of images, centred and of norm 1; nan if all are equal."""
    from scipy.spatial.distance import pdist
    from scipy.stats import rankdata

    ranks = rankdata(pdist(vectors.astype(np.float64), "cosine"))
    ranks -= ranks.mean()
    norm = np.linalg.norm(ranks)
    return ranks / norm if norm > 0 else np.full(len(ranks), np.nan)


def rsa(one: Float64[np.ndarray, " pair"], other: Float64[np.ndarray, " pair"]) -> float:
    """Return the Spearman correlation of two sets of distances from their `distance_ranks`."""
    return float(one @ other)


def neighbours(vectors: Float[np.ndarray, "image channel"], k: int) -> Int64[np.ndarray, "image k"]:
    """Return the k nearest other images of every image by cosine similarity."""
    from sklearn import config_context
    from sklearn.neighbors import NearestNeighbors

    with config_context(working_memory=WORKING_MEGABYTES):
        found = NearestNeighbors(n_neighbors=k, metric="cosine", algorithm="brute").fit(vectors.astype(np.float64))
        indices: np.ndarray = found.kneighbors(return_distance=False)
    return indices.astype(np.int64)


def mutual_knn(one: Int64[np.ndarray, "image k"], other: Int64[np.ndarray, "image k"]) -> float:
    """Return the mean share of an image's nearest neighbours that are nearest in both representations."""
    return float((one[:, :, None] == other[:, None, :]).any(axis=2).mean())


@dataclass(frozen=True)
class VectorMeasure:
    """A measure in two steps: what is made of each representation once, and the value of a pair."""

    prepare: Callable[[np.ndarray, int], Any]
    """Takes vectors ``image channel`` and k."""
    compare: Callable[[Any, Any], float]
    kept_numbers: Callable[[int, int, int], int]
    """Numbers of eight bytes that `prepare` returns for so many images, channels and k."""
    working_numbers: Callable[[int, int, int], int]
    """Numbers of eight bytes that `prepare` and `compare` hold besides, for one pair."""


def _of_components(compare: Callable[[Components, Components], float]) -> VectorMeasure:
    return VectorMeasure(
        lambda vectors, k: components(vectors),
        compare,
        lambda n, width, k: (n + 1) * min(n, width),
        lambda n, width, k: 3 * n * width + 5 * min(n, width) ** 2,
    )


VECTOR_MEASURES: dict[str, VectorMeasure] = {
    "linear-cka": _of_components(linear_cka),
    "procrustes": _of_components(procrustes),
    "cca": _of_components(cca),
    "rsa": VectorMeasure(
        lambda vectors, k: distance_ranks(vectors),
        rsa,
        lambda n, width, k: n * (n - 1) // 2,
        lambda n, width, k: 2 * n * width + 8 * (n * (n - 1) // 2),
    ),
    "mutual-knn": VectorMeasure(
        neighbours,
        mutual_knn,
        lambda n, width, k: n * k,
        lambda n, width, k: 3 * n * width + 3 * min(n**2, WORKING_MEGABYTES << 17) + n * k * (k + 4),
    ),
}
"""Measures by their names in the settings."""


def peak_bytes(measure: str, n_images: int, widths: tuple[int, ...], k: int) -> int:
    """Return the bytes of one measure of all pairs of layers, beside the vectors.

    Args:
        measure: its name.
        n_images: images.
        widths: channels of every layer of both models.
        k: neighbours.
    """
    one = VECTOR_MEASURES[measure]
    kept = sum(one.kept_numbers(n_images, width, k) for width in widths)
    return 8 * (kept + one.working_numbers(n_images, max(widths), k))
