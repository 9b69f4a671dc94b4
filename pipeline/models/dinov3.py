"""Key map of DINOv3 (facebookresearch/dinov3): rotary positions, computed for every grid; four registers.

The distilled models' biases of queries, keys and values are zero, and timm's plain architecture has none.
"""

import torch

from pipeline.models.loading.weights import Weights, without_prefix
from stores.errors import UserError

REVISION = 1
"""Increased when the same recipe gives another model."""

_COMPUTED = ("rope_embed.", "mask_token", "local_cls_norm.")


def rename(weights: Weights) -> Weights:
    """Return official weights under timm's names; raises UserError when a bias that timm leaves out is not zero."""
    renamed: Weights = {}
    for key, value in without_prefix(without_prefix(weights, "module."), "backbone.").items():
        if key.startswith(_COMPUTED) or key.endswith(".bias_mask"):
            continue
        if key.endswith("attn.qkv.bias"):
            query, _, values = value.chunk(3)  # the part of the keys is masked in the official code
            if bool(torch.count_nonzero(query)) or bool(torch.count_nonzero(values)):
                raise UserError(
                    f"{key} is not zero, as it is in the distilled models: name timm's architecture with biases, "
                    "such as vit_base_patch16_dinov3_qkvb"
                )
            continue
        key = key.replace("storage_tokens", "reg_token")
        renamed[key.replace("ls1.gamma", "gamma_1").replace("ls2.gamma", "gamma_2")] = value
    return renamed
