"""DINO (facebookresearch/dino): backbone files, and full checkpoints, of which the teacher is taken.

The backbone's keys are timm's own; full checkpoints put ``module.`` and ``backbone.`` before them.
"""

from pipeline.models.loading.weights import Weights, without_prefix

REVISION = 1
"""Raised when the same recipe gives another model."""


def rename(weights: Weights) -> Weights:
    """Return official weights under timm's names."""
    return without_prefix(without_prefix(weights, "module."), "backbone.")
