"""Key map of SimMIM (microsoft/SimMIM): BEiT's blocks with one shared relative position bias, no position embedding.

Pretraining files prefix the encoder with ``encoder.``; the decoder is one convolution. Index tables of the bias are
computed, not loaded.
"""

from pipeline.models.loading.position import without_index_tables
from pipeline.models.loading.weights import Weights, without_prefix

REVISION = 1
"""Increased when the same recipe gives another model."""


def rename(weights: Weights) -> Weights:
    """Return official weights under timm's names."""
    return without_index_tables(without_prefix(without_prefix(weights, "module."), "encoder."))
