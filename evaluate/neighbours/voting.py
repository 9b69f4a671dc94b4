"""Votes of nearest neighbours: uniform, by distance, or by softmax of cosines."""

from typing import Literal

import numpy as np
from jaxtyping import Float64, Int64, Integer

from evaluate.neighbours.knn import Neighbours
from stores.errors import UserError

Weights = Literal["uniform", "distance", "softmax"]

_CHUNK_QUERIES = 8192


def vote(
    neighbours: Neighbours,
    bank_labels: Integer[np.ndarray, " bank"],
    n_classes: int,
    k: int,
    *,
    weights: Weights = "uniform",
    temperature: float = 0.07,
) -> Int64[np.ndarray, " query"]:
    """Return each query's class by a vote of its k nearest bank rows.

    Of classes with equal votes, that of the nearest neighbour among them wins. Raises UserError for a ``k`` that was
    not searched, a label of a neighbour outside ``0 .. n_classes - 1`` (leave void rows out of the bank), a temperature
    that is not positive, or softmax votes of Euclidean neighbours.

    Args:
        neighbours: neighbours of every query; one search serves every ``k`` up to the number it found.
        bank_labels: class of each bank row.
        n_classes: number of classes.
        k: neighbours that vote.
        weights: ``uniform`` counts neighbours; ``distance`` weighs them by 1 / distance (scikit-learn's
            `KNeighborsClassifier`; where a distance is zero only such neighbours vote); ``softmax`` by
            exp(cos / temperature) (facebookresearch/dino, eval_knn.py) and needs neighbours of the cosine metric.
        temperature: of the softmax; DINO's is 0.07.
    """
    searched = neighbours.indices.shape[1]
    if not 1 <= k <= searched:
        raise UserError(f"k = {k} neighbours are to vote and {searched} were searched; choose k from 1 to {searched}")
    labels = bank_labels[neighbours.indices[:, :k]].astype(np.int64)
    if labels.size and not 0 <= labels.min() <= labels.max() < n_classes:
        wrong = int(labels.max()) if labels.max() >= n_classes else int(labels.min())
        raise UserError(
            f"a neighbour has label {wrong} and classes are 0 to {n_classes - 1}; leave void rows out of the bank"
        )
    weight = _weights(neighbours, k, weights, temperature)
    predicted = np.empty(labels.shape[0], np.int64)
    for begin in range(0, labels.shape[0], _CHUNK_QUERIES):
        chunk = slice(begin, begin + _CHUNK_QUERIES)
        predicted[chunk] = _winners(labels[chunk], weight[chunk], n_classes)
    return predicted


def peak_bytes(n_queries: int, k: int, n_votes: int) -> int:
    """Return the bytes of voting: int64 classes of ``n_votes`` votes, and five arrays of 8 bytes a neighbour of one."""
    return n_queries * (8 * n_votes + 5 * 8 * k)


def _weights(neighbours: Neighbours, k: int, weights: Weights, temperature: float) -> Float64[np.ndarray, "query k"]:
    squared = neighbours.squared_distances[:, :k]
    if weights == "uniform":
        return np.ones_like(squared)
    if weights == "distance":
        # Relative to the nearest, so that neither tiny nor huge distances overflow; the winner stays the same.
        nearest = np.sqrt(squared[:, :1])
        distance = np.sqrt(squared)
        exact = (distance == 0).astype(np.float64)
        return np.where(nearest == 0, exact, np.divide(nearest, distance, out=exact, where=distance > 0))
    if neighbours.metric != "cosine":
        raise UserError("softmax votes need cosines and these neighbours are Euclidean; search with metric cosine")
    if not temperature > 0:
        raise UserError(f"temperature is {temperature}; it must be positive")
    # cos = 1 - d^2 / 2 on the unit sphere. All weights are divided by the nearest one's, which keeps their order.
    weight: np.ndarray = np.exp((squared[:, :1] - squared) / (2 * temperature))
    return weight


def _winners(
    labels: Int64[np.ndarray, "query k"], weights: Float64[np.ndarray, "query k"], n_classes: int
) -> Int64[np.ndarray, " query"]:
    votes = np.zeros((labels.shape[0], n_classes))
    query = np.arange(labels.shape[0])[:, None]
    np.add.at(votes, (query, labels), weights)
    leading = votes[query, labels] == votes.max(axis=1, keepdims=True)
    winner: np.ndarray = labels[query[:, 0], leading.argmax(axis=1)]
    return winner
