"""The same rows under a view: their sets, and which clean patch every patch shows."""

import numpy as np
from jaxtyping import Int32, Int64

from evaluate.inputs.model_sets import ModelSets, ViewSets
from stores.errors import MissingError, UserError
from stores.specs import LabelSpec

NOISE_ENERGY = "view/noise_energy"
"""Mean square of a noisy view's noise over each tile before clipping, in squared grey levels."""
CLIPPED_SHARE = "view/clipped_share"
"""Share, 0..1, of each tile's values that clipping changed."""


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

    ``array`` is a token array of both sets; patches count row by row from 0. Where pixels stay in place it is the
    patch itself. Raises MissingError when the correspondence was not made.
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


def upper_bound(found: Int32[np.ndarray, "sample patch"]) -> float:
    """Return the share of patches that have a corresponding one (paper A, section 3.3, the black line of Fig. 5)."""
    return float((found >= 0).mean())
