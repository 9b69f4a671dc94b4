"""Capturing every wanted layer in one forward pass, without touching the pass itself.

Forward hooks keep each block's output; the model's own fused kernels stay in use, so the tokens are those of a
plain forward. Layers are counted from 0: layer ``l`` is the output of block ``l``, residual added. A normed layer
is that output through the model's *final* norm with its affine weights (DINO's ``get_intermediate_layers``; paper A,
appendix A.1).
"""

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import torch
from jaxtyping import Float
from torch import nn

from pipeline.models.contract import FrozenModel
from pipeline.recipe import FeatureRecipe
from stores.errors import UserError
from stores.specs import ArraySpec

REVISION = 1
"""Raised when the same model and pixels give other stored values."""


def wanted_arrays(model: FrozenModel, features: FeatureRecipe) -> tuple[ArraySpec, ...]:
    """Return the arrays a recipe asks of a model, inner layers first; raises UserError for layers it lacks."""
    n_layers = len(model.blocks)
    if features.layers == "all":
        layers = list(range(n_layers))
    else:
        layers = sorted({layer % n_layers if -n_layers <= layer < n_layers else layer for layer in features.layers})
        if layers and not 0 <= layers[0] <= layers[-1] < n_layers:
            raise UserError(
                f"{model.record.name} has {n_layers} blocks, numbered 0 to {n_layers - 1}, and no block {layers[-1]}: "
                "change `layers` in [features]"
            )
    norms = {"final": (True,), "none": (False,), "both": (False, True)}[features.norm]
    if True in norms and model.norm is None:
        raise UserError(f'{model.record.name} has no final norm: set norm = "none" in [features]')
    rows, columns = model.grid
    arrays = []
    for layer in layers:
        for normed in norms:
            name = f"block.{layer}.norm" if normed else f"block.{layer}"
            facts: dict[str, Any] = {"layer": layer, "norm": normed}
            arrays.append(
                ArraySpec(
                    name=f"tokens/{name}",
                    row_shape=(model.n_patches, model.width),
                    dtype=features.store_dtype,
                    dimension_names=("sample", "patch", "channel"),
                    attributes={**facts, "grid_rows": rows, "grid_columns": columns},
                )
            )
            if features.prefix and model.n_prefix:
                arrays.append(
                    ArraySpec(
                        name=f"prefix/{name}",
                        row_shape=(model.n_prefix, model.width),
                        dtype=features.store_dtype,
                        dimension_names=("sample", "prefix", "channel"),
                        attributes=facts,
                    )
                )
    return tuple(arrays)


class Capture:
    """Runs a model and returns the wanted arrays of a batch, on the model's device, in the store's dtype."""

    def __init__(self, model: FrozenModel, arrays: Sequence[ArraySpec], compute_dtype: str) -> None:
        self.model = model
        self.arrays = tuple(arrays)
        self.compute_dtype: torch.dtype = getattr(torch, compute_dtype)
        self.layers = sorted({int(array.attributes["layer"] or 0) for array in arrays})

    def __call__(
        self, pixels: Float[torch.Tensor, "sample height width 3"]
    ) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """Return the arrays by address, and the sum of each in order.

        A sum that is finite proves that every value is; the caller looks closer where it is not, so that a GPU need
        not wait for the question. ``pixels`` are RGB values 0..255 as float32.
        """
        kept: dict[int, torch.Tensor] = {}

        def keep(layer: int) -> Any:
            def hook(module: nn.Module, inputs: Any, output: Any) -> None:
                kept[layer] = output[0] if isinstance(output, tuple) else output

            return hook

        with ExitStack() as hooks, torch.inference_mode():
            for layer in self.layers:
                hooks.callback(self.model.blocks[layer].register_forward_hook(keep(layer)).remove)
            self.model.forward(self.model.normalise(pixels).to(self.compute_dtype))
            stored: dict[str, torch.Tensor] = {}
            normed: dict[int, torch.Tensor] = {}
            sums = []
            for array in self.arrays:
                layer = int(array.attributes["layer"] or 0)
                tokens = kept[layer]
                if array.attributes["norm"]:
                    if layer not in normed:
                        assert self.model.norm is not None
                        normed[layer] = self.model.norm(tokens)
                    tokens = normed[layer]
                split = self.model.n_prefix
                part = tokens[:, :split] if array.name.startswith("prefix/") else tokens[:, split:]
                values = part.to(getattr(torch, array.dtype)).contiguous()
                sums.append(values.sum(dtype=torch.float32))
                stored[array.name] = values
            return stored, torch.stack(sums)
