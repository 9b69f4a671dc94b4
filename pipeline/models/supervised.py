"""Key map of torchvision's supervised ViT-B/16 (`vit_b_16`, IMAGENET1K_V1), paper A's supervised model.

timm's architecture computes the same; the key map is below. Files saved before torchvision 0.13 call the layers of
the perceptron ``linear_1`` and ``linear_2``.
"""

import re

from pipeline.models.loading.weights import Weights, without_prefix

REVISION = 1
"""Increased when the same recipe gives another model."""

_NAMES = (
    (r"^class_token$", "cls_token"),
    (r"^conv_proj\.", "patch_embed.proj."),
    (r"^encoder\.pos_embedding$", "pos_embed"),
    (r"^encoder\.ln\.", "norm."),
    (r"^encoder\.layers\.encoder_layer_(\d+)\.", r"blocks.\1."),
    (r"\.ln_([12])\.", r".norm\1."),
    (r"\.self_attention\.in_proj_(weight|bias)$", r".attn.qkv.\1"),
    (r"\.self_attention\.out_proj\.", ".attn.proj."),
    (r"\.mlp\.(0|linear_1)\.", ".mlp.fc1."),
    (r"\.mlp\.(3|linear_2)\.", ".mlp.fc2."),
)
"""Patterns of torchvision's names, with timm's."""


def rename(weights: Weights) -> Weights:
    """Return official weights under timm's names."""
    renamed: Weights = {}
    for key, value in without_prefix(weights, "module.").items():
        for pattern, name in _NAMES:
            key = re.sub(pattern, name, key)
        renamed[key] = value
    return renamed
