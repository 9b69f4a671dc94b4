"""Preconditioned L-BFGS for many linear heads that share every pass over the rows."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64

from evaluate.kernels.probing.cross_entropy import Objective
from evaluate.kernels.progress import report

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

    def point(
        self, weight: Float64[np.ndarray, "classes channel"], bias: Float64[np.ndarray, " classes"]
    ) -> Float64[np.ndarray, " parameter"]:
        """Return the point of the descent that has these weights and biases; the inverse of `weight_and_bias`."""
        rotated = (weight @ self.directions) / self.stretch
        return np.concatenate([(bias / self.bias_stretch)[:, None], rotated], axis=1).ravel()

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
    starts: Sequence[tuple[np.ndarray, np.ndarray] | None] | None = None,
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
        starts: weights ``(classes, channel)`` and biases of each head to start from instead, None for the default.
    """
    descents = []
    for index, change in enumerate(changes):
        weight, bias = np.zeros((len(counts), len(scale))), np.log(counts / counts.sum())
        if starts is not None and (start := starts[index]) is not None:
            weight, bias = start
        descents.append(Descent(change.point(weight, bias), tolerance, max_iterations))
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
