"""Preconditioned L-BFGS for many linear heads that share every pass over the rows."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, Int64

from evaluate.kernels.moments import read_float32
from evaluate.kernels.progress import report

BLOCK_ROWS = 2048
"""Rows in one matrix product: fixed, because another number would change the last bits."""
HISTORY = 10
"""Pairs of steps and gradient changes that L-BFGS keeps."""
_BACKTRACKS = 25  # trial points of one line search
_LOSS_NOISE = 2.0**-24  # relative rounding of a loss made from float32 products
_NO_LOWER = "stopped where float32 products cannot lower the loss any more"
_STALLED = 20  # iterations after which neither loss (beyond its noise) nor gradient fell: a random walk


@dataclass(frozen=True, eq=False)
class Head:
    """One probe to fit."""

    penalty: float
    kept: Bool[np.ndarray, " channel"] | None = None
    """Mask of the features it uses (see `evaluate.kernels.moments.without_top`); None for all."""


@dataclass(frozen=True, eq=False)
class Rows:
    """Chosen rows of a feature array, read in blocks of `BLOCK_ROWS`."""

    features: Float[np.ndarray, "row channel"]
    numbers: Int64[np.ndarray, " used"]
    """Row numbers, increasing."""

    def raw(self) -> Iterator[Float[np.ndarray, "_ channel"]]:
        """Yield blocks in the stored type."""
        for start in range(0, len(self.numbers), BLOCK_ROWS):
            rows = self.numbers[start : start + BLOCK_ROWS]
            contiguous = rows[-1] - rows[0] + 1 == len(rows)
            yield self.features[rows[0] : rows[-1] + 1] if contiguous else self.features[rows]

    def centred(self, centre: Float32[np.ndarray, " channel"]) -> Iterator[Float32[np.ndarray, "_ channel"]]:
        """Yield float32 blocks minus ``centre``; the next block overwrites the buffer of this one."""
        buffer = np.empty((BLOCK_ROWS, self.features.shape[1]), dtype=np.float32)
        for raw in self.raw():
            block = buffer[: len(raw)]
            read_float32(raw, block)
            block -= centre
            yield block


class Objective:
    """Mean cross-entropy of stacked heads and its gradients, in one pass over the rows."""

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
    """L-BFGS of one head as a state machine (Nocedal and Wright, Numerical Optimization, algorithms 7.4 and 3.1).

    `trial` is the next point to evaluate; `observe` takes the value and the gradient there. The caller evaluates the
    trials of many heads in one pass.
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
                self._backtrack(value)
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

    def _backtrack(self, value: float) -> None:
        self._backtracks += 1
        if self._backtracks > _BACKTRACKS:
            if not self._pairs:
                self._finish(_NO_LOWER)
                return
            self._pairs = []
            self._start_line()
            return
        # The minimum of the parabola through both values and the slope, between a tenth and a half of the step.
        excess = value - self.value - self._step * self._slope
        parabola = -0.5 * self._slope * self._step / excess if np.isfinite(excess) else 0.0
        self._step *= min(max(parabola, 0.1), 0.5)
        self.trial = self.point + self._step * self._direction

    def _finish(self, warning: str) -> None:
        self.finished, self.warning, self._pairs = True, warning, []


@dataclass(frozen=True, eq=False)
class Preconditioner:
    """Linear change of variables after which the Hessian of a head is near the identity; the optimum stays.

    The Hessian's diagonal blocks are ``E[p (1 - p) x x^T] + penalty``. ``E[p (1 - p)]`` of a class is estimated from
    its share q as ``sqrt(q (1 - q)) / 4`` (at most 1/4, and falling as the fit gets better) and taken out of the
    expectation, so that one eigendecomposition of the covariance serves all classes and penalties.
    """

    directions: Float64[np.ndarray, "channel direction"]
    """Eigenvectors of the covariance of the kept features; zero for the others."""
    stretch: Float64[np.ndarray, "classes direction"]
    """Weight of a unit step along each direction."""
    bias_stretch: Float64[np.ndarray, " classes"]
    """Bias of a unit step."""

    def weight_and_bias(
        self, point: Float64[np.ndarray, " parameter"]
    ) -> tuple[Float64[np.ndarray, "classes channel"], Float64[np.ndarray, " classes"]]:
        """Return the weights and biases of a point of the descent."""
        parameters = point.reshape(len(self.bias_stretch), -1)
        return (parameters[:, 1:] * self.stretch) @ self.directions.T, parameters[:, 0] * self.bias_stretch

    def gradient(
        self, weight: Float64[np.ndarray, "classes channel"], bias: Float64[np.ndarray, " classes"]
    ) -> Float64[np.ndarray, " parameter"]:
        """Return the gradient by the parameters of the descent from that by weights and biases."""
        rotated = (weight @ self.directions) * self.stretch
        return np.concatenate([(bias * self.bias_stretch)[:, None], rotated], axis=1).ravel()


def preconditioners(
    heads: Sequence[Head], covariance: Float64[np.ndarray, "channel channel"], shares: Float64[np.ndarray, " classes"]
) -> list[Preconditioner]:
    """Return the preconditioner of every head; heads that keep the same features share an eigendecomposition."""
    curvature = np.sqrt(shares * (1.0 - shares)) / 4.0
    bias_stretch = 1.0 / np.sqrt(np.maximum(curvature, 1e-12))
    spectra: dict[bytes, tuple[np.ndarray, np.ndarray]] = {}
    found = []
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
        found.append(Preconditioner(directions, stretch, bias_stretch))
    return found


def descend(
    objective: Objective,
    heads: Sequence[Head],
    changes: list[Preconditioner],
    scale: Float64[np.ndarray, " channel"],
    counts: Int64[np.ndarray, " classes"],
    tolerance: float,
    max_iterations: int,
) -> list[Descent]:
    """Run all heads until each has finished, from zero weights and the bias that gives every class its share.

    Args:
        objective: mean cross-entropy of stacked heads.
        heads: penalties and kept features.
        changes: preconditioner of each head.
        scale: factor of each centred feature.
        counts: rows of each class.
        tolerance: norm of the gradient, over the objective, at which a head has converged.
        max_iterations: iterations after which a head stops.
    """
    descents = []
    for change in changes:
        point = np.zeros((len(counts), 1 + change.stretch.shape[1]))
        point[:, 0] = np.log(counts / counts.sum()) / change.bias_stretch
        descents.append(Descent(point.ravel(), tolerance, max_iterations))
    while active := [number for number, descent in enumerate(descents) if not descent.finished]:
        parameters = [changes[number].weight_and_bias(descents[number].trial) for number in active]
        weights, biases = np.stack([weight for weight, _ in parameters]), np.stack([bias for _, bias in parameters])
        losses, weight_gradients, bias_gradients = objective(weights * scale, biases)
        for index, number in enumerate(active):
            penalty, weight = heads[number].penalty, weights[index]
            value = float(losses[index]) + penalty / 2.0 * float(np.vdot(weight, weight))
            slope = weight_gradients[index] * scale + penalty * weight
            descents[number].observe(value, changes[number].gradient(slope, bias_gradients[index]))
        most = max(descent.iterations for descent in descents)
        report(f"iterations of {len(descents)} probe fits ({len(active)} not converged yet)", most)
    return descents
