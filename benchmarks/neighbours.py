"""Exact neighbours against FAISS flat: time as a ratio in one process, memory above the level before the call.

Run with ``python -m benchmarks.neighbours``. The data are correlated Gaussian features with falling variances, as a
vision transformer's are; 5,000 queries from images of 196 patches search 25,000 bank rows of 768 channels.
"""

import statistics
from collections.abc import Callable
from functools import partial
from typing import Any

import faiss
import numpy as np
from jaxtyping import Float32

from benchmarks.measure import measure
from evaluate.neighbours.knn import nearest, nearest_without_top

QUERIES, BANK, CHANNELS, PATCHES = 5_000, 25_000, 768, 196
REMOVED = (0, 1, 2, 3, 5, 8, 12, 20, 30, 50, 75, 100, 150, 200, 250, 300, 350, 400, 500, 600)
REPEATS = 3


def features(rows: int, generator: np.random.Generator) -> Float32[np.ndarray, "row channel"]:
    """Return rows of correlated Gaussian features whose variances fall with the channel number."""
    rank = CHANNELS // 8
    mixing = np.random.Generator(np.random.PCG64(1)).standard_normal((rank, CHANNELS), dtype=np.float32)
    decay = np.exp(-np.arange(CHANNELS, dtype=np.float32) / 200) / np.float32(np.sqrt(rank))
    latent = generator.standard_normal((rows, rank), dtype=np.float32)
    noise = generator.standard_normal((rows, CHANNELS), dtype=np.float32)
    mixed: np.ndarray = latent @ (mixing * decay) + np.float32(0.3) * noise
    return mixed


def timed(call: Callable[[], object]) -> tuple[float, int]:
    """Return the call's seconds and the peak of resident memory above the level before, in bytes."""
    taken = measure(call)
    return taken.seconds, taken.peak_bytes


def rows() -> list[dict[str, Any]]:
    """Return one row a comparison: stage, ratio of times (ours over the peer's), goal, seconds, peak_bytes, peer."""
    generator = np.random.Generator(np.random.PCG64(0))
    bank, queries = features(BANK, generator), features(QUERIES, generator)
    ranking = np.argsort(-bank.var(axis=0, dtype=np.float64), kind="stable")
    bank_images, query_images = np.arange(BANK) // PATCHES, np.arange(QUERIES) // PATCHES
    faiss.knn(queries[:64], bank, 1)  # start the threads
    nearest(bank, queries[:64], 1)

    def plain(k: int, own_image: bool) -> object:
        groups = (bank_images, query_images) if own_image else (None, None)
        return nearest(bank, queries, k, bank_groups=groups[0], query_groups=groups[1])

    def sweep(k: int, own_image: bool) -> object:
        groups = (bank_images, query_images) if own_image else (None, None)
        return nearest_without_top(bank, queries, ranking, REMOVED, k, bank_groups=groups[0], query_groups=groups[1])

    table = []
    for k in (1, 20):
        for name, goal, search in (
            ("exact k-NN", 1.1, plain),
            (f"top-m sweep, {len(REMOVED)} m", 2.0 if k == 1 else None, sweep),  # k = 20 has no goal
        ):
            peers, owns = [], []
            for _ in range(REPEATS):
                peers.append(timed(partial(faiss.knn, queries, bank, k))[0])
                owns.append([timed(partial(search, k, own_image)) for own_image in (False, True)])
            for column, exclusion in enumerate(("", ", own image excluded")):
                seconds = [own[column][0] for own in owns]
                table.append(
                    {
                        "stage": f"{name}, k={k}{exclusion}",
                        "ratio": statistics.median(own / peer for own, peer in zip(seconds, peers, strict=True)),
                        "goal_is": "at most",
                        "goal": goal,
                        "seconds": statistics.median(seconds),
                        "peak_bytes": max(own[column][1] for own in owns),
                        "peer": f"faiss flat k={k}",
                    }
                )
    return table


if __name__ == "__main__":
    for row in rows():
        print(row)
