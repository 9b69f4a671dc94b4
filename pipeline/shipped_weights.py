"""The files of weights that recipes name: those that come with the project by the model's name, others by path."""

from pathlib import Path

from pipeline.recipe import ModelRecipe
from stores.errors import UserError

SHIPPED = Path(__file__).parent / "models" / "shipped"
"""Folder of the weights that come with the project, ``<name>.safetensors`` each."""


def weights_path(recipe: ModelRecipe, folder: Path) -> Path:
    """Return the file that a recipe's weights name: a shipped one, or a path relative to ``folder``.

    Raises UserError for ``shipped`` of a model whose weights do not come with the project.
    """
    if recipe.weights != "shipped":
        return folder / Path(recipe.weights).expanduser()
    names = sorted(path.stem for path in SHIPPED.glob("*.safetensors"))
    if recipe.name not in names:
        raise UserError(
            f'{recipe.name} has weights = "shipped" and does not come with Patchbank: these do: {", ".join(names)}'
        )
    return SHIPPED / f"{recipe.name}.safetensors"
