"""In-context segmentation: which patches are remembered, the vote of neighbours, and its resizing to pixels.

Balažević et al., "Towards In-context Scene Understanding" (NeurIPS 2023; Hummingbird), as vpariza/open-hummingbird-eval
computes it (hbird/hbird_eval.py: `_sample_features`, `_cross_attention`, and `evaluate` for the resizing).
"""

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, Int64, Integer, UInt8

from stores.specs import VOID


def remembered(
    pixels: Integer[np.ndarray, "sample patch classes"], n_of_sample: int, rng: np.random.Generator
) -> Bool[np.ndarray, "sample patch"]:
    """Return which patches a memory of limited size holds: of every sample those of rare classes rather than others.

    A patch scores the sum, over the classes it shows, of how many patches of its sample show that class, times a
    uniform random number; those of the lowest scores are kept. Patches without a labelled pixel are never kept.

    Args:
        pixels: Labelled pixels of every class in every patch.
        n_of_sample: Patches that are kept of each sample, at most.
        rng: Source of the random numbers; one is drawn for every patch, in order.
    """
    kept = np.zeros(pixels.shape[:2], dtype=bool)
    for sample, counts in enumerate(pixels):
        shows = counts > 0
        scores = (shows @ shows.sum(axis=0)) * rng.random(len(shows))
        scores[~shows.any(axis=1)] = np.inf
        chosen = np.argsort(scores, kind="stable")[:n_of_sample]
        kept[sample, chosen] = np.isfinite(scores[chosen])
    return kept


def attended(
    indices: Int64[np.ndarray, "query k"],
    squared_distances: Float64[np.ndarray, "query k"],
    labels: Float[np.ndarray, "bank classes"],
    temperature: float,
) -> Float32[np.ndarray, "query classes"]:
    """Return the mean label of each query's neighbours, weighted by the softmax of cosine / temperature.

    Args:
        indices: Neighbours by cosine, nearest first.
        squared_distances: Of the normalised tokens, 2 - 2 cosine.
        labels: Share of every class in every patch of the memory.
        temperature: Of the softmax; 0.02 in the reference.
    """
    weights = np.exp((squared_distances[:, :1] - squared_distances) / (2.0 * temperature))
    weights /= weights.sum(axis=1, keepdims=True)
    found = np.zeros((len(indices), labels.shape[1]), dtype=np.float64)
    for place in range(indices.shape[1]):
        found += weights[:, place, None] * labels[indices[:, place]]
    return found.astype(np.float32)


def bilinear(n_from: int, n_to: int) -> Float64[np.ndarray, "to from"]:
    """Return the weights that resize one axis bilinearly, pixel centres at halves and edges repeated.

    As `torch.nn.functional.interpolate` with ``mode="bilinear", align_corners=False``.
    """
    places = np.clip((np.arange(n_to) + 0.5) * n_from / n_to - 0.5, 0.0, n_from - 1.0)
    lower = np.floor(places).astype(np.int64)
    upper = np.minimum(lower + 1, n_from - 1)
    weights = np.zeros((n_to, n_from))
    np.add.at(weights, (np.arange(n_to), lower), 1.0 - (places - lower))
    np.add.at(weights, (np.arange(n_to), upper), places - lower)
    return weights


def pixel_classes(
    votes: Float32[np.ndarray, "rows columns classes"], size: tuple[int, int]
) -> Int64[np.ndarray, "height width"]:
    """Return the class of the largest vote of every pixel, votes of patches resized bilinearly; ties to the lowest."""
    rows, columns, _ = votes.shape
    down = np.tensordot(bilinear(rows, size[0]), votes.astype(np.float64), axes=1)
    across = np.einsum("xc,hck->hxk", bilinear(columns, size[1]), down, optimize=True)
    found: np.ndarray = across.argmax(axis=2)
    return found


def pixel_matrix(
    predicted: Int64[np.ndarray, "height width"],
    truth: UInt8[np.ndarray, "height width"],
    box: tuple[int, int, int, int],
    n_classes: int,
) -> Int64[np.ndarray, "classes classes"]:
    """Return the confusion matrix of the pixels inside (left, top, right, bottom) that have a class."""
    left, top, right, bottom = box
    here = truth[top:bottom, left:right]
    scored = here != VOID
    true, guess = here[scored].astype(np.int64), predicted[top:bottom, left:right][scored]
    counted: np.ndarray = np.bincount(true * n_classes + guess, minlength=n_classes**2).reshape(n_classes, n_classes)
    return counted.astype(np.int64)
