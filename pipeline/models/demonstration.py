"""Key map of the demonstration backbones (demo/backbones): timm's own keys, beside MAE's decoder."""

from pipeline.models.loading.weights import Weights

REVISION = 1
"""Increased when the same recipe gives another model."""


def rename(weights: Weights) -> Weights:
    """Return the encoder's weights."""
    return {key: value for key, value in weights.items() if key != "mask_token" and not key.startswith("decoder_")}
