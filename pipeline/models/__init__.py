"""Models: one file a family, listed in one table."""

from collections.abc import Callable
from pathlib import Path

from pipeline.models import timm_vit
from pipeline.models.contract import FrozenModel
from pipeline.recipe import ModelRecipe
from stores.specs import Size

FAMILIES: dict[str, Callable[[ModelRecipe, Size, Path], FrozenModel]] = {"timm": timm_vit.build}
"""Every family by name; a name without a family's prefix is timm's."""


def build_model(recipe: ModelRecipe, size: Size, folder: Path) -> FrozenModel:
    """Return the frozen model of a recipe for inputs of ``size``; relative weights lie below ``folder``."""
    return FAMILIES["timm"](recipe, size, folder)
