"""Outputs of a model's layers: patch tokens, their mean and deviation, and prefix tokens, normed or not.

Layers are counted from 0: layer ``l`` is the output of block ``l``, residual added. A normed layer is that output
through the model's *final* norm with its affine weights (DINO's ``get_intermediate_layers``; paper A, appendix A.1).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float

from pipeline.models.contract import FrozenModel, Layer
from pipeline.recipe import FeatureRecipe
from stores.errors import UserError
from stores.format.paths import DEVIATIONS, MEANS
from stores.specs import ArraySpec


def wanted(model: FrozenModel, features: FeatureRecipe, layers: Sequence[int], whole: Sequence[int]) -> list[ArraySpec]:
    """Return the arrays of some layers, inner ones first; raises UserError for a final norm that is not there.

    Args:
        model: The model.
        features: Arrays to keep.
        layers: Layers that are kept, increasing.
        whole: Those of which patch tokens are kept.
    """
    return [array for number in layers for array in _of_layer(model, number, features, number in whole)]


def _of_layer(model: FrozenModel, number: int, features: FeatureRecipe, is_whole: bool) -> list[ArraySpec]:
    """Return the arrays of one layer; ``is_whole`` keeps its patch tokens."""
    layer = model.layers[number]
    if layer.name.startswith("stage."):
        attributes: dict[str, Any] = {"layer": number, "norm": None}
        arrays = [_patch_tokens(layer, layer.name, features, attributes, own_axes=True)] if is_whole else []
        return arrays + _statistics(layer, layer.name, features, attributes, own_axes=True)
    norms = {"final": (True,), "none": (False,), "both": (False, True)}[features.norm]
    if True in norms and model.norm is None:
        raise UserError(f'{model.record.name} has no final norm: set norm = "none" in [features]')
    arrays = []
    for normed in norms:
        name = f"{layer.name}.norm" if normed else layer.name
        attributes = {"layer": number, "norm": normed}
        if is_whole:
            arrays.append(_patch_tokens(layer, name, features, attributes))
        if features.prefix and model.n_prefix:
            arrays.append(prefix_tokens(model, name, features, attributes))
        arrays += _statistics(layer, name, features, attributes)
    return arrays


def _patch_tokens(
    layer: Layer, name: str, features: FeatureRecipe, attributes: dict[str, Any], own_axes: bool = False
) -> ArraySpec:
    rows, columns = layer.grid
    # xarray refuses an axis name that has two sizes in a group, and the sizes of stages differ.
    patch, channel = (f"patch_{rows}x{columns}", f"channel_{layer.width}") if own_axes else ("patch", "channel")
    return ArraySpec(
        name=f"tokens/{name}",
        row_shape=(layer.n_patches, layer.width),
        dtype=features.store_dtype,
        dimension_names=("sample", patch, channel),
        attributes={**attributes, "grid_rows": rows, "grid_columns": columns},
    )


def _statistics(
    layer: Layer, name: str, features: FeatureRecipe, attributes: dict[str, Any], own_axes: bool = False
) -> list[ArraySpec]:
    """Return the arrays with one vector a row that are made of its patch tokens: their mean and deviation."""
    kept = [(MEANS, attributes)] if features.means else []
    kept += [(DEVIATIONS, {**attributes, "n_patches": layer.n_patches})] if features.deviations else []
    return [
        ArraySpec(
            name=f"{group}/{name}",
            row_shape=(layer.width,),
            dtype=features.store_dtype,
            dimension_names=("sample", f"channel_{layer.width}" if own_axes else "channel"),
            attributes=facts,
        )
        for group, facts in kept
    ]


def prefix_tokens(model: FrozenModel, name: str, features: FeatureRecipe, attributes: dict[str, Any]) -> ArraySpec:
    """Return the array of the prefix tokens under a name."""
    return ArraySpec(
        name=f"prefix/{name}",
        row_shape=(model.n_prefix, model.width),
        dtype=features.store_dtype,
        dimension_names=("sample", "prefix", "channel"),
        attributes=attributes,
    )


def cut(
    model: FrozenModel, kept: Mapping[int, Float[torch.Tensor, "sample token channel"]], arrays: Sequence[ArraySpec]
) -> dict[str, torch.Tensor]:
    """Return each array: prefix or patch tokens of its layer or what is made of these, normed if it says so."""
    stored: dict[str, torch.Tensor] = {}
    normed: dict[int, torch.Tensor] = {}
    split = model.n_prefix
    for array in arrays:
        layer = array.layer or 0
        tokens = kept[layer]
        if array.is_normed:
            if layer not in normed:
                assert model.norm is not None
                normed[layer] = model.norm(tokens)
            tokens = normed[layer]
        part = tokens[:, :split] if array.group == "prefix" else tokens[:, split:]
        if array.group == MEANS:
            part = part.mean(dim=1, dtype=torch.float32)
        elif array.group == DEVIATIONS:
            part = part.float().std(dim=1, correction=0)
        stored[array.name] = part.to(getattr(torch, array.dtype)).contiguous()
    return stored
