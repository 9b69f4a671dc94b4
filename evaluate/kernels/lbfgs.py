"""Fitting many linear heads side by side: the loss over blocks of rows, and L-BFGS in well-shaped coordinates."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, Int64

from evaluate.kernels.moments import read_float32
from evaluate.progress import report

BLOCK_ROWS = 2048
"""Rows in one matrix product: fixed, because another number would change the last bits."""
HISTORY = 10  # pairs of steps and gradient changes that L-BFGS remembers
_BACKTRACKS = 25
_LOSS_NOISE = 2.0**-24  # relative: what float32 products leave of a loss
_NO_LOWER = "stopped where float32 products cannot lower the loss any more"
_STALLED = 20  # iterations that lower neither the loss beyond its noise nor the gradient: a random walk


@dataclass(frozen=True, eq=False)
class Head:
    """One probe to fit."""

    penalty: float
    kept: Bool[np.ndarray, " channel"] | None = None
    """Features it may use (see `evaluate.kernels.moments.without_top`); None for all."""


@dataclass(frozen=True, eq=False)
class Rows:
    """Labelled rows of a feature array, read in bounded blocks."""

    features: Float[np.ndarray, "row channel"]
    numbers: Int64[np.ndarray, " used"]

    def raw(self) -> Iterator[Float[np.ndarray, "_ channel"]]:
        """Yield blocks as they are stored."""
        for start in range(0, len(self.numbers), BLOCK_ROWS):
            rows = self.numbers[start : start + BLOCK_ROWS]
            contiguous = rows[-1] - rows[0] + 1 == len(rows)
            yield self.features[rows[0] : rows[-1] + 1] if contiguous else self.features[rows]

    def centred(self, centre: Float32[np.ndarray, " channel"]) -> Iterator[Float32[np.ndarray, "_ channel"]]:
        """Yield float32 blocks less ``centre``; a block is overwritten by the next."""
        buffer = np.empty((BLOCK_ROWS, self.features.shape[1]), dtype=np.float32)
        for raw in self.raw():
            block = buffer[: len(raw)]
            read_float32(raw, block)
            block -= centre
            yield block


class Objective:
    """Mean cross-entropy of stacked heads and its gradients, one pass over the rows for all of them."""

    def __init__(
        self, rows: Rows, targets: Int64[np.ndarray, " used"], centre: Float32[np.ndarray, " channel"]
    ) -> None:
        self.rows, self.targets, self.centre = rows, targets, centre

    def __call__(
        self, weights: Float64[np.ndarray, "head classes channel"], biases: Float64[np.ndarray, "head classes"]
    ) -> tuple[
        Float64[np.ndarray, " head"],
        Float64[np.ndarray, "head classes channel"],
        Float64[np.ndarray, "head classes"],
    ]:
        """Return each head's mean cross-entropy in nats, and its gradients by weights and by biases."""
        n_heads, n_classes, n_channels = weights.shape
        # Classes first, rows last: reductions over classes then run along whole vectors of rows.
        stacked = weights.transpose(1, 0, 2).reshape(-1, n_channels).astype(np.float32)
        offsets = biases.T.astype(np.float32)[:, :, None]
        losses = np.zeros(n_heads)
        weight_sums = np.zeros(stacked.shape)
        bias_sums = np.zeros((n_classes, n_heads))
        start = 0
        for block in self.rows.centred(self.centre):
            row = np.arange(len(block))
            target = self.targets[start : start + len(block)]
            start += len(block)
            scores = (stacked @ block.T).reshape(n_classes, n_heads, len(block))
            scores += offsets
            losses -= scores[target, :, row].sum(axis=0, dtype=np.float64)
            highest = scores.max(axis=0)
            scores -= highest
            np.exp(scores, out=scores)
            total = scores.sum(axis=0)
            losses += (np.log(total) + highest).sum(axis=1, dtype=np.float64)
            scores /= total
            scores[target, :, row] -= 1.0
            bias_sums += scores.sum(axis=2, dtype=np.float64)
            weight_sums += scores.reshape(-1, len(block)) @ block
        n_rows = len(self.targets)
        gradients = weight_sums.reshape(n_classes, n_heads, n_channels).transpose(1, 0, 2) / n_rows
        return losses / n_rows, gradients, bias_sums.T / n_rows


class Descent:
    """L-BFGS for one head (Nocedal and Wright, Numerical Optimization, algorithms 7.4 and 3.1), a pass at a time.

    `trial` is the next point to evaluate; `observe` takes the value and the gradient found there.
    """

    def __init__(self, point: Float64[np.ndarray, " parameter"], tolerance: float, max_iterations: int) -> None:
        self.point = self.trial = point
        self.value, self.norm, self.iterations = np.inf, np.inf, 0
        self.finished, self.warning = False, ""
        self._tolerance, self._max_iterations = tolerance, max_iterations
        self._gradient = self._direction = np.zeros_like(point)
        self._pairs: list[tuple[np.ndarray, np.ndarray, float]] = []
        self._step, self._slope, self._backtracks = 0.0, 0.0, 0
        self._lowest, self._flattest, self._fruitless = np.inf, np.inf, 0

    def observe(self, value: float, gradient: Float64[np.ndarray, " parameter"]) -> None:
        """Take the value and gradient at `trial`; choose the next trial, or finish."""
        if np.isfinite(self.value):
            if not value <= self.value + 1e-4 * self._step * self._slope + _LOSS_NOISE * abs(self.value):
                self._shorten(value)
                return
            step, change = self.trial - self.point, gradient - self._gradient
            curvature = float(step @ change)
            if curvature > 1e-12 * float(change @ change):
                self._pairs = [*self._pairs[1 - HISTORY :], (step, change, curvature)]
            self.iterations += 1
        self.point, self.value, self._gradient = self.trial, value, gradient
        self.norm = float(np.linalg.norm(gradient)) / value if value > 0 else 0.0
        if self.norm <= self._tolerance:
            self._finish("")
        elif self.iterations >= self._max_iterations:
            self._finish(f"stopped after {self.iterations} iterations")
        elif self._stalls(value):
            self._finish(_NO_LOWER)
        else:
            self._start_line()

    def _stalls(self, value: float) -> bool:
        lower = value < self._lowest - 4.0 * _LOSS_NOISE * abs(value)
        flatter = self.norm < 0.9 * self._flattest
        if lower:
            self._lowest = value
        if flatter:
            self._flattest = self.norm
        self._fruitless = 0 if lower or flatter else self._fruitless + 1
        return self._fruitless >= _STALLED

    def _start_line(self) -> None:
        direction = -self._gradient
        shares = []
        for step, change, curvature in reversed(self._pairs):
            shares.append(float(step @ direction) / curvature)
            direction -= shares[-1] * change
        if self._pairs:
            _, change, curvature = self._pairs[-1]
            direction *= curvature / float(change @ change)
        for (step, change, curvature), share in zip(self._pairs, reversed(shares), strict=True):
            direction += (share - float(change @ direction) / curvature) * step
        self._direction, self._slope = direction, float(direction @ self._gradient)
        self._step, self._backtracks = 1.0, 0
        self.trial = self.point + direction

    def _shorten(self, value: float) -> None:
        self._backtracks += 1
        if self._backtracks > _BACKTRACKS:
            if not self._pairs:
                self._finish(_NO_LOWER)
                return
            self._pairs = []
            self._start_line()
            return
        # The minimum of the parabola through both values and the slope, kept within a tenth and a half.
        excess = value - self.value - self._step * self._slope
        parabola = -0.5 * self._slope * self._step / excess if np.isfinite(excess) else 0.0
        self._step *= min(max(parabola, 0.1), 0.5)
        self.trial = self.point + self._step * self._direction

    def _finish(self, warning: str) -> None:
        self.finished, self.warning, self._pairs = True, warning, []


@dataclass(frozen=True, eq=False)
class Metric:
    """Coordinates in which the loss of a head is nearly round; the optimum stays where it is.

    The Hessian's diagonal blocks are ``E[p (1 - p) x x^T] + penalty``. With ``E[p (1 - p)]`` of a class guessed
    from its share q as ``sqrt(q (1 - q)) / 4``, between the bound 1/4 and its decline as the fit sharpens, and
    taken out of the expectation, one eigendecomposition of the covariance serves all classes and penalties.
    """

    directions: Float64[np.ndarray, "channel direction"]
    stretch: Float64[np.ndarray, "classes direction"]
    bias_stretch: Float64[np.ndarray, " classes"]

    def weight_and_bias(
        self, point: Float64[np.ndarray, " parameter"]
    ) -> tuple[Float64[np.ndarray, "classes channel"], Float64[np.ndarray, " classes"]]:
        """Return a point of the descent as weights and biases."""
        parameters = point.reshape(len(self.bias_stretch), -1)
        return (parameters[:, 1:] * self.stretch) @ self.directions.T, parameters[:, 0] * self.bias_stretch

    def gradient(
        self, weight: Float64[np.ndarray, "classes channel"], bias: Float64[np.ndarray, " classes"]
    ) -> Float64[np.ndarray, " parameter"]:
        """Return a gradient by weights and biases as one by the descent's parameters."""
        rotated = (weight @ self.directions) * self.stretch
        return np.concatenate([(bias * self.bias_stretch)[:, None], rotated], axis=1).ravel()


def metrics_of(
    heads: Sequence[Head], covariance: Float64[np.ndarray, "channel channel"], shares: Float64[np.ndarray, " classes"]
) -> list[Metric]:
    """Return the coordinates of every head; heads that keep the same features share an eigendecomposition."""
    curvature = np.sqrt(shares * (1.0 - shares)) / 4.0
    bias_stretch = 1.0 / np.sqrt(np.maximum(curvature, 1e-12))
    spectra: dict[bytes, tuple[np.ndarray, np.ndarray]] = {}
    metrics = []
    for head in heads:
        kept = np.ones(len(covariance), dtype=np.bool_) if head.kept is None else head.kept
        key = kept.tobytes()
        if key not in spectra:
            variances, vectors = np.linalg.eigh(covariance[np.ix_(kept, kept)])
            directions = np.zeros((len(covariance), len(variances)))
            directions[kept] = vectors
            spectra[key] = directions, np.maximum(variances, 0.0)
        directions, variances = spectra[key]
        stretch = 1.0 / np.sqrt(curvature[:, None] * variances + head.penalty)
        metrics.append(Metric(directions, stretch, bias_stretch))
    return metrics


def descend(
    objective: Objective,
    heads: Sequence[Head],
    metrics: list[Metric],
    scale: Float64[np.ndarray, " channel"],
    counts: Int64[np.ndarray, " classes"],
    tolerance: float,
    max_iterations: int,
) -> list[Descent]:
    """Run all heads to their end, from zero weights and the bias that gives every class its share."""
    descents = []
    for metric in metrics:
        point = np.zeros((len(counts), 1 + metric.stretch.shape[1]))
        point[:, 0] = np.log(counts / counts.sum()) / metric.bias_stretch
        descents.append(Descent(point.ravel(), tolerance, max_iterations))
    while active := [number for number, descent in enumerate(descents) if not descent.finished]:
        parameters = [metrics[number].weight_and_bias(descents[number].trial) for number in active]
        weights, biases = np.stack([weight for weight, _ in parameters]), np.stack([bias for _, bias in parameters])
        losses, weight_gradients, bias_gradients = objective(weights * scale, biases)
        for place, number in enumerate(active):
            penalty, weight = heads[number].penalty, weights[place]
            value = float(losses[place]) + penalty / 2.0 * float(np.vdot(weight, weight))
            slope = weight_gradients[place] * scale + penalty * weight
            descents[number].observe(value, metrics[number].gradient(slope, bias_gradients[place]))
        most = max(descent.iterations for descent in descents)
        report(f"iterations of a probe ({len(active)} of {len(descents)} not converged)", most)
    return descents
