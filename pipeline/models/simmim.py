"""SimMIM's ViT (microsoft/SimMIM): BEiT's blocks, one relative position bias shared by all, no position embedding.

Pretraining files keep the encoder below ``encoder.``; the decoder is one convolution. Index tables of the bias are
computed, not loaded.
"""

from pipeline.models.loading.position import without_index_tables
from pipeline.models.loading.weights import Weights, without_prefix

REVISION = 1
"""Raised when the same recipe gives another model."""


def rename(weights: Weights) -> Weights:
    """Return official weights under timm's names."""
    return without_index_tables(without_prefix(without_prefix(weights, "module."), "encoder."))
