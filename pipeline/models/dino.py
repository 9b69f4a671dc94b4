"""Key map of DINO (facebookresearch/dino): backbone files, and full checkpoints, of which the teacher is taken.

The backbone's keys are timm's own; full checkpoints prefix them with ``module.`` and ``backbone.``.
"""

from pipeline.models.loading.weights import Weights, without_prefix

REVISION = 1
"""Increased when the same recipe gives another model."""


def rename(weights: Weights) -> Weights:
    """Return official weights under timm's names."""
    return without_prefix(without_prefix(weights, "module."), "backbone.")
