"""Maps of tokens in two or three dimensions: principal components, singular vectors, t-SNE.

t-SNE as in naver-ai/cl-vs-mim, representation_analysis.ipynb: scikit-learn's, perplexity 20, random start, learning
rate ``auto``, 1000 iterations; here with a seed and on one thread, so that equal tokens give equal maps on one machine.
"""

import numpy as np
from jaxtyping import Float, Float32, Float64


def leading_directions(
    vectors: Float[np.ndarray, "vector channel"], n: int
) -> tuple[Float64[np.ndarray, "channel n"], Float64[np.ndarray, " channel"], float]:
    """Return the first right singular vectors of the centred vectors, their mean, and the share of variance they hold.

    Signs are such that the largest entry of each direction is positive.
    """
    wide = vectors.astype(np.float64)
    mean = wide.mean(axis=0)
    wide -= mean
    squares, directions = np.linalg.eigh(wide.T @ wide)
    squares, directions = np.maximum(squares[::-1], 0.0), directions[:, ::-1][:, :n]
    largest = np.abs(directions).argmax(axis=0)
    directions = directions * np.sign(directions[largest, np.arange(directions.shape[1])])
    total = float(squares.sum())
    return directions, mean, float(squares[:n].sum()) / total if total > 0 else float("nan")


def tsne_map(
    vectors: Float[np.ndarray, "vector channel"], perplexity: float, seed: int
) -> Float32[np.ndarray, "vector 2"]:
    """Return the t-SNE of some vectors; with few of them the perplexity is a third of their number at most."""
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    reducer = TSNE(
        n_components=2,
        perplexity=min(perplexity, max(1.0, (len(vectors) - 1) / 3)),
        init="random",
        learning_rate="auto",
        max_iter=1000,
        random_state=seed,
    )
    with threadpool_limits(1):
        placed: np.ndarray = reducer.fit_transform(vectors.astype(np.float32))
    return placed.astype(np.float32)
