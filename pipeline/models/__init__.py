"""Builds models: one file a family, listed in one table."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from pipeline.models import (
    beit,
    demonstration,
    dino,
    dinov2,
    dinov3,
    ibot,
    mae,
    mocov3,
    scale_mae,
    simmim,
    stages,
    supervised,
    timm_vit,
)
from pipeline.models.contract import FrozenModel
from pipeline.models.known import KNOWN
from pipeline.models.loading.meta_device import SkipInitialisation
from pipeline.models.official import KeyMap, build_known
from pipeline.recipe import OWN, ModelRecipe
from stores.errors import UserError
from stores.specs import Size

KNOWN_FAMILIES: dict[str, KeyMap] = {
    "mae": KeyMap(mae.REVISION, mae.rename),
    "dino": KeyMap(dino.REVISION, dino.rename),
    "dinov2": KeyMap(dinov2.REVISION, dinov2.rename),
    "dinov3": KeyMap(dinov3.REVISION, dinov3.rename),
    "supervised": KeyMap(supervised.REVISION, supervised.rename),
    "simmim": KeyMap(simmim.REVISION, simmim.rename),
    "ibot": KeyMap(ibot.REVISION, ibot.rename),
    "mocov3": KeyMap(mocov3.REVISION, mocov3.rename),
    "beit": KeyMap(beit.REVISION, beit.rename),
    "demonstration": KeyMap(demonstration.REVISION, demonstration.rename),
}
"""Families that timm builds and whose official weights need a key map; names are file names and enter digests."""

FAMILIES: dict[str, Callable[[ModelRecipe, Size, Path], FrozenModel]] = {
    "timm": timm_vit.build,
    "stages": stages.build,
    "scale_mae": scale_mae.build,
    **{name: partial(build_known, key_map=key_map) for name, key_map in KNOWN_FAMILIES.items()},
}
"""How to build a model of every family."""


def family_of(name: str) -> str:
    """Return the family that builds a model of this name; names that no other family has are timm's."""
    if name in KNOWN:
        return KNOWN[name].family
    if name.startswith("scalemae"):
        return "scale_mae"
    return "stages" if stages.has_stages(name) else "timm"


def build_model(recipe: ModelRecipe, size: Size, folder: Path) -> FrozenModel:
    """Return the frozen model of a recipe for inputs of ``size`` pixels; paths of weights are relative to ``folder``.

    Raises UserError for models that cannot be built, and for a user's own: these are passed in from Python.
    """
    if recipe.weights == OWN:
        raise UserError(
            f'{recipe.name} has weights = "own": extract it from Python with pipeline.library.extract '
            "(docs/library.md), then `patchbank evaluate` finds it"
        )
    model = FAMILIES[family_of(recipe.name)](recipe, size, folder)
    return with_interpolation(replace(model, licence=_licence(recipe, model.licence)), recipe)


def with_interpolation(model: FrozenModel, recipe: ModelRecipe) -> FrozenModel:
    """Return a model whose images are resized with the recipe's filter, or with its own where the recipe has none."""
    if recipe.interpolation is None:
        return model
    return replace(model, record=model.record.model_copy(update={"interpolation": recipe.interpolation}))


def _licence(recipe: ModelRecipe, official: str) -> str:
    """Return the terms of use of a recipe's weights; ``official`` are those of the name's official weights."""
    if recipe.licence is not None:
        return recipe.licence
    if recipe.weights == "random":
        return "none: random weights"
    # A file under a known name is the official one; under another name its origin is not known.
    return official if recipe.weights == "pretrained" or recipe.name in KNOWN else "not stated"


def build_on_meta(recipe: ModelRecipe, size: Size, folder: Path) -> FrozenModel:
    """Return the model of a recipe on the meta device: it has shapes without values and cannot be run.

    Its weights digest covers names and shapes only, so no real model has it. Raises UserError as `build_model` does,
    except for missing weights.
    """
    untrained = recipe.model_copy(update={"weights": "random"})
    with torch.device("meta"), SkipInitialisation():
        return build_model(untrained, size, folder)
