"""Key map of MAE (facebookresearch/mae): the pretrained encoder, and the one fine-tuned with average pooling.

The keys are timm's own. Pretrained files may contain the decoder and its mask token, fine-tuned ones the classifier:
neither is part of the encoder. A fine-tuned model has no norm over tokens: ``fc_norm`` follows the pooling.
"""

from pipeline.models.loading.weights import Weights, without_prefix

REVISION = 1
"""Increased when the same recipe gives another model."""


def rename(weights: Weights) -> Weights:
    """Return official weights under timm's names."""
    return without_prefix(weights, "module.")
