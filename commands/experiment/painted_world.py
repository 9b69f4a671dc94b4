"""The painted world that an experiment names as its data folder, where it is missing."""

from pathlib import Path
from typing import TYPE_CHECKING

from commands.terminal.output import say
from stores.errors import MissingError

if TYPE_CHECKING:
    from pipeline.recipe import Recipe


def paint_missing_world(recipe: "Recipe", data: Path) -> None:
    """Paint the experiment's world if it is one of the demo's and missing.

    Raises UserError where it cannot be written.
    """
    from demo.worlds import is_missing, paint

    folder = recipe.dataset.folder
    if folder is not None and is_missing(folder, data):
        say(f"painting {folder}")
        paint(folder, data)


def check_world_is_painted(recipe: "Recipe", data: Path, experiment: Path) -> None:
    """Raise MissingError for a painted world that is missing, for commands that write nothing below the data root."""
    from demo.worlds import is_missing

    folder = recipe.dataset.folder
    if folder is not None and is_missing(folder, data):
        raise MissingError(
            f"the painted world {folder} is not below {data} yet: run `patchbank extract {experiment}`, which paints it"
        )
