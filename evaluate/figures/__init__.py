"""Figures: one file each, listed in one table."""

from collections.abc import Callable
from typing import NamedTuple

import pandas as pd
from matplotlib.figure import Figure

from evaluate.figures import label_maps, layer_curve, removal_curve, train_size, variance_spectrum
from evaluate.results import Answer


class FigureEntry(NamedTuple):
    """A figure with the words that go with it."""

    name: str
    title: str
    caption: str
    draw: Callable[[pd.DataFrame, list[tuple[str, Answer]]], Figure | None]
    """Takes the long table and (model, answer) pairs; None when there is nothing to show."""


FIGURES = (
    FigureEntry(
        "variance-spectrum",
        "Variance of the features",
        "The variance of every feature over the training patches, largest first. A few features far above a long tail "
        "are what masked-image models are known for; a nearly level line is what contrastive and supervised ones show.",
        variance_spectrum.figure,
    ),
    FigureEntry(
        "removal-curve",
        "Removing the features that vary most",
        "mIoU of patches without the m features of highest variance. Where these ruin distances, nearest neighbours "
        "recover as m grows while the probe stays level. Bands are 95 % bootstrap intervals over images.",
        removal_curve.figure,
    ),
    FigureEntry(
        "layer-curve",
        "Layer by layer",
        "mIoU of patches from each layer's tokens, through the final norm. Bands are 95 % bootstrap intervals over "
        "images.",
        layer_curve.figure,
    ),
    FigureEntry(
        "train-size",
        "More training images",
        "mIoU of patches against the number of training images; smaller choices are part of larger ones.",
        train_size.figure,
    ),
    FigureEntry(
        "label-maps",
        "Predicted classes",
        "Validation images patch by patch: the true class of each patch, then the predicted ones. Grey is void.",
        label_maps.figure,
    ),
)
"""Every figure of a report, in order."""
