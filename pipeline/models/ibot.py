"""Key map of iBOT (bytedance/ibot): DINO's architecture; the embedding of masked patches is not used.

Backbone files wrap the weights in ``state_dict``, full checkpoints in ``teacher`` and ``student`` (the teacher is
taken), with ``module.`` and ``backbone.`` before the keys.
"""

from pipeline.models.loading.weights import Weights, without_prefix

REVISION = 1
"""Increased when the same recipe gives another model."""


def rename(weights: Weights) -> Weights:
    """Return official weights under timm's names."""
    weights = without_prefix(without_prefix(weights, "module."), "backbone.")
    return {key: value for key, value in weights.items() if key != "masked_embed"}
