"""Probes over penalties and removed features, against scikit-learn fits in the same process.

``penalty choice`` is one probe of an evaluation: its penalty chosen on held-out images, by `choose_penalty` and by one
scikit-learn fit a penalty and one with the best. ``probe sweep`` fits a grid of penalties and removed features.

Both sides get the same float32 features in memory. scikit-learn stops at its own defaults (tolerance 1e-4 or 100
iterations), ours at convergence; the row says how far above the better of both objectives either ended, so that a
ratio bought with a worse optimum would show. Where scikit-learn runs into its 100 iterations, the ratio to the same
optimum is larger than the one printed.
"""

import gc
import threading
import time
import warnings
from typing import Any

import numpy as np
import psutil
from jaxtyping import Float32, Int64
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from evaluate.kernels.moments import Moments, variance_ranking, without_top
from evaluate.kernels.probing.lbfgs import Head
from evaluate.kernels.probing.penalties import choose_penalty
from evaluate.kernels.probing.probes import TOLERANCE, Probe, fit_probes, predict

ROWS, CHANNELS, CLASSES = 6_000, 384, 12
PENALTIES = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
REMOVED = (0, 10, 50, 150)
N_LAYERS, SWEPT, SWEPT_PENALTIES = 12, (0, 5, 10, 20, 50, 100, 150, 200), (1e-4, 1e-3, 1e-2)
N_MEASURED = 8
GRID, N_IMAGES = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1), 60
GOAL = 10.0
PEER_TOLERANCE, PEER_ITERATIONS = 1e-4, 100  # scikit-learn's defaults


class PeakMemory:
    """Samples the resident size of this process in a thread; ``bytes`` is the peak above the size at entry."""

    def __enter__(self) -> "PeakMemory":
        gc.collect()
        self._process = psutil.Process()
        self._start = self._highest = self._process.memory_info().rss
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()
        return self

    def _sample(self) -> None:
        while not self._stop.wait(0.005):
            self._highest = max(self._highest, self._process.memory_info().rss)

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self.bytes = self._highest - self._start


def features(seed: int, uneven: bool) -> tuple[Float32[np.ndarray, "row channel"], Int64[np.ndarray, " row"]]:
    """Correlated features of overlapping, unbalanced classes; ``uneven``: eight have 10^4 times the variance."""
    generator = np.random.Generator(np.random.PCG64(seed))
    shares = generator.dirichlet(np.full(CLASSES, 0.7)) + 0.005
    labels = generator.choice(CLASSES, ROWS, p=shares / shares.sum())
    hidden = CHANNELS // 2
    centres = generator.standard_normal((CLASSES, hidden)) * 2.0 / np.sqrt(hidden)
    latent = centres[labels] + generator.standard_normal((ROWS, hidden))
    mixing = generator.standard_normal((hidden, CHANNELS)) * np.arange(1, hidden + 1)[:, None] ** -0.5
    values = latent @ mixing + 0.1 * generator.standard_normal((ROWS, CHANNELS))
    values /= values.std(axis=0)
    if uneven:
        values[:, :8] *= 100.0
    return values.astype(np.float32), labels


def _peer_objective(peer: LogisticRegression, values: np.ndarray, labels: np.ndarray, penalty: float) -> float:
    logs = peer.predict_log_proba(values.astype(np.float64))
    return float(-logs[np.arange(len(labels)), labels].mean() + penalty / 2.0 * (peer.coef_**2).sum())


def _sweep(name: str, uneven: bool) -> dict[str, Any]:
    values, labels = features(0, uneven)
    ranking = variance_ranking(Moments.from_block(values).variance)
    heads = [Head(penalty, without_top(ranking, m)) for m in REMOVED for penalty in PENALTIES]
    with PeakMemory() as memory:
        started = time.perf_counter()
        probes = fit_probes(values, labels, CLASSES, heads, standardise=False)
        seconds = time.perf_counter() - started
    peer_seconds, above_peer, above_ours, finished = 0.0, [], [], 0
    for probe in probes:
        penalty, kept = probe.head.penalty, probe.head.kept
        rest = np.ascontiguousarray(values[:, kept])
        peer = LogisticRegression(C=1 / (ROWS * penalty), tol=PEER_TOLERANCE, max_iter=PEER_ITERATIONS)
        started = time.perf_counter()
        with warnings.catch_warnings():  # that it did not converge is counted below
            warnings.simplefilter("ignore", ConvergenceWarning)
            peer.fit(rest, labels)
        peer_seconds += time.perf_counter() - started
        finished += int(peer.n_iter_[0] < PEER_ITERATIONS)
        theirs = _peer_objective(peer, rest, labels, penalty)
        best = min(theirs, probe.objective)
        above_ours.append(probe.objective / best - 1.0)
        above_peer.append(theirs / best - 1.0)
    started = time.perf_counter()  # once more after the peer: what else the machine does changes meanwhile
    fit_probes(values, labels, CLASSES, heads, standardise=False)
    seconds = (seconds + time.perf_counter() - started) / 2.0
    return {
        "stage": name,
        "ratio": peer_seconds / seconds,
        "goal_is": "at least",
        "goal": GOAL,
        "seconds": seconds,
        "peak_bytes": memory.bytes,
        "peer": f"{len(heads)} scikit-learn lbfgs fits, tol {PEER_TOLERANCE}, {peer_seconds:.1f} s",
        "peer_seconds": peer_seconds,
        "peer_converged": f"{finished}/{len(heads)}",
        "converged": f"{sum(probe.converged for probe in probes)}/{len(heads)}",
        "worst_objective_excess": max(above_ours),
        "peer_worst_objective_excess": max(above_peer),
    }


def _choice() -> dict[str, Any]:
    """Time the choice of one probe's penalty, and compare the held-out accuracies of both choices."""
    values, labels = features(1, uneven=False)
    images = np.arange(ROWS) * N_IMAGES // ROWS
    with PeakMemory() as memory:
        started, used = time.perf_counter(), time.process_time()
        choice = choose_penalty(
            values, labels, images, CLASSES, standardise=False, seed=0, penalties=GRID, score="patch_accuracy"
        )
        seconds, processor_seconds = time.perf_counter() - started, time.process_time() - used
    held_out = np.isin(images, choice.held_out)

    def fit(penalty: float, used: np.ndarray) -> LogisticRegression:
        peer = LogisticRegression(C=1 / (used.sum() * penalty), tol=PEER_TOLERANCE, max_iter=PEER_ITERATIONS)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            return peer.fit(values[used], labels[used])

    started = time.perf_counter()
    scores = [float(fit(penalty, ~held_out).score(values[held_out], labels[held_out])) for penalty in GRID]
    fit(GRID[int(np.argmax(scores))], np.ones(ROWS, dtype=np.bool_))
    peer_seconds = time.perf_counter() - started
    return {
        "stage": "penalty choice, six penalties",
        "ratio": peer_seconds / seconds,
        "seconds": seconds,
        "processor_seconds": processor_seconds,
        "peak_bytes": memory.bytes,
        "peer": f"{len(GRID)} scikit-learn fits on held-in rows and one on all, {peer_seconds:.1f} s",
        "tried": len(choice.penalties),
        "held_out_accuracy": float(choice.scores.max()),
        "peer_held_out_accuracy": max(scores),
    }


def _layers() -> dict[str, Any]:
    """Time every probe of a sweep over layers, m and penalties, and eight of them by scikit-learn, extrapolated.

    Held-out accuracies of the eight are compared: ``worst_loss`` is how far ours are below those of fits fifty times
    nearer to the optimum, ``worst_peer_loss`` below scikit-learn's, whose fits of small penalties run into their 100
    iterations and may be better or worse for it.
    """
    per_layer = [features(2 + layer, uneven=layer % 2 == 1) for layer in range(N_LAYERS)]
    used = np.arange(ROWS) % 5 > 0
    probes: dict[tuple[int, int, float], Probe] = {}
    with PeakMemory() as memory:
        started, used_before = time.perf_counter(), time.process_time()
        for layer, (values, labels) in enumerate(per_layer):
            ranking = variance_ranking(Moments.from_block(values).variance)
            for m in SWEPT:
                heads = [Head(penalty, without_top(ranking, m)) for penalty in SWEPT_PENALTIES]
                fits = fit_probes(values, labels, CLASSES, heads, standardise=False, rows=np.flatnonzero(used))
                probes |= {(layer, m, one.head.penalty): one for one in fits}
        seconds, processor_seconds = time.perf_counter() - started, time.process_time() - used_before
    measured = list(probes)[:: len(probes) // N_MEASURED][:N_MEASURED]
    peer_seconds, losses, peer_losses = 0.0, [], []
    for cell in measured:
        (values, labels), probe = per_layer[cell[0]], probes[cell]
        rest = np.ascontiguousarray(values[:, probe.head.kept])
        peer = LogisticRegression(C=1 / (used.sum() * cell[2]), tol=PEER_TOLERANCE, max_iter=PEER_ITERATIONS)
        started = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            peer.fit(rest[used], labels[used])
        peer_seconds += time.perf_counter() - started
        rows = np.flatnonzero(used)
        (near,) = fit_probes(
            values, labels, CLASSES, [probe.head], standardise=False, rows=rows, tolerance=TOLERANCE / 50
        )
        mine, best = (float((predict(one, values[~used]) == labels[~used]).mean()) for one in (probe, near))
        losses.append(best - mine)
        peer_losses.append(float(peer.score(rest[~used], labels[~used])) - mine)
    peer_seconds *= len(probes) / len(measured)
    return {
        "stage": f"sweep of {N_LAYERS} layers, {len(SWEPT)} m, {len(SWEPT_PENALTIES)} penalties",
        "ratio": peer_seconds / seconds,
        "goal_is": "at least",
        "goal": GOAL,
        "seconds": seconds,
        "processor_seconds": processor_seconds,
        "peak_bytes": memory.bytes,
        "peer": f"{len(probes)} scikit-learn fits, {len(measured)} measured, {peer_seconds:.0f} s",
        "worst_loss": max(losses),
        "worst_peer_loss": max(peer_losses),
    }


def rows() -> list[dict[str, Any]]:
    """Return one row a regime of feature scales; ``ratio`` is how many times faster ours is than its peer."""
    return [
        _choice(),
        _layers(),
        _sweep("probe sweep, even features", uneven=False),
        _sweep("probe sweep, uneven features", uneven=True),
    ]


def main() -> None:
    for row in rows():
        print(", ".join(f"{key}: {value:.4g}" if isinstance(value, float) else f"{key}: {value}"
                        for key, value in row.items()))  # fmt: skip


if __name__ == "__main__":
    main()
