"""Votes against scikit-learn and a transcription of the definitions in plain Python."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import KNeighborsClassifier

from evaluate.neighbours.knn import Neighbours, nearest
from evaluate.neighbours.voting import vote
from stores.errors import UserError


def rows(seed, n_bank=400, n_queries=120, width=6):
    rng = np.random.default_rng(seed)
    bank, queries = (rng.standard_normal((n, width)).astype(np.float32) for n in (n_bank, n_queries))
    return bank, queries, rng.integers(0, 5, n_bank).astype(np.uint8)


@pytest.mark.parametrize("weights", ["uniform", "distance"])
@pytest.mark.parametrize("k", [1, 3, 15])
def test_agrees_with_scikit_learn(weights, k):
    bank, queries, labels = rows(0)
    queries[:5] = bank[:5]  # distance zero
    found = nearest(bank, queries, 15)
    theirs = KNeighborsClassifier(k, weights=weights, algorithm="brute").fit(bank, labels)
    shares = np.sort(theirs.predict_proba(queries), axis=1)
    untied = shares[:, -1] > shares[:, -2] + 1e-9  # scikit-learn gives ties to the lowest class, not the nearest
    assert untied.sum() > 50
    predicted = vote(found, labels, 5, k, weights=weights)
    np.testing.assert_array_equal(predicted[untied], theirs.predict(queries)[untied])


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    k=st.integers(1, 8),
    weights=st.sampled_from(["uniform", "softmax"]),
    temperature=st.sampled_from([1e-4, 0.07, 1.0]),
)
def test_equals_the_definition(seed, k, weights, temperature):
    bank, queries, labels = rows(seed, 30, 12, 3)
    found = nearest(bank, queries, 8, metric="cosine")
    predicted = vote(found, labels, 5, k, weights=weights, temperature=temperature)
    for query, winner in enumerate(predicted):
        votes = dict.fromkeys(range(5), 0.0)
        for index in found.indices[query, :k]:
            a, b = bank[index].astype(np.float64), queries[query].astype(np.float64)
            cosine = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
            votes[labels[index]] += 1.0 if weights == "uniform" else np.exp((cosine - 1) / temperature)
        best = max(votes.values())
        tied = [label for label, value in votes.items() if value >= best * (1 - 1e-9)]
        if best == 0.0:
            tied = list(votes)  # all weights of the reference underflowed; ours are relative to the nearest
        nearest_first = [labels[index] for index in found.indices[query, :k] if labels[index] in tied]
        assert winner == nearest_first[0] if weights == "uniform" else winner in tied


def test_ties_go_to_the_nearest_of_the_tied_classes():
    found = Neighbours(np.array([[0, 1, 2, 3, 4]]), np.array([[0.0, 1.0, 2.0, 3.0, 4.0]]), 0.0, "exact", "euclidean")
    labels = np.array([3, 2, 1, 1, 2])
    predicted = [int(vote(found, labels, 4, k)[0]) for k in range(1, 6)]
    assert predicted == [3, 3, 3, 1, 2]


def test_distance_votes_of_equal_rows_ignore_all_others():
    found = Neighbours(np.array([[0, 1, 2]]), np.array([[0.0, 1e-300, 1e-300]]), 0.0, "exact", "euclidean")
    assert vote(found, np.array([0, 1, 1]), 2, 3, weights="distance")[0] == 0


def test_wrong_requests_are_refused():
    bank, queries, labels = rows(1)
    found = nearest(bank, queries, 4)
    with pytest.raises(UserError, match="k = 5"):
        vote(found, labels, 5, 5)
    with pytest.raises(UserError, match="label 4"):
        vote(found, labels, 4, 4)
    with pytest.raises(UserError, match="label -1"):
        vote(found, np.full(400, -1), 4, 4)
    with pytest.raises(UserError, match="cosine"):
        vote(found, labels, 5, 4, weights="softmax")
    with pytest.raises(UserError, match="temperature"):
        vote(nearest(bank, queries, 4, metric="cosine"), labels, 5, 4, weights="softmax", temperature=0.0)
