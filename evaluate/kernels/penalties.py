"""L2 regularisation of linear probes, chosen on held-out images."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float, Float64, Integer

from evaluate.kernels import probes
from evaluate.kernels.confusion import confusion, miou_present, pixel_accuracy
from evaluate.kernels.lbfgs import Head
from evaluate.kernels.probes import Probe, fit_probes, predict_side_by_side
from evaluate.selection import hold_out_images
from stores.specs import VOID

PENALTIES = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
"""Default grid. For features of unit variance 1e-6 has hardly any effect; 1e-1 leaves little more than class means."""


PenaltyScore = Literal["patch_miou", "patch_accuracy"]
"""What a penalty is chosen by: the mIoU that is reported, or the share of right patches."""

HELD_OUT_SHARE = 0.2
"""Default share of the training images that are held out."""


@dataclass(frozen=True, eq=False)
class PenaltyChoice:
    """Penalties chosen on held-out images, one for every set of kept features, and the probes fitted with them."""

    probes: tuple[Probe, ...]
    """Fitted on all rows with the chosen penalties; one for every set of kept features."""
    penalties: tuple[float, ...]
    """The grid, increasing."""
    scores: Float64[np.ndarray, "kept penalty"]
    """Held-out scores of the grid."""
    held_out: tuple[int, ...]
    """Ids of the held-out images, increasing."""
    trials: tuple[Probe, ...]
    """The scored probes: all penalties of the first set of kept features, then those of the second, and so on."""


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
    held_out_share: float = HELD_OUT_SHARE,
    score: PenaltyScore = "patch_miou",
    tolerance: float = 5e-4,
    max_iterations: int = 1000,
) -> PenaltyChoice:
    """Choose a penalty for every set of kept features on held-out images, then refit on all rows.

    Of equal scores the larger penalty wins. Statistics for standardising come from the rows that are fitted. A grid of
    one penalty is taken as it is, without holding anything out. Raises UserError when several penalties are to be
    compared and fewer than two images have labelled rows, and as `fit_probes`.

    Args:
        features: training rows.
        labels: class of each row, 255 for void.
        images: source image of each row; images are held out whole.
        n_classes: classes of the class table.
        standardise: whether the probes act on standardised features.
        seed: seed of the held-out images (`evaluate.selection.hold_out_images`).
        kept: masks of kept features, None for all; a penalty is chosen for each.
        penalties: penalties to choose from.
        held_out_share: share of the labelled images that is held out.
        score: what is maximised on the held-out images.
        tolerance: as in `fit_probes`.
        max_iterations: as in `fit_probes`.
    """
    grid = tuple(sorted(penalties))
    options: dict[str, Any] = {"standardise": standardise, "tolerance": tolerance, "max_iterations": max_iterations}
    if len(grid) == 1:
        heads = [Head(grid[0], mask) for mask in kept]
        fitted = fit_probes(features, labels, n_classes, heads, **options)
        return PenaltyChoice(fitted, grid, np.full((len(kept), 1), np.nan), (), ())
    held_out = hold_out_images(images[labels != VOID], held_out_share, seed)
    heads = [Head(penalty, mask) for mask in kept for penalty in grid]
    is_held_out = np.isin(images, held_out)
    trials = fit_probes(features, labels, n_classes, heads, rows=np.flatnonzero(~is_held_out), **options)
    scored = np.flatnonzero(is_held_out & (labels != VOID))
    truth = labels[scored]
    scores = np.zeros(len(heads))
    for number, predicted in enumerate(predict_side_by_side(trials, features, scored)):
        matrix = confusion(truth, predicted, np.zeros(len(truth), dtype=np.int64), 1, n_classes)[0]
        scores[number] = pixel_accuracy(matrix) if score == "patch_accuracy" else miou_present(matrix)
    table = scores.reshape(len(kept), len(grid))
    best = [grid[len(grid) - 1 - int(row[::-1].argmax())] for row in table]
    heads = [Head(*pair) for pair in zip(best, kept, strict=True)]
    chosen = fit_probes(features, labels, n_classes, heads, **options)
    return PenaltyChoice(chosen, grid, table, held_out, trials)


def peak_bytes(
    n_train: int, n_queries: int, n_images: int, n_classes: int, n_channels: int, n_subsets: int, n_penalties: int
) -> int:
    """Return the bytes of `choose_penalty` and of predicting with its probes, beside features and labels.

    Args:
        n_train: training rows, of which `HELD_OUT_SHARE` is predicted by the probes of every penalty.
        n_queries: rows that the chosen probes predict.
        n_images: source images of the training rows.
        n_classes: classes of the class table.
        n_channels: features of a row.
        n_subsets: sets of kept features.
        n_penalties: penalties to choose from.
    """
    n_held_out = n_train * max(1, round(HELD_OUT_SHARE * n_images)) // n_images
    n_predicted = max(n_held_out * n_subsets * n_penalties, n_queries * n_subsets)
    predicted = 2 * 8 * n_predicted  # int64 classes: of blocks, and those of all rows
    return probes.peak_bytes(n_classes, n_channels, n_subsets * n_penalties) + predicted
