"""Builds known models: timm's architecture with weights as the authors' own code saved them."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.models.contract import FrozenModel
from pipeline.models.known import KNOWN
from pipeline.models.loading.arguments import check_arguments
from pipeline.models.loading.position import Mode, fit_positions
from pipeline.models.loading.weights import Weights, load_strictly, random_weights
from pipeline.models.loading.wrappings import choose_weights, read_checkpoint
from pipeline.models.timm_vit import check_patch_size, create, download, freeze
from pipeline.recipe import ModelRecipe
from pipeline.shipped_weights import weights_path
from stores.errors import UserError
from stores.specs import Size


@dataclass(frozen=True)
class KeyMap:
    """Maps one family's official weights to timm's key names."""

    revision: int
    """Revision of the family, part of every digest of its models."""
    rename: Callable[[Weights], Weights]
    """Takes weights under the authors' key names, wrappers removed, and returns them under timm's."""


def build_known(recipe: ModelRecipe, size: Size, folder: Path, *, key_map: KeyMap) -> FrozenModel:
    """Return the frozen encoder of a recipe whose name is in KNOWN.

    Raises MissingError or UserError when the weights cannot be obtained, do not fit, or cannot be brought to ``size``.

    Args:
        recipe: The model as the experiment names it.
        size: Size of the model's inputs, in pixels.
        folder: Folder to which a relative path of weights refers.
        key_map: The family's key map.
    """
    known = KNOWN[recipe.name]
    check_arguments(known.architecture, recipe.arguments, recipe.name)
    mode: Mode = recipe.position_embedding or known.position_embedding
    arguments = {**known.arguments, **recipe.arguments}
    position = "native"
    if recipe.weights == "pretrained":
        if known.tag is None:
            if known.shipped:
                raise UserError(f'the weights of {known.name} come with Patchbank: set weights = "shipped"')
            raise UserError(
                f"timm has no weights of {known.name}: download {known.file} from {known.source} and set `weights` "
                "to its path"
            )
        module, position = download(known.tag, recipe, arguments, size, mode == "hub")
        return freeze(recipe, module, known.family, key_map.revision, position, known)
    if recipe.weights == "random":
        module = create(known.architecture, recipe.name, arguments, size)
        random_weights(module, recipe.seed)
        return freeze(recipe, module, known.family, key_map.revision, position, known)
    path = weights_path(recipe, folder)
    given = read_checkpoint(path)  # before the module is allocated
    module = create(known.architecture, recipe.name, arguments, size)
    chosen = choose_weights(given, recipe, module.state_dict().keys(), key_map.rename)
    check_patch_size(chosen.weights, module, path, recipe.name)
    weights, position = fit_positions(chosen.weights, module, mode, recipe)
    load_strictly(module, weights, path, recipe.name)
    model = freeze(recipe, module, known.family, key_map.revision, position, known)
    return replace(model, origin=chosen.origin)
