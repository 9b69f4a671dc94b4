"""Where the data, weights and sets of an experiment are on this machine, and the rows of its data set.

Nothing here loads torch before a model is built, so that a command with nothing to compute starts quickly.
"""

import contextlib
import gc
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from pipeline.dataset_recipe import DatasetRecipe
from pipeline.datasets import DATASETS, open_dataset
from pipeline.datasets.contract import Dataset, Source
from pipeline.recipe import ModelRecipe, Recipe
from pipeline.rows.few_shot import choose_rows
from pipeline.rows.samples import Samples, make_samples, path_below
from pipeline.rows.sources import FileDigests
from pipeline.source_choice import ALL_SOURCES, SourceChoice
from stores import Store
from stores.errors import MissingError, UserError
from stores.specs import Size

if TYPE_CHECKING:
    from pipeline.models.contract import FrozenModel


@dataclass(frozen=True)
class Workspace:
    """Store, data and weights on this machine."""

    store: Store
    data: Path
    """The data root."""
    folder: Path
    """The experiment file's folder; paths of weights are relative to it."""
    own: "Mapping[str, FrozenModel]" = field(default_factory=dict)
    """Models that were passed in from Python, by name."""
    on_meta_device: bool = False
    """Build models on the meta device, without values of weights, for planning."""

    def model(self, recipe: ModelRecipe, size: Size) -> "FrozenModel":
        """Return a recipe's model for inputs of ``size`` pixels; raises UserError when it cannot be built."""
        from pipeline.models import build_model, build_on_meta, with_interpolation

        if recipe.name not in self.own:
            build = build_on_meta if self.on_meta_device else build_model
            return build(recipe, size, self.folder)
        model = self.own[recipe.name]
        if model.input not in (None, size):
            raise UserError(
                f"{recipe.name} was described for inputs of {model.input} pixels, not for {size}: describe it for the "
                "`input` of [frame], and remove views of other sizes"
            )
        return with_interpolation(model, recipe)


def find_folder(recipe: DatasetRecipe, data: Path) -> Path:
    """Return the folder of a data set: the recipe's, otherwise the first of its usual names that exists.

    Raises MissingError naming the folders that were tried, UserError for a folder outside of the data root.
    """
    usual = DATASETS[recipe.name].folders if recipe.name in DATASETS else (recipe.name,)
    tried = [path_below(data, folder) for folder in ([recipe.folder] if recipe.folder else usual)]
    found = next((folder for folder in tried if folder.is_dir()), None)
    if found is None and recipe.name in DATASETS:
        raise MissingError(
            f"there is no folder {' or '.join(map(str, tried))} for the data set {recipe.name}: set --data or "
            "PATCHBANK_DATA to the folder above it, or `folder` in [dataset]"
        )
    return found or tried[0]


def read_samples(
    recipe: Recipe, workspace: Workspace, choice: SourceChoice = ALL_SOURCES, *, remember: bool = True
) -> Samples:
    """Return the rows of a recipe in the clean view.

    Raises UserError or MissingError when the data do not match the layout.

    Args:
        recipe: The experiment's extraction settings.
        workspace: Store and data on this machine.
        choice: Source images to read.
        remember: Save the files' hashes in the store.
    """
    root = find_folder(recipe.dataset, workspace.data)
    dataset = open_dataset(recipe.dataset.name, root, recipe.dataset)
    keep_invalid = recipe.dataset.bad_samples == "keep-invalid"
    with _without_collection():
        chosen, chosen_tiles, left_out = _choose(dataset, recipe, choice, keep_invalid)
    digests = FileDigests(workspace.store, root)
    samples = make_samples(dataset, chosen, recipe.frame, digests, chosen_tiles, keep_invalid=keep_invalid)
    samples = replace(samples, left_out=left_out, licence=recipe.dataset.licence or samples.licence)
    if remember:
        digests.save()
    digests.release()
    return samples


@contextlib.contextmanager
def _without_collection() -> Iterator[None]:
    """Look for no circles of garbage: among a million new objects that takes seconds, and a list makes none."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _choose(
    dataset: Dataset, recipe: Recipe, choice: SourceChoice, keep_invalid: bool
) -> tuple[Iterator[Source], Mapping[str, Collection[tuple[int, int]]] | None, dict[str, str]]:
    """Return the chosen sources, held by nothing else, the tiles to keep of them, and why others were left out."""
    sources: Sequence[Source] = dataset.sources()
    chosen_tiles, left_out = None, {}
    if recipe.dataset.few_shot is not None:
        few = choose_rows(dataset, sources, recipe.frame, recipe.dataset.few_shot, keep_invalid=keep_invalid)
        sources, chosen_tiles, left_out = few.sources, few.tiles, few.left_out
    columns = {"source": "name", "group": "group", "split": "split"}
    table = pd.DataFrame({column: [getattr(one, name) for one in sources] for column, name in columns.items()})
    chosen = set(choice.choose(table))
    return iter([source for source in sources if source.name in chosen]), chosen_tiles, left_out
