"""Captures the outputs of all wanted layers in one forward pass, with hooks that leave the pass unchanged.

Forward hooks, set by `FrozenModel.keeping`, keep each block's output; the model's own fused kernels stay in use, so the
tokens are those of a plain forward. Layers are counted from 0: layer ``l`` is the output of block ``l``, residual
added. A normed layer is that output through the model's *final* norm with its affine weights (DINO's
``get_intermediate_layers``; paper A, appendix A.1). A masked capture is a second pass over the visible patches; it
does not change the first.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from timm.models.vision_transformer import VisionTransformer

from pipeline.extraction.model_pass.precision import autocast, module_dtype
from pipeline.models.contract import FrozenModel, Layer, normalised
from pipeline.recipe import FeatureRecipe, Layers, MaskRecipe
from pipeline.rows import masking
from pipeline.rows.masking import TileId
from stores.errors import UserError
from stores.format.paths import DEVIATIONS, MEANS
from stores.specs import ArraySpec

REVISION = 1
"""Increased when the same model and pixels give other stored values."""


def wanted_arrays(model: FrozenModel, features: FeatureRecipe) -> tuple[ArraySpec, ...]:
    """Return the arrays a recipe keeps of a model, inner layers first; raises UserError for layers it lacks."""
    whole = [] if features.tokens == "none" else _numbers(model, features.tokens, "tokens")
    arrays = [
        array
        for number in _numbers(model, features.layers, "layers")
        for array in _of_layer(model, number, features, number in whole)
    ]
    if features.masked is not None:
        arrays += _masked(model, features, features.masked)
    if not arrays:
        raise UserError(
            f"nothing is kept of {model.record.name}: `tokens` in [features] names none of the layers and the model "
            "has no prefix tokens to keep; change `tokens`, or set means = true"
        )
    return tuple(arrays)


def _numbers(model: FrozenModel, wanted: Layers, key: str) -> list[int]:
    """Return the layers that a key of [features] names, increasing; raises UserError for those the model lacks."""
    n_layers = len(model.layers)
    if wanted == "all":
        return list(range(n_layers))
    numbers = sorted({layer % n_layers if -n_layers <= layer < n_layers else layer for layer in wanted})
    if numbers and not 0 <= numbers[0] <= numbers[-1] < n_layers:
        wrong = next(number for number in numbers if not 0 <= number < n_layers)
        kind = model.layers[0].name.partition(".")[0]
        raise UserError(
            f"{model.record.name} has {n_layers} {kind}s, numbered 0 to {n_layers - 1}, and no {kind} {wrong}: "
            f"change `{key}` in [features]"
        )
    return numbers


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
            arrays.append(_prefix_tokens(model, name, features, attributes))
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


def _prefix_tokens(model: FrozenModel, name: str, features: FeatureRecipe, attributes: dict[str, Any]) -> ArraySpec:
    return ArraySpec(
        name=f"prefix/{name}",
        row_shape=(model.n_prefix, model.width),
        dtype=features.store_dtype,
        dimension_names=("sample", "prefix", "channel"),
        attributes=attributes,
    )


def _masked(model: FrozenModel, features: FeatureRecipe, mask: MaskRecipe) -> list[ArraySpec]:
    """Return the arrays of a masked capture; their names and attributes contain ratio and seed."""
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
    prefix = [_prefix_tokens(model, name, features, attributes)] if model.n_prefix else []
    return [ids, tokens, *prefix]


class Capture:
    """Runs a model and returns the wanted arrays of a batch, on the model's device, in the store's dtype."""

    def __init__(self, model: FrozenModel, arrays: Sequence[ArraySpec], precision: str) -> None:
        self.model = model
        self.arrays = tuple(arrays)
        self.precision = precision
        self._passes: dict[tuple[float, int] | None, list[ArraySpec]] = {}
        for array in self.arrays:
            self._passes.setdefault(_mask_of(array), []).append(array)
        self._compiled: Callable[..., dict[str, torch.Tensor]] | None = None

    def __call__(
        self, pixels: Float[torch.Tensor, "sample height width 3"], tile_ids: Sequence[TileId] = ()
    ) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """Return the arrays by address, and the sum of each in order.

        A finite sum proves that every value is finite. The caller checks the sums later, so that a GPU is not
        synchronised here. ``pixels`` are RGB values 0..255 as float32; ``tile_ids`` are needed for masked arrays only.
        """
        with torch.inference_mode(), autocast(self.precision, pixels.device.type):
            constants = self.model.constants(pixels.device)
            stored: dict[str, torch.Tensor] = {}
            for mask, arrays in self._passes.items():
                if mask is not None:
                    stored |= self._masked(self._inputs(pixels, *constants), arrays, tile_ids, *mask)
                elif self._compiled is None:
                    with self.model.keeping(_layers(arrays)) as run:
                        stored |= self._full(run, arrays, pixels, *constants)
                else:
                    stored |= self._compiled(arrays, pixels, *constants)
            return stored, torch.stack([stored[array.name].sum(dtype=torch.float32) for array in self.arrays])

    @contextmanager
    def compiled(self) -> Iterator[None]:
        """Compile the pass into one function (normalise, blocks, norms, cast) for this block; masked ones run as usual.

        Raises UserError, from the pass, where PyTorch cannot compile it.
        """
        arrays = self._passes.get(None, [])
        kept: dict[int, torch.Tensor] = {}
        with self.model.keeping(_layers(arrays), kept=kept) as run:
            step = torch.compile(partial(self._full, run), dynamic=False)

            def compiled(*arguments: Any) -> dict[str, torch.Tensor]:
                kept.clear()  # of a masked pass: the compiled function is made for an empty one
                try:
                    return step(*arguments)
                except torch._dynamo.exc.TorchDynamoException as error:
                    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
                    raise UserError(
                        f"{self.model.record.name} cannot be compiled on this machine ({reason}): set compile = false "
                        "in [features]"
                    ) from error

            self._compiled = compiled
            try:
                yield
            finally:
                self._compiled = None
                torch.compiler.reset()  # what is compiled counts towards a limit, beyond which nothing is any more

    def _inputs(self, pixels: torch.Tensor, mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
        return normalised(pixels, mean, std).to(module_dtype(self.precision))

    def _full(
        self,
        run: Callable[[torch.Tensor], dict[int, torch.Tensor]],
        arrays: Sequence[ArraySpec],
        pixels: torch.Tensor,
        mean: torch.Tensor,
        std: torch.Tensor,
    ) -> dict[str, torch.Tensor]:
        return self._cut(run(self._inputs(pixels, mean, std)), arrays)

    def _masked(
        self, inputs: torch.Tensor, arrays: Sequence[ArraySpec], tile_ids: Sequence[TileId], ratio: float, seed: int
    ) -> dict[str, torch.Tensor]:
        ids = torch.from_numpy(masking.visible_ids(tile_ids, self.model.n_patches, ratio, seed)).to(inputs.device)
        of_ids = [array for array in arrays if array.layer is None]
        of_tokens = [array for array in arrays if array.layer is not None]
        stored = {array.name: ids.to(getattr(torch, array.dtype)) for array in of_ids}
        if of_tokens:
            stored |= self._cut(self.model.tokens(inputs, _layers(of_tokens), ids), of_tokens)
        return stored

    def _cut(self, kept: dict[int, torch.Tensor], arrays: Sequence[ArraySpec]) -> dict[str, torch.Tensor]:
        """Return each array: prefix or patch tokens of its layer or what is made of these, normed if it says so."""
        stored: dict[str, torch.Tensor] = {}
        normed: dict[int, torch.Tensor] = {}
        split = self.model.n_prefix
        for array in arrays:
            layer = array.layer or 0
            tokens = kept[layer]
            if array.is_normed:
                if layer not in normed:
                    assert self.model.norm is not None
                    normed[layer] = self.model.norm(tokens)
                tokens = normed[layer]
            part = tokens[:, :split] if array.group == "prefix" else tokens[:, split:]
            if array.group == MEANS:
                part = part.mean(dim=1, dtype=torch.float32)
            elif array.group == DEVIATIONS:
                part = part.float().std(dim=1, correction=0)
            stored[array.name] = part.to(getattr(torch, array.dtype)).contiguous()
        return stored


def _layers(arrays: Sequence[ArraySpec]) -> list[int]:
    """Return the layers of some arrays, every one once."""
    return sorted({array.layer or 0 for array in arrays})


def _mask_of(array: ArraySpec) -> tuple[float, int] | None:
    """Return ratio and seed of a masked array, None for any other."""
    ratio = array.attributes.get("mask_ratio")
    return None if ratio is None else (float(ratio), int(array.attributes["mask_seed"] or 0))
