"""MAE (facebookresearch/mae): the pretrained encoder, and the one fine-tuned with average pooling.

The keys are timm's own. Pretrained files may hold the decoder and its mask token, fine-tuned ones the classifier:
neither is part of the encoder. A fine-tuned model has no norm over tokens: ``fc_norm`` follows the pooling.
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
    return without_prefix(weights, "module.")
