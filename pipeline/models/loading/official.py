"""Known models: timm's architecture, weights as the authors' own code saved them."""

from collections.abc import Callable
from pathlib import Path

from pipeline.models.contract import FrozenModel
from pipeline.models.known import KNOWN
from pipeline.models.loading.position import Mode, fit_positions
from pipeline.models.loading.weights import Weights, load_strictly, random_weights, read_checkpoint
from pipeline.models.timm_vit import create, download, freeze, refuse_other_patches
from pipeline.recipe import ModelRecipe
from stores.errors import UserError
from stores.specs import Size

Rename = Callable[[Weights], Weights]
"""Takes weights as the authors name them, wrappers removed, and returns them as timm names them."""


def build_known(recipe: ModelRecipe, size: Size, folder: Path, revision: int, rename: Rename) -> FrozenModel:
    """Return the frozen model of a recipe whose name is in KNOWN.

    Raises MissingError or UserError when its weights are not to be had, do not fit, or cannot be brought to ``size``.
    """
    known = KNOWN[recipe.name]
    mode: Mode = recipe.position_embedding or known.position_embedding
    arguments = {**known.arguments, **recipe.arguments}
    position = "native"
    if recipe.weights == "pretrained":
        if known.tag is None:
            raise UserError(
                f"timm has no weights of {known.name}: get {known.file} from {known.source} and set `weights` to its "
                "path"
            )
        module, position = download(known.tag, recipe, arguments, size, mode == "hub")
        return freeze(recipe, module, known.family, revision, position, known)
    if recipe.weights == "random":
        module = create(known.architecture, recipe.name, arguments, size)
        random_weights(module, recipe.seed)
    else:
        path = folder / Path(recipe.weights).expanduser()
        weights = rename(read_checkpoint(path, prefixes=()))  # first: without them there is nothing to build
        module = create(known.architecture, recipe.name, arguments, size)
        refuse_other_patches(weights, module, path, recipe.name)
        weights, position = fit_positions(weights, module, mode, recipe)
        load_strictly(module, weights, path, recipe.name)
    return freeze(recipe, module, known.family, revision, position, known)
