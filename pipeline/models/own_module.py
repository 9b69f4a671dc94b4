"""Wraps a user's own `torch.nn.Module`, so that its layers can be extracted.

::

    model = own_model(net, name="my-net", layers=["encoder.3", "encoder.7"], input=224, n_prefix=1)
    sets = extract("photos.toml", model=model)

A layer is the output of a submodule, named as in ``net.named_modules()``: tokens ``(sample, token, channel)``, prefix
tokens first, or a map ``(sample, channel, row, column)``, of which every position becomes a patch token.
"""

import math
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import nn

from pipeline.models.contract import FrozenModel, Layer, Pixels, keep_output
from pipeline.models.loading.weights import weights_digest
from stores.errors import UserError
from stores.specs import ModelRecord, Size

REVISION = 1
"""Increased when the same description gives other tokens."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True)
class OwnModel(FrozenModel):
    """A user's module, whose layers may differ in grid and width."""

    described: tuple[Layer, ...]
    submodules: tuple[nn.Module, ...]

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers in the order they were given."""
        return self.described

    def tokens(
        self,
        inputs: Pixels,
        layers: Collection[int],
        visible: Int64[torch.Tensor, "sample visible"] | None = None,
    ) -> dict[int, Float[torch.Tensor, "sample token channel"]]:
        """Run the module once and return the outputs of some layers, prefix tokens first."""
        assert visible is None, "wanted_arrays refuses masks for models without blocks"
        kept = _outputs(self.module, [self.submodules[layer] for layer in layers], inputs)
        return {layer: _as_tokens(output) for layer, output in zip(layers, kept, strict=True)}


def own_model(
    module: nn.Module,
    *,
    name: str,
    layers: Sequence[str],
    input: Size | int,
    n_prefix: int = 0,
    norm: str | None = None,
    mean: tuple[float, float, float] = IMAGENET_MEAN,
    std: tuple[float, float, float] = IMAGENET_STD,
    interpolation: str = "bicubic",
    licence: str = "not stated",
) -> FrozenModel:
    """Return a module of your own as a frozen model, so that its layers can be extracted.

    The module is put into evaluation mode and run once on zeros to learn the shapes of its outputs. The digest of its
    features depends on ``name``, these settings and the state dict: give another name when the module's code changes.

    Raises UserError when a submodule does not exist or is not run, when an output is neither tokens nor a map, or when
    the patch tokens do not form a grid of the input's proportions.

    Args:
        module: The module to run; it takes normalised pixels (sample, 3, height, width).
        name: Name of the model, part of its digest.
        layers: Names of the submodules whose outputs are the layers, as in ``module.named_modules()``.
        input: Size of an input in pixels, the experiment's ``[frame] input``.
        n_prefix: Number of tokens before the patch tokens.
        norm: Name of the submodule that is the final norm, if any.
        mean: Mean of red, green and blue in 0..1 that pixels are normalised with.
        std: Standard deviation of the same.
        interpolation: How images are resized: bicubic, bilinear, lanczos, nearest or box.
        licence: Terms of use of the weights, in one line.
    """
    size = Size(height=input, width=input) if isinstance(input, int) else input
    module.eval().requires_grad_(False)
    parts = dict(module.named_modules())
    unknown = [part for part in (*layers, *([norm] if norm else [])) if part not in parts]
    if unknown or not layers:
        known = ", ".join(part for part in parts if part) or "none"
        what = f"{name} has no submodule {unknown[0]!r}" if unknown else f"no layer of {name} is named"
        raise UserError(f"{what}: it has {known}"[:600])
    submodules = tuple(parts[layer] for layer in layers)
    with torch.inference_mode():
        outputs = _outputs(module, submodules, torch.zeros(1, 3, size.height, size.width))
    described = tuple(
        _layer(name, layer, number, output, n_prefix, size)
        for number, (layer, output) in enumerate(zip(layers, outputs, strict=True))
    )
    record = ModelRecord(
        name=name,
        family="own",
        revision=REVISION,
        arguments={"layers": ",".join(layers), "norm": norm or "", "n_prefix": n_prefix},
        weights=weights_digest(module),
        position_embedding="native",
        mean=mean,
        std=std,
        interpolation=interpolation,  # type: ignore[arg-type]
    )
    return OwnModel(
        record=record,
        module=module,
        forward=module.forward,
        blocks=(),
        norm=parts[norm] if norm else None,
        n_prefix=n_prefix,
        grid=described[-1].grid,
        width=described[-1].width,
        licence=licence,
        described=described,
        submodules=submodules,
        input=size,
    )


def _outputs(module: nn.Module, submodules: Sequence[nn.Module], inputs: torch.Tensor) -> list[Any]:
    kept: dict[int, Any] = {}
    with ExitStack() as hooks:
        for number, submodule in enumerate(submodules):
            hooks.callback(submodule.register_forward_hook(partial(keep_output, kept, number)).remove)
        module(inputs)
    return [kept.get(number) for number in range(len(submodules))]


def _as_tokens(output: torch.Tensor) -> Float[torch.Tensor, "sample token channel"]:
    return output.flatten(2).transpose(1, 2) if output.ndim == 4 else output


def _layer(name: str, layer: str, number: int, output: Any, n_prefix: int, size: Size) -> Layer:
    where = f"{layer} of {name}"
    if output is None:
        raise UserError(f"{where} is not called by the module's forward: name a submodule that is")
    if not isinstance(output, torch.Tensor) or output.ndim not in (3, 4):
        shape = tuple(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
        raise UserError(
            f"{where} gives {shape}: name a submodule that gives tokens (sample, token, channel) or a map "
            "(sample, channel, row, column)"
        )
    if output.ndim == 4:
        if n_prefix:
            raise UserError(f"{where} gives a map, which has no prefix tokens: set n_prefix = 0")
        return Layer(f"stage.{number}", (output.shape[2], output.shape[3]), output.shape[1])
    n_patches = output.shape[1] - n_prefix
    rows = round(math.sqrt(max(n_patches, 0) * size.height / size.width))
    if (
        rows < 1
        or n_patches % rows
        or abs(rows * size.width - n_patches // rows * size.height) > max(size.height, size.width)
    ):
        raise UserError(
            f"{where} gives {output.shape[1]} tokens, which with n_prefix = {n_prefix} form no grid for inputs of "
            f"{size} pixels: check n_prefix and input"
        )
    return Layer(f"block.{number}", (rows, n_patches // rows), output.shape[2])
