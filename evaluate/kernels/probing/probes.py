"""Linear probes: multinomial logistic regression to convergence, for many penalties and feature sets together.

A head is an L2 penalty and the features that it uses. All heads share every pass over the features: their weights are
stacked, so that a pass is two large float32 matrix products for any number of heads.

The loss of a head is ``mean cross-entropy + penalty / 2 * ||weight||^2``; the bias is free. scikit-learn's
``LogisticRegression(C=1 / (n_rows * penalty))`` has the same optimum. With ``standardise`` the weights, and so the
penalty, act on standardised features (`evaluate.kernels.moments.Standardisation`), as after the BatchNorm of
facebookresearch/mae, main_linprobe.py.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Float64, Int64, Integer

from evaluate.kernels.moments import WORK_BYTES, Moments, Standardisation
from evaluate.kernels.probing.cross_entropy import BLOCK_ROWS, COPY_BYTES, WINDOW, Objective, Rows, all_cores
from evaluate.kernels.probing.lbfgs import HISTORY, Descent, Head, Preconditioner, descend, preconditioners
from stores.errors import UserError
from stores.specs import VOID
from stores.storage.cores import available_cores

TOLERANCE = 1e-3
"""Preconditioned gradient norm over objective at which a probe has converged. On patches of a real DINOv2 ViT-S/14 the
predictions of 1 in 2500 held-out patches changed after that, and mIoU by less than 0.001."""
_BATCH_BYTES = 2**30  # float64 state of the heads that are fitted together


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
        """Factor of each centred feature: ones unless the probe standardises."""
        return np.ones(len(self.centre)) if self.standardisation is None else self.standardisation.scale


def head_bytes(n_classes: int, n_channels: int) -> int:
    """Return the bytes of the descent of one head: float64 steps, gradients and eigenvectors."""
    return 8 * (2 * HISTORY + 8) * n_classes * (n_channels + 1) + 8 * n_channels**2


def batch_size(n_classes: int, n_channels: int) -> int:
    """Return how many heads are fitted together: fixed, because another number would change the last bits."""
    return max(1, _BATCH_BYTES // head_bytes(n_classes, n_channels))


def peak_bytes(n_rows: int, n_classes: int, n_channels: int, n_heads: int) -> int:
    """Return the bytes of fitting probes and scoring rows with them, beside features, labels and predicted classes.

    Args:
        n_rows: rows that are fitted.
        n_classes: classes of the class table.
        n_channels: features of a row.
        n_heads: probes.
    """
    together = min(n_heads, batch_size(n_classes, n_channels))
    descents = together * head_bytes(n_classes, n_channels)
    n_blocks, block_rows = -(-n_rows // BLOCK_ROWS), min(n_rows, BLOCK_ROWS)
    at_work, waiting = (min(n_blocks, times * available_cores()) for times in (1, WINDOW))
    # float32: scores of a block and two temporaries of the loss, and gradients that wait to be added
    scores = 4 * together * n_classes * (3 * at_work * block_rows + waiting * n_channels)
    weights = 5 * 8 * n_heads * n_classes * n_channels  # float64: of all probes, stacked, scaled and as float32
    # float64: of the features, scaled, and decomposed; float32: products of blocks that wait to be added
    covariances = (3 * 8 + 4 * waiting) * n_channels**2
    copies = 4 * n_rows * n_channels
    if copies > COPY_BYTES:  # the blocks at work
        copies = 4 * at_work * block_rows * n_channels
    return descents + scores + weights + covariances + copies + WORK_BYTES


def fit_probes(
    features: Float[np.ndarray, "row channel"],
    labels: Integer[np.ndarray, " row"],
    n_classes: int,
    heads: Sequence[Head],
    *,
    standardise: bool,
    rows: Int64[np.ndarray, " used"] | None = None,
    tolerance: float = TOLERANCE,
    max_iterations: int = 1000,
    starts: Sequence[Probe | None] | None = None,
    device: str | None = None,
) -> tuple[Probe, ...]:
    """Fit one probe a head on the labelled rows (those whose label is not void) among ``rows``.

    Features are read in blocks of 2048 rows, once a pass; small ones are kept as float32 for all passes. A head has
    converged when the norm of its preconditioned gradient is at most ``tolerance`` times its objective, a measure that
    no rescaling of features changes; the objective is then about ``tolerance / 30`` (relative) above the optimum. A
    head that stops before that has ``converged`` false and a ``warning``.

    Raises UserError when no row is labelled, a label is not below ``n_classes``, a feature is not finite, a penalty is
    not positive, or a head keeps no feature.

    Args:
        features: rows to choose from.
        labels: class of each row, 255 for void.
        n_classes: classes of the class table.
        heads: one probe is fitted for each.
        standardise: whether weights and penalty act on standardised features.
        rows: numbers of the rows to fit; None takes all.
        tolerance: preconditioned gradient norm over objective at which a head has converged.
        max_iterations: iterations after which a head stops.
        starts: fitted probe of each head to start from, None to start from zero weights.
        device: where torch computes the passes over the rows, such as ``cuda``; None for numpy on all cores. Their last
            bits differ.
    """
    chosen = np.arange(len(labels)) if rows is None else np.unique(rows)
    used = Rows(features, chosen[labels[chosen] != VOID])
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
    together = batch_size(len(present), features.shape[1])
    begin: list[tuple[np.ndarray, np.ndarray] | None] = [None] * len(heads)
    for number, (start, head) in enumerate(zip(starts or (), heads, strict=bool(starts))):
        begin[number] = None if start is None else _start(start, head, present, counts, centre, scale)

    probes: list[Probe] = []
    with all_cores() as pool:
        objective = Objective(used, targets.astype(np.int64), centre, pool, device)
        covariance = objective.covariance() * np.outer(scale, scale)
        for first in range(0, len(heads), together):
            group = heads[first : first + together]
            changes = preconditioners(group, covariance, counts / len(used.numbers))
            descents = descend(
                objective, group, changes, scale, counts, tolerance, max_iterations, begin[first : first + together]
            )
            probes += _probes(group, changes, descents, n_classes, present, centre, standardisation)
    return tuple(probes)


def _probes(
    heads: Sequence[Head],
    changes: Sequence[Preconditioner],
    descents: Sequence[Descent],
    n_classes: int,
    present: Integer[np.ndarray, " present"],
    centre: Float32[np.ndarray, " channel"],
    standardisation: Standardisation | None,
) -> list[Probe]:
    """Return the probes of finished descents, with classes that no training row has at a score of -inf."""
    probes = []
    for head, change, descent in zip(heads, changes, descents, strict=True):
        weight, bias = np.zeros((n_classes, len(centre))), np.full(n_classes, -np.inf)
        fitted, offset = change.weight_and_bias(descent.point)
        # A weight that all classes share changes no probability: without it the penalty term is smaller.
        shared = fitted.mean(axis=0)
        weight[present], bias[present] = fitted - shared, offset - offset.mean()
        value = descent.value - head.penalty / 2.0 * len(present) * float(shared @ shared)
        warning = f"{descent.warning}, at gradient norm {descent.norm:.1e}" if descent.warning else None
        probes.append(
            Probe(head, weight, bias, centre.astype(np.float64), standardisation, value, descent.norm,
                  descent.iterations, warning is None, warning)
        )  # fmt: skip
    return probes


def _start(
    start: Probe,
    head: Head,
    present: Integer[np.ndarray, " present"],
    counts: Int64[np.ndarray, " present"],
    centre: Float32[np.ndarray, " channel"],
    scale: Float64[np.ndarray, " channel"],
) -> tuple[Float64[np.ndarray, "present channel"], Float64[np.ndarray, " present"]]:
    """Return the weights and biases of a fitted probe for other rows, whose classes, centre and scale differ."""
    raw = start.weight[present] * start.scale
    if head.kept is not None:
        raw = raw * head.kept
    bias = start.bias[present] + raw @ (centre.astype(np.float64) - start.centre)
    shares = np.log(counts / counts.sum())
    known = np.isfinite(bias)
    bias[~known] = shares[~known] + (bias[known] - shares[known]).mean()
    return raw / scale, bias


def scores(
    probes: Sequence[Probe],
    features: Float[np.ndarray, "row channel"],
    rows: Int64[np.ndarray, " used"] | None = None,
) -> Iterator[Float32[np.ndarray, "head _ classes"]]:
    """Yield the class scores (logits) of successive blocks of the rows, or of all, all probes in one product."""
    centre = probes[0].centre
    weights = np.stack([probe.weight * probe.scale for probe in probes])
    shifts = np.stack([probe.bias + (probe.weight * probe.scale) @ (centre - probe.centre) for probe in probes])
    stacked = weights.reshape(-1, features.shape[1]).astype(np.float32).T
    used = np.arange(len(features)) if rows is None else rows
    for block in Rows(features, used).centred(centre.astype(np.float32)):
        product = (block @ stacked).reshape(len(block), *shifts.shape)
        yield (product + shifts.astype(np.float32)).transpose(1, 0, 2)


def predict_side_by_side(
    probes: Sequence[Probe],
    features: Float[np.ndarray, "row channel"],
    rows: Int64[np.ndarray, " used"] | None = None,
) -> Int64[np.ndarray, "head predicted"]:
    """Return the class of the highest score for every probe and each of the rows, ties to the lowest class."""
    predicted = [block.argmax(axis=2) for block in scores(probes, features, rows)]
    return np.concatenate([np.zeros((len(probes), 0), dtype=np.int64), *predicted], axis=1)


def predict(probe: Probe, features: Float[np.ndarray, "row channel"]) -> Int64[np.ndarray, " row"]:
    """Return the class of the highest score for every row, ties to the lowest class."""
    classes: Int64[np.ndarray, " row"] = predict_side_by_side([probe], features)[0]
    return classes
