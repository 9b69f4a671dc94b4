"""Key map of DINOv2 (facebookresearch/dinov2), with and without registers.

Training checkpoints wrap the teacher, prefix its keys with ``backbone.`` and group the blocks into chunks
(``blocks.0.7.``). With registers, timm has no position entry for the class token: it is added to the token.
"""

import re

from pipeline.models.loading.weights import Weights, without_prefix

REVISION = 1
"""Increased when the same recipe gives another model."""


def rename(weights: Weights) -> Weights:
    """Return official weights under timm's names."""
    weights = without_prefix(without_prefix(weights, "module."), "backbone.")
    weights = {re.sub(r"^blocks\.\d+\.(\d+)\.", r"blocks.\1.", key): value for key, value in weights.items()}
    if "register_tokens" in weights and {"pos_embed", "cls_token"} <= weights.keys():
        positions = weights["pos_embed"]
        weights["reg_token"] = weights.pop("register_tokens")
        weights["cls_token"] = weights["cls_token"] + positions[:, :1]
        weights["pos_embed"] = positions[:, 1:]
    weights.pop("mask_token", None)
    return weights
