"""Linear probes: multinomial logistic regression to convergence, many heads side by side.

A head is an L2 penalty and the features that it may use. All heads of a sweep share every pass over the features:
their weights are stacked, so that a pass is two large float32 matrix products whatever the number of heads.

The loss of a head is ``mean cross-entropy + penalty / 2 * ||weight||^2``; the bias is free. scikit-learn's
``LogisticRegression(C=1 / (n_rows * penalty))`` has the same optimum. With ``standardise`` the weights, and so the
penalty, act on standardised features (`evaluate.moments.Standardisation`), as after the BatchNorm of
facebookresearch/mae, main_linprobe.py.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, Int64, Integer

from evaluate.moments import Moments, Standardisation, read_float32
from evaluate.segmentation import confusion, miou_present, pixel_accuracy
from evaluate.selections import hold_out_images
from stores.errors import UserError
from stores.specs import VOID

PENALTIES = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
"""Default grid. For features of unit variance 1e-6 hardly binds and 1e-1 leaves little more than class means."""

_BLOCK_ROWS = 2048  # rows in one matrix product: fixed, because another number would change the last bits
_HISTORY = 10  # pairs of steps and gradient changes that L-BFGS remembers
_SIDE_BY_SIDE_BYTES = 2**30  # float64 state of the heads that are fitted together
_BACKTRACKS = 25
_LOSS_NOISE = 2.0**-24  # relative: what float32 products leave of a loss


@dataclass(frozen=True, eq=False)
class Head:
    """One probe to fit."""

    penalty: float
    kept: Bool[np.ndarray, " channel"] | None = None
    """Features it may use (see `evaluate.moments.without_top`); None for all."""


@dataclass(frozen=True, eq=False)
class Probe:
    """A fitted head. Scores are ``((x - centre) * scale) @ weight.T + bias``."""

    head: Head
    weight: Float64[np.ndarray, "classes channel"]
    """Zero for removed features; over classes it sums to zero."""
    bias: Float64[np.ndarray, " classes"]
    """-inf for classes that no training row has; the others sum to zero."""
    centre: Float64[np.ndarray, " channel"]
    """Mean of the training rows."""
    standardisation: Standardisation | None
    objective: float
    """Mean cross-entropy in nats plus the penalty term, on the training rows."""
    gradient_norm: float
    """Preconditioned and divided by the objective: what the tolerance is compared with."""
    iterations: int
    converged: bool
    warning: str | None
    """Why a probe that has not converged stopped."""

    @property
    def scale(self) -> Float64[np.ndarray, " channel"]:
        """What centred features are multiplied with: ones unless the probe standardises."""
        return np.ones(len(self.centre)) if self.standardisation is None else self.standardisation.scale


@dataclass(frozen=True, eq=False)
class _Rows:
    """Labelled rows of a feature array, read in bounded blocks."""

    features: Float[np.ndarray, "row channel"]
    numbers: Int64[np.ndarray, " used"]

    def raw(self) -> Iterator[Float[np.ndarray, "_ channel"]]:
        for start in range(0, len(self.numbers), _BLOCK_ROWS):
            rows = self.numbers[start : start + _BLOCK_ROWS]
            contiguous = rows[-1] - rows[0] + 1 == len(rows)
            yield self.features[rows[0] : rows[-1] + 1] if contiguous else self.features[rows]

    def centred(self, centre: Float32[np.ndarray, " channel"]) -> Iterator[Float32[np.ndarray, "_ channel"]]:
        """Yield float32 blocks less ``centre``; a block is overwritten by the next."""
        buffer = np.empty((_BLOCK_ROWS, self.features.shape[1]), dtype=np.float32)
        for raw in self.raw():
            block = buffer[: len(raw)]
            read_float32(raw, block)
            block -= centre
            yield block


class _Objective:
    """Mean cross-entropy of stacked heads and its gradients, one pass over the rows for all of them."""

    def __init__(
        self, rows: _Rows, targets: Int64[np.ndarray, " used"], centre: Float32[np.ndarray, " channel"]
    ) -> None:
        self.rows, self.targets, self.centre = rows, targets, centre

    def __call__(
        self, weights: Float64[np.ndarray, "head classes channel"], biases: Float64[np.ndarray, "head classes"]
    ) -> tuple[
        Float64[np.ndarray, " head"],
        Float64[np.ndarray, "head classes channel"],
        Float64[np.ndarray, "head classes"],
    ]:
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


class _Descent:
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

    def observe(self, value: float, gradient: Float64[np.ndarray, " parameter"]) -> None:
        if np.isfinite(self.value):
            if not value <= self.value + 1e-4 * self._step * self._slope + _LOSS_NOISE * abs(self.value):
                self._shorten(value)
                return
            step, change = self.trial - self.point, gradient - self._gradient
            curvature = float(step @ change)
            if curvature > 1e-12 * float(change @ change):
                self._pairs = [*self._pairs[1 - _HISTORY :], (step, change, curvature)]
            self.iterations += 1
        self.point, self.value, self._gradient = self.trial, value, gradient
        self.norm = float(np.linalg.norm(gradient)) / value if value > 0 else 0.0
        if self.norm <= self._tolerance:
            self._finish("")
        elif self.iterations >= self._max_iterations:
            self._finish(f"stopped after {self.iterations} iterations")
        else:
            self._start_line()

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
                self._finish("stopped where float32 products cannot lower the loss any more")
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
class _Metric:
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
        parameters = point.reshape(len(self.bias_stretch), -1)
        return (parameters[:, 1:] * self.stretch) @ self.directions.T, parameters[:, 0] * self.bias_stretch

    def gradient(
        self, weight: Float64[np.ndarray, "classes channel"], bias: Float64[np.ndarray, " classes"]
    ) -> Float64[np.ndarray, " parameter"]:
        rotated = (weight @ self.directions) * self.stretch
        return np.concatenate([(bias * self.bias_stretch)[:, None], rotated], axis=1).ravel()


def fit_probes(
    features: Float[np.ndarray, "row channel"],
    labels: Integer[np.ndarray, " row"],
    n_classes: int,
    heads: Sequence[Head],
    *,
    standardise: bool,
    rows: Int64[np.ndarray, " used"] | None = None,
    tolerance: float = 5e-4,
    max_iterations: int = 1000,
) -> tuple[Probe, ...]:
    """Fit one probe a head on the labelled rows (those whose label is not void) among ``rows``.

    Features are read in blocks of 2048 rows, once a pass, and never copied whole. A head has converged when the
    norm of its preconditioned gradient is at most ``tolerance`` times its objective, a measure that no rescaling
    of features changes; the objective is then about ``tolerance / 50`` (relative) above the optimum. A head that
    stops earlier says so in ``converged`` and ``warning``.

    Raises UserError when no row is labelled, a label is not below ``n_classes``, a feature is not finite, a
    penalty is not positive, or a head keeps no feature.
    """
    chosen = np.arange(len(labels)) if rows is None else np.unique(rows)
    used = _Rows(features, chosen[labels[chosen] != VOID])
    moments = Moments.of(used.raw())  # raises where there is no labelled row
    present, targets, counts = np.unique(labels[used.numbers], return_inverse=True, return_counts=True)
    if present[0] < 0 or present[-1] >= n_classes:
        raise UserError(f"a label is {present[-1]}, but the class table has {n_classes} classes; check the label map")
    for head in heads:
        if not (head.penalty > 0 and np.isfinite(head.penalty)):
            raise UserError(f"penalty {head.penalty} has no unique optimum; choose a positive number")
        if head.kept is not None and not head.kept.any():
            raise UserError("a probe keeps no feature; remove fewer than all of them")

    standardisation = Standardisation(moments.mean, moments.variance) if standardise else None
    scale = np.ones(features.shape[1]) if standardisation is None else standardisation.scale
    centre = moments.mean.astype(np.float32)
    covariance = sum((block.T @ block).astype(np.float64) for block in used.centred(centre)) / len(used.numbers)
    objective = _Objective(used, targets.astype(np.int64), centre)
    head_bytes = 8 * (2 * _HISTORY + 8) * len(present) * (features.shape[1] + 1) + 8 * covariance.size
    together = max(1, _SIDE_BY_SIDE_BYTES // head_bytes)

    probes: list[Probe] = []
    for first in range(0, len(heads), together):
        group = heads[first : first + together]
        metrics = _metrics(group, covariance * np.outer(scale, scale), counts / len(used.numbers))
        descents = _descend(objective, group, metrics, scale, counts, tolerance, max_iterations)
        for head, metric, descent in zip(group, metrics, descents, strict=True):
            weight, bias = np.zeros((n_classes, len(scale))), np.full(n_classes, -np.inf)
            found, shifted = metric.weight_and_bias(descent.point)
            # What all classes share changes no probability: without it the penalty term is smaller.
            shared = found.mean(axis=0)
            weight[present], bias[present] = found - shared, shifted - shifted.mean()
            value = descent.value - head.penalty / 2.0 * len(present) * float(shared @ shared)
            warning = f"{descent.warning}, at gradient norm {descent.norm:.1e}" if descent.warning else None
            probes.append(
                Probe(head, weight, bias, centre.astype(np.float64), standardisation, value, descent.norm,
                      descent.iterations, warning is None, warning)
            )  # fmt: skip
    return tuple(probes)


def _metrics(
    heads: Sequence[Head], covariance: Float64[np.ndarray, "channel channel"], shares: Float64[np.ndarray, " classes"]
) -> list[_Metric]:
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
        metrics.append(_Metric(directions, stretch, bias_stretch))
    return metrics


def _descend(
    objective: _Objective,
    heads: Sequence[Head],
    metrics: list[_Metric],
    scale: Float64[np.ndarray, " channel"],
    counts: Int64[np.ndarray, " classes"],
    tolerance: float,
    max_iterations: int,
) -> list[_Descent]:
    """Run all heads to their end, from zero weights and the bias that gives every class its share."""
    descents = []
    for metric in metrics:
        point = np.zeros((len(counts), 1 + metric.stretch.shape[1]))
        point[:, 0] = np.log(counts / counts.sum()) / metric.bias_stretch
        descents.append(_Descent(point.ravel(), tolerance, max_iterations))
    while active := [number for number, descent in enumerate(descents) if not descent.finished]:
        parameters = [metrics[number].weight_and_bias(descents[number].trial) for number in active]
        weights, biases = np.stack([weight for weight, _ in parameters]), np.stack([bias for _, bias in parameters])
        losses, weight_gradients, bias_gradients = objective(weights * scale, biases)
        for place, number in enumerate(active):
            penalty, weight = heads[number].penalty, weights[place]
            value = float(losses[place]) + penalty / 2.0 * float(np.vdot(weight, weight))
            slope = weight_gradients[place] * scale + penalty * weight
            descents[number].observe(value, metrics[number].gradient(slope, bias_gradients[place]))
    return descents


def scores(
    probes: Sequence[Probe], features: Float[np.ndarray, "row channel"]
) -> Iterator[Float32[np.ndarray, "head _ classes"]]:
    """Yield the class scores (logits) of successive blocks of rows, all probes in one product."""
    centre = probes[0].centre
    weights = np.stack([probe.weight * probe.scale for probe in probes])
    shifts = np.stack([probe.bias + (probe.weight * probe.scale) @ (centre - probe.centre) for probe in probes])
    stacked = weights.reshape(-1, features.shape[1]).astype(np.float32).T
    for block in _Rows(features, np.arange(len(features))).centred(centre.astype(np.float32)):
        product = (block @ stacked).reshape(len(block), *shifts.shape)
        yield (product + shifts.astype(np.float32)).transpose(1, 0, 2)


def predict_side_by_side(
    probes: Sequence[Probe], features: Float[np.ndarray, "row channel"]
) -> Int64[np.ndarray, "head row"]:
    """Return the class of the highest score for every probe and row, ties to the lowest class."""
    found = [block.argmax(axis=2) for block in scores(probes, features)]
    return np.concatenate([np.zeros((len(probes), 0), dtype=np.int64), *found], axis=1)


def predict(probe: Probe, features: Float[np.ndarray, "row channel"]) -> Int64[np.ndarray, " row"]:
    """Return the class of the highest score for every row, ties to the lowest class."""
    classes: Int64[np.ndarray, " row"] = predict_side_by_side([probe], features)[0]
    return classes


@dataclass(frozen=True, eq=False)
class PenaltyChoice:
    """Penalties chosen on held-out images, one for every set of kept features, and the probes made with them."""

    probes: tuple[Probe, ...]
    """Fitted on all rows with the chosen penalties; one for every set of kept features."""
    penalties: tuple[float, ...]
    """The grid, increasing."""
    scores: Float64[np.ndarray, "kept penalty"]
    """Held-out scores of the grid."""
    held_out: tuple[int, ...]
    """Ids of the held-out images, increasing."""
    trials: tuple[Probe, ...]
    """The probes that were scored, penalties running fastest."""


def choose_penalty(
    features: Float[np.ndarray, "row channel"],
    labels: Integer[np.ndarray, " row"],
    images: Integer[np.ndarray, " row"],
    n_classes: int,
    *,
    standardise: bool,
    seed: int,
    kept: Sequence[Bool[np.ndarray, " channel"] | None] = (None,),
    penalties: Sequence[float] = PENALTIES,
    held_out_share: float = 0.2,
    score: Literal["patch_accuracy", "patch_miou"] = "patch_accuracy",
    tolerance: float = 5e-4,
    max_iterations: int = 1000,
) -> PenaltyChoice:
    """Choose a penalty for every set of kept features on held-out images, then refit on all rows.

    ``images`` gives the source image of each row; a share ``held_out_share`` of the labelled images is held out
    whole, drawn with ``seed`` (`evaluate.selections.hold_out_images`). The highest ``score`` wins (share of right
    patches, or mIoU over present classes), ties go to the larger penalty. Statistics for standardising come from
    the rows that are fitted. Raises UserError when fewer than two images have labelled rows, and as `fit_probes`.
    """
    held_out = hold_out_images(images[labels != VOID], held_out_share, seed)
    grid = tuple(sorted(penalties))
    heads = [Head(penalty, mask) for mask in kept for penalty in grid]
    is_held_out = np.isin(images, held_out)
    trials = fit_probes(
        features, labels, n_classes, heads, standardise=standardise, rows=np.flatnonzero(~is_held_out),
        tolerance=tolerance, max_iterations=max_iterations,
    )  # fmt: skip
    scored = np.flatnonzero(is_held_out & (labels != VOID))
    truth = labels[scored]
    right = np.zeros(len(heads))
    for number, predicted in enumerate(predict_side_by_side(trials, features[scored])):
        matrix = confusion(truth, predicted, np.zeros(len(truth), dtype=np.int64), 1, n_classes)[0]
        right[number] = pixel_accuracy(matrix) if score == "patch_accuracy" else miou_present(matrix)
    table = right.reshape(len(kept), len(grid))
    best = [grid[len(grid) - 1 - int(row[::-1].argmax())] for row in table]
    probes = fit_probes(
        features, labels, n_classes, [Head(*pair) for pair in zip(best, kept, strict=True)], standardise=standardise,
        tolerance=tolerance, max_iterations=max_iterations,
    )  # fmt: skip
    return PenaltyChoice(probes, grid, table, held_out, trials)
