"""The one shape of all backbones: a timm vision transformer that the ordinary model path loads."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import nn

from pipeline.models.loading.sin_cos import sin_cos_table
from pipeline.models.timm_vit import create
from pipeline.recipe import ModelRecipe
from stores.specs import Size

ARCHITECTURE = "vit_tiny_patch16_224"
ARGUMENTS: dict[str, str | int | float | bool] = {"patch_size": 8, "embed_dim": 128, "num_heads": 4, "depth": 6}
"""Patches of 8 px, 6 blocks, width 128, 4 heads: 1.2 million parameters."""
PIXELS, PATCH, WIDTH, GRID = 112, 8, 128, 14

Tokens = Float[torch.Tensor, "sample token channel"]


def recipe_of(weights: str, title: str | None = None) -> ModelRecipe:
    """Return what an experiment's [[models]] says to load a trained backbone, or ``random`` weights of its shape."""
    return ModelRecipe(name=ARCHITECTURE, arguments=dict(ARGUMENTS), weights=weights, title=title)


def new_encoder(seed: int, *, fixed_positions: bool = False) -> Any:
    """Return a module with timm's initial weights and MAE's table of positions, which is trained unless fixed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = create(
            ARCHITECTURE, ARCHITECTURE, {**ARGUMENTS, "dynamic_img_size": True}, Size(height=PIXELS, width=PIXELS)
        )
    module.pos_embed.data = sin_cos_table(WIDTH, (GRID, GRID), torch.ones(1))
    module.pos_embed.requires_grad_(not fixed_positions)
    return module


def embed(module: Any, images: Float[torch.Tensor, "sample 3 row column"]) -> Tokens:
    """Return the class token and the embedded patches with their positions."""
    embedded: torch.Tensor = module._pos_embed(module.patch_embed(images))
    return embedded


def encode(module: Any, tokens: Tokens) -> Tokens:
    """Return the last block's tokens after the final norm."""
    encoded: torch.Tensor = module.norm(module.blocks(tokens))
    return encoded


def parameter_groups(parts: list[nn.Module], weight_decay: float) -> list[dict[str, Any]]:
    """Return the trained parameters for AdamW; vectors, tokens and positions are not decayed."""
    named = [(name, value) for part in parts for name, value in part.named_parameters() if value.requires_grad]
    kept = ("pos_embed", "cls_token", "mask_token", "masked")
    free = [value for name, value in named if value.ndim < 2 or name.split(".")[-1] in kept]
    decayed = [value for name, value in named if value.ndim >= 2 and name.split(".")[-1] not in kept]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": free, "weight_decay": 0.0}]


@torch.no_grad()
def follow(averaged: Sequence[nn.Module], trained: Sequence[nn.Module], momentum: float, done: float) -> None:
    """Move averaged modules a little towards the trained ones, in place.

    Args:
        averaged: Modules that follow.
        trained: Modules of the same parameters, in the same order.
        momentum: Share that is kept at the start; it grows to 1 along a cosine.
        done: Share of the training that is done, 0..1.
    """
    kept_share = 1 - (1 - momentum) * (math.cos(math.pi * done) + 1) / 2
    for mine, own in zip(averaged, trained, strict=True):
        for kept, new in zip(mine.parameters(), own.parameters(), strict=True):
            kept.lerp_(new, 1 - kept_share)
