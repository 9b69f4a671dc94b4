"""Extracts feature sets from Python, as `patchbank extract` does, also of a module of your own.

::

    from pipeline.library import extract
    from pipeline.models.own_module import own_model

    model = own_model(net, name="my-net", layers=["encoder.3"], input=224)
    sets = extract({"dataset": {"name": "folder", "folder": "photos"}, "frame": {"input": 224}}, model=model)
"""

import dataclasses
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pipeline.extraction.compute import choose_compute
from pipeline.extraction.options import ExtractOptions
from pipeline.extraction.run import extract_recipe
from pipeline.models.contract import FrozenModel
from pipeline.recipe import OWN, Recipe
from pipeline.workspace import Workspace
from stores import Store, ZarrSet
from stores.errors import MissingError, UserError

OF_ANALYSES = ("selection", "analyses", "seed", "claims")
"""Keys of an experiment that concern `evaluate` only."""


def extract(
    experiment: Path | str | Mapping[str, Any],
    *,
    model: FrozenModel | None = None,
    data: Path | str = "data",
    store: Path | str = "store",
    device: str | None = None,
    batch_size: int | None = None,
    workers: int | None = None,
) -> list[ZarrSet]:
    """Extract what is missing of an experiment and return its sealed feature sets, one per model and view.

    Tables of the analyses are ignored: all images of the data set are extracted, whichever the analyses choose. An
    experiment file whose ``[[models]]`` names the model with ``weights = "own"`` can then be evaluated by `patchbank
    evaluate` like any other. Raises UserError and MissingError as the command does.

    Args:
        experiment: A file or its tables: ``dataset``, ``frame``, ``models`` (unless ``model`` is given), and optionally
            ``features``, ``views`` and ``storage``; tables for `evaluate` may be there too.
        model: Replaces the experiment's models; from `pipeline.models.own_module.own_model` or
            `pipeline.models.build_model`.
        data: The data root.
        store: Folder or URL of the store.
        device: cpu, cuda, cuda:1, ...; None uses a GPU if there is one.
        batch_size: Images per forward pass; by default 16 on a CPU, 128 on a GPU.
        workers: Threads that decode images; by default all cores but two, at least two.
    """
    tables, folder = _tables(experiment)
    if model is not None:
        titles = {one.get("name"): one for one in tables.get("models", ()) if isinstance(one, Mapping)}
        mine = {**titles.get(model.record.name, {}), "name": model.record.name, "weights": OWN}
        tables["models"] = [mine]
    try:
        recipe = Recipe.model_validate(tables)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"])
        raise UserError(f"{where} of the experiment: {problem['msg'][0].lower()}{problem['msg'][1:]}") from error
    workspace = Workspace(Store(store), Path(data), folder)
    if model is not None:
        workspace = dataclasses.replace(workspace, own={model.record.name: model})
    options = ExtractOptions() if workers is None else ExtractOptions(workers=workers)
    report = extract_recipe(recipe, workspace, choose_compute(device, batch_size), options)
    return [outcome.set for outcome in report.outcomes]


def _tables(experiment: Path | str | Mapping[str, Any]) -> tuple[dict[str, Any], Path]:
    """Return the tables of extraction settings, and the folder to which paths of weights are relative."""
    if isinstance(experiment, Mapping):
        return {key: value for key, value in experiment.items() if key not in OF_ANALYSES}, Path()
    path = Path(experiment)
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise MissingError(f"there is no experiment file {path}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise UserError(f"{path} is not readable as TOML: {error}") from error
    return {key: value for key, value in found.items() if key not in OF_ANALYSES}, path.parent
