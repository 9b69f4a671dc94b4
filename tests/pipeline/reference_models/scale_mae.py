"""Scale-MAE's encoder in plain torch: MAE's, with a position table for every sample's ground resolution.

Written from arXiv 2212.14532 and the key names of bair-climate-initiative/scale-mae; no timm and nothing of ours.
"""

import torch

from tests.pipeline.reference_models import mae


def random_weights(width=24, depth=3, patch=8, seed=0):
    """A state dict with the names of scalemae-vitlarge-800.pth, with the parts that are no encoder."""
    weights = mae.random_weights(width, depth, patch, seed=seed)
    del weights["decoder_pred.weight"], weights["decoder_pred.bias"]
    return weights | {
        "mask_token_decoder": torch.randn(1, 1, 16),
        "fpn.do_ln1.weight": torch.randn(16),
        "fcn_high.convs.0.weight": torch.randn(4, 16, 1, 1),
        "fcn_low.bias": torch.randn(4),
    }


def encode(weights, images, heads, resolutions):
    """Return every block's output and the normed last one, patches in grid order."""
    width, patch = weights["cls_token"].shape[2], weights["patch_embed.proj.weight"].shape[3]
    grid = (images.shape[2] // patch, images.shape[3] // patch)
    tables = torch.stack([mae.sin_cos_table(width, *grid, scale=float(one)) for one in resolutions])
    return mae.encode(weights, images, heads, table=tables)
