"""DINO (facebookresearch/dino): backbone files, and full checkpoints, of which the teacher is taken.

The backbone's keys are timm's own; full checkpoints put ``module.`` and ``backbone.`` before them.
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
    return without_prefix(without_prefix(weights, "module."), "backbone.")
