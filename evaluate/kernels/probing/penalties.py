"""L2 regularisation of linear probes, chosen on held-out images."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float, Float64, Integer

from evaluate.kernels.probing import probes
from evaluate.kernels.probing.lbfgs import Head
from evaluate.kernels.probing.probes import TOLERANCE, Probe, fit_probes, predict_side_by_side
from evaluate.kernels.segmentation.confusion import confusion, miou_present, pixel_accuracy
from evaluate.selection import hold_out_images
from stores.specs import VOID

PENALTIES = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
"""Default grid. For features of unit variance 1e-6 has hardly any effect; 1e-1 leaves little more than class means."""


PenaltyScore = Literal["patch_miou", "patch_accuracy"]
"""What a penalty is chosen by: the mIoU that is reported, or the share of right patches."""

_TRIAL_TOLERANCE = 4.0  # of a trial, over that of the returned probe: scores of trials move by less than their noise
HELD_OUT_SHARE = 0.2
"""Default share of the training images that are held out."""


_FIRST_TRIALS = 3  # largest penalties of the grid that are tried side by side before any smaller one


@dataclass(frozen=True, eq=False)
class PenaltyChoice:
    """A penalty chosen on held-out images, and the probe fitted with it."""

    probe: Probe
    """Fitted on all rows with the chosen penalty."""
    penalties: tuple[float, ...]
    """The penalties that were tried, decreasing."""
    scores: Float64[np.ndarray, " penalty"]
    """Their held-out scores."""
    held_out: tuple[int, ...]
    """Ids of the held-out images, increasing."""
    trials: tuple[Probe, ...]
    """The scored probes, one for each penalty that was tried."""


def choose_penalty(
    features: Float[np.ndarray, "row channel"],
    labels: Integer[np.ndarray, " row"],
    images: Integer[np.ndarray, " row"],
    n_classes: int,
    *,
    standardise: bool,
    seed: int,
    kept: Bool[np.ndarray, " channel"] | None = None,
    penalties: Sequence[float] = PENALTIES,
    held_out_share: float = HELD_OUT_SHARE,
    score: PenaltyScore = "patch_miou",
    tolerance: float = TOLERANCE,
    max_iterations: int = 1000,
    device: str | None = None,
) -> PenaltyChoice:
    """Choose a penalty on held-out images, then refit on all rows.

    Penalties are tried from the largest down: three at once, then one after another, until two in a row score less than
    the best. Smaller ones separate the training rows ever better and take most of the iterations: with six penalties on
    patches of a DINOv2 ViT-S/14, the two that are left out took two thirds of the time. Trials stop at ten times the
    tolerance of the probe that is returned; that one starts from the trial with its penalty.

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
        kept: mask of kept features, None for all.
        penalties: penalties to choose from.
        held_out_share: share of the labelled images that is held out.
        score: what is maximised on the held-out images.
        tolerance: as in `fit_probes`.
        max_iterations: as in `fit_probes`.
        device: as in `fit_probes`.
    """
    grid = sorted(penalties, reverse=True)
    options: dict[str, Any] = {"standardise": standardise, "max_iterations": max_iterations, "device": device}
    if len(grid) == 1:
        [probe] = fit_probes(features, labels, n_classes, [Head(grid[0], kept)], tolerance=tolerance, **options)
        return PenaltyChoice(probe, tuple(grid), np.full(1, np.nan), (), ())
    held_out = hold_out_images(images[labels != VOID], held_out_share, seed)
    is_held_out = np.isin(images, held_out)
    fitted, scored = np.flatnonzero(~is_held_out), np.flatnonzero(is_held_out & (labels != VOID))
    truth = labels[scored]
    options["tolerance"] = tolerance * _TRIAL_TOLERANCE
    trials: list[Probe] = []
    scores: list[float] = []
    while len(trials) < len(grid) and (len(trials) < _FIRST_TRIALS or int(np.argmax(scores)) >= len(scores) - 2):
        some = grid[len(trials) : max(_FIRST_TRIALS, len(trials) + 1)]
        heads = [Head(penalty, kept) for penalty in some]
        starts = [trials[-1]] if trials else None
        fits = fit_probes(features, labels, n_classes, heads, rows=fitted, starts=starts, **options)
        for predicted in predict_side_by_side(fits, features, scored):
            matrix = confusion(truth, predicted, np.zeros(len(truth), dtype=np.int64), 1, n_classes)[0]
            scores.append(float(pixel_accuracy(matrix) if score == "patch_accuracy" else miou_present(matrix)))
        trials += fits
    best = trials[int(np.argmax(scores))]
    options["tolerance"] = tolerance
    heads = [Head(best.head.penalty, kept)]
    [probe] = fit_probes(features, labels, n_classes, heads, starts=[best], **options)
    return PenaltyChoice(probe, tuple(grid[: len(trials)]), np.array(scores), held_out, tuple(trials))


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
    together = min(n_penalties, _FIRST_TRIALS)
    n_predicted = max(n_held_out * together, n_queries * n_subsets)
    predicted = 2 * 8 * n_predicted  # int64 classes: of blocks, and those of all rows
    return probes.peak_bytes(n_train, n_classes, n_channels, max(together, n_subsets)) + predicted
