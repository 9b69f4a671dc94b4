"""Rows under a view: which views an analysis reads, and which clean patch every patch shows."""

from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Int32, Int64

from evaluate.inputs.model_sets import ModelSets, ViewSets
from stores.errors import MissingError, UserError
from stores.specs import LabelSpec


def selected_views(model: ModelSets, names: Sequence[str] | None, analysis: str) -> list[tuple[str, float]]:
    """Return name and level of the views with these names, or of all; raises UserError for a name that is none."""
    known = {name for name, _ in model.views}
    for name in names or ():
        if name not in known:
            raise UserError(f"{analysis} has the view {name}, which [[views]] does not list: add it there")
    return [view for view in model.views if names is None or view[0] in names]


def view_inputs(model: ModelSets, array: str, views: Iterable[tuple[str, float]], norm: str) -> dict[str, str]:
    """Return the content digests of a token array under views; raises MissingError where one lacks it.

    Args:
        model: stored sets of the model.
        array: address of the token array.
        views: names and levels of the views.
        norm: ``final`` or ``none``, as in the settings.
    """
    contents = {}
    for name, level in views:
        viewed = model.for_view(name, level)
        viewed.arrays((viewed.layer(array),), norm)
        contents[f"{name} {level:g} {array}"] = viewed.features.content[array]
    return contents


def check_rows(model: ModelSets, viewed: ViewSets) -> None:
    """Raise UserError unless a view's sets hold the same data and rows, in the same order, as the clean ones."""
    clean, spec = model.spec, viewed.spec
    assert isinstance(viewed.labels.spec, LabelSpec)
    same = (
        {clean.dataset, spec.dataset, viewed.labels.spec.dataset} == {clean.dataset}
        and {clean.samples, spec.samples, viewed.labels.spec.samples} == {clean.samples}
        and clean.model.name == spec.model.name
        and list(viewed.labels.samples["sample"]) == list(model.samples["sample"])
        and list(viewed.features.samples["sample"]) == list(model.samples["sample"])
    )
    if not same:
        raise UserError(
            f"{model.title} under {viewed.name} {viewed.level:g} holds other rows than the clean view: run "
            f"`{model.extract_command}`"
        )


def correspondence(
    model: ModelSets, viewed: ViewSets, array: str, rows: Int64[np.ndarray, " row"]
) -> Int32[np.ndarray, "sample patch"]:
    """Return, for every patch under a view, the patch of the same row's clean tile that holds its centre; -1 for none.

    Patches count row by row from 0. Where pixels stay in place it is the patch itself. Raises MissingError when the
    correspondence was not made.

    Args:
        model: stored sets of the model.
        viewed: its sets under the view.
        array: address of a token array of both.
        rows: rows to read.
    """
    both = (viewed.features.arrays[array].attributes, model.features.arrays[array].attributes)
    grids = [f"{facts['grid_rows']}x{facts['grid_columns']}" for facts in both]
    if not viewed.moves_labels:
        n_patches = model.features.arrays[array].row_shape[0]
        return np.broadcast_to(np.arange(n_patches, dtype=np.int32), (len(rows), n_patches))
    name = f"correspondence/{grids[0]}" + ("" if grids[0] == grids[1] else f"-of-{grids[1]}")
    if not viewed.labels.sealed(name):
        raise MissingError(
            f"{name} is not complete in label set {viewed.labels.digest[:12]}: run `{model.extract_command}`"
        )
    return viewed.labels[name][rows]
