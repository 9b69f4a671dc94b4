"""MoCo v3 (facebookresearch/moco-v3): of its two encoders the one that gradients trained.

Training checkpoints keep it as ``module.base_encoder.``, beside the momentum encoder and the predictor; its fixed
sin-cos position embedding is stored with it. Its ViT-S has 12 heads, twice timm's.
"""

from pathlib import Path

from pipeline.models.contract import FrozenModel
from pipeline.models.loading.official import build_known
from pipeline.models.loading.weights import Weights, without_prefix
from pipeline.recipe import ModelRecipe
from stores.specs import Size

REVISION = 1
"""Raised when the same recipe gives another model."""


def build(recipe: ModelRecipe, size: Size, folder: Path) -> FrozenModel:
    """Return the frozen encoder of a recipe; see `official.build_known`."""
    return build_known(recipe, size, folder, REVISION, rename)


def rename(weights: Weights) -> Weights:
    """Return official weights under timm's names."""
    return without_prefix(without_prefix(weights, "module."), "base_encoder.")
