"""Key map of MoCo v3 (facebookresearch/moco-v3): the base encoder, which was trained by gradients.

Training checkpoints keep it as ``module.base_encoder.``, beside the momentum encoder and the predictor; its fixed
sin-cos position embedding is stored with it. Its ViT-S has 12 heads, twice timm's.
"""

from pipeline.models.loading.weights import Weights, without_prefix

REVISION = 1
"""Increased when the same recipe gives another model."""


def rename(weights: Weights) -> Weights:
    """Return official weights under timm's names."""
    return without_prefix(without_prefix(weights, "module."), "base_encoder.")
