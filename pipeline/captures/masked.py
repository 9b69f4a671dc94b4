"""A second pass over the visible patches of a masked input, as MAE's encoder makes it, beside the plain pass."""

from collections.abc import Sequence
from typing import Any

import torch
from timm.models.vision_transformer import VisionTransformer

from pipeline.captures.layer_tokens import cut, prefix_tokens
from pipeline.models.contract import FrozenModel, Pixels
from pipeline.recipe import FeatureRecipe
from pipeline.rows import masking
from pipeline.rows.masking import TileId
from stores.errors import UserError
from stores.specs import ArraySpec


def wanted(model: FrozenModel, features: FeatureRecipe) -> list[ArraySpec]:
    """Return the arrays of a masked capture; their names and attributes contain ratio and seed.

    Raises UserError for a model that cannot run on a part of its patches.
    """
    mask = features.masked
    if mask is None:
        return []
    if not isinstance(model.module, VisionTransformer) or model.norm is None:
        raise UserError(
            f"{model.record.name} cannot run on a part of its patches (it is no plain ViT, or has no final norm): "
            "remove `masked` from [features] or use an MAE"
        )
    last = len(model.layers) - 1
    rows, columns = model.grid
    n_visible = masking.n_visible(model.n_patches, mask.ratio)
    title = f"mask{100 * mask.ratio:g}.seed{mask.seed}"
    name = f"{title}.{model.layers[last].name}.norm"
    attributes: dict[str, Any] = {
        "mask_ratio": mask.ratio,
        "mask_seed": mask.seed,
        "mask_revision": masking.REVISION,
        "layer": last,
        "norm": True,
    }
    grid = {"grid_rows": rows, "grid_columns": columns}
    ids = ArraySpec(
        name=f"visible/{title}.ids",
        row_shape=(n_visible,),
        dtype="int32",
        dimension_names=("sample", f"visible_{n_visible}"),
        attributes={**attributes, **grid, "layer": None, "norm": None},
    )
    tokens = ArraySpec(
        name=f"visible/{name}",
        row_shape=(n_visible, model.width),
        dtype=features.store_dtype,
        dimension_names=("sample", f"visible_{n_visible}", "channel"),
        attributes={**attributes, **grid},
    )
    prefix = [prefix_tokens(model, name, features, attributes)] if model.n_prefix else []
    return [ids, tokens, *prefix]


def run(
    model: FrozenModel,
    inputs: Pixels,
    arrays: Sequence[ArraySpec],
    tile_ids: Sequence[TileId],
    ratio: float,
    seed: int,
) -> dict[str, torch.Tensor]:
    """Return the arrays of a batch of masked inputs.

    Args:
        model: The model.
        inputs: Normalised inputs.
        arrays: Arrays of this mask.
        tile_ids: What the choice of patches depends on, for each input.
        ratio: Share of patches that are masked.
        seed: Seed of the choice.
    """
    ids = torch.from_numpy(masking.visible_ids(tile_ids, model.n_patches, ratio, seed)).to(inputs.device)
    of_ids = [array for array in arrays if array.layer is None]
    of_tokens = [array for array in arrays if array.layer is not None]
    stored = {array.name: ids.to(getattr(torch, array.dtype)) for array in of_ids}
    if of_tokens:
        layers = sorted({array.layer or 0 for array in of_tokens})
        stored |= cut(model, model.tokens(inputs, layers, ids), of_tokens)
    return stored


def mask_of(array: ArraySpec) -> tuple[float, int] | None:
    """Return ratio and seed of a masked array, None for any other."""
    ratio = array.attributes.get("mask_ratio")
    return None if ratio is None else (float(ratio), int(array.attributes["mask_seed"] or 0))
