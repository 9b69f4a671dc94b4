"""Wraps a user's own `torch.nn.Module`, so that its layers can be extracted.

::

    model = own_model(net, name="my-net", layers=["encoder.3", "encoder.7"], input=224, n_prefix=1)
    sets = extract("photos.toml", model=model)

A layer is the output of a submodule, named as in ``net.named_modules()``: tokens ``(sample, token, channel)``, prefix
tokens first, or a map ``(sample, channel, row, column)`` or ``(sample, row, column, channel)``, of which every position
becomes a patch token. Which axis of a map holds the channels follows from the proportions of the input where only one
reading has them; otherwise ``layout`` has to say it.
"""

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
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

REVISION = 2
"""Increased when the same description gives other tokens."""

_CHANNELS_FIRST = (nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d, nn.InstanceNorm2d, nn.GroupNorm, nn.MaxPool2d)
"""Modules of torch whose maps have the channels first, whatever their shape."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True)
class OwnModel(FrozenModel):
    """A user's module, whose layers may differ in grid and width."""

    described: tuple[Layer, ...]
    submodules: tuple[nn.Module, ...]
    channels_last: tuple[bool, ...]
    """Whether each layer is a map with its channels in the last axis."""

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers in the order they were given."""
        return self.described

    @contextmanager
    def keeping(
        self,
        layers: Collection[int],
        visible: Int64[torch.Tensor, "sample visible"] | None = None,
        kept: dict[int, Any] | None = None,
    ) -> Iterator[Callable[[Pixels], dict[int, torch.Tensor]]]:
        """Yield a function that runs the module and returns the outputs of some layers, prefix tokens first."""
        assert visible is None, "wanted_arrays refuses masks for models without blocks"
        kept = {} if kept is None else kept

        def run(inputs: Pixels) -> dict[int, torch.Tensor]:
            self.module(inputs)
            found = {layer: _as_tokens(kept[layer], self.channels_last[layer]) for layer in layers}
            kept.clear()
            return found

        with ExitStack() as hooks:
            for layer in layers:
                hooks.callback(self.submodules[layer].register_forward_hook(partial(keep_output, kept, layer)).remove)
            yield run


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
    layout: str | None = None,
) -> FrozenModel:
    """Return a module of your own as a frozen model, so that its layers can be extracted.

    The module is put into evaluation mode and run once on zeros, in its own precision and on its own device, to learn
    the shapes of its outputs; an extraction moves it to its device and ``compute_dtype``. The digest of its features
    depends on ``name``, these settings and the state dict: give another name when the module's code changes.

    Raises UserError when the module cannot be run, when a submodule does not exist or is not run exactly once, when an
    output is neither tokens nor a map, when it cannot be told which axis of a map holds the channels, or when the
    patch tokens do not form a grid of the input's proportions.

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
        layout: Axis of the channels in maps, ``channels-first`` or ``channels-last``, for all layers; None tells it
            from the shapes, where they allow only one.
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
    if layout not in (None, "channels-first", "channels-last"):
        raise UserError(f'layout = {layout!r} is unknown: set "channels-first" or "channels-last"')
    outputs, calls = _run_on_zeros(module, submodules, name, size)
    repeated = [layer for layer, count in zip(layers, calls, strict=True) if count > 1]
    if repeated:
        raise UserError(
            f"{repeated[0]} of {name} is called several times by the module's forward, with other outputs each time: "
            "name a submodule that is called once"
        )
    last = tuple(
        isinstance(output, torch.Tensor)
        and output.ndim == 4
        and not isinstance(submodule, _CHANNELS_FIRST)
        and _is_channels_last(f"{layer} of {name}", tuple(output.shape), size, layout)
        for layer, submodule, output in zip(layers, submodules, outputs, strict=True)
    )
    described = tuple(
        _layer(name, layer, number, output, n_prefix, size, last[number])
        for number, (layer, output) in enumerate(zip(layers, outputs, strict=True))
    )
    arguments: dict[str, Any] = {"layers": ",".join(layers), "norm": norm or "", "n_prefix": n_prefix}
    if any(last):
        arguments["channels_last"] = ",".join(layer for layer, is_last in zip(layers, last, strict=True) if is_last)
    record = ModelRecord(
        name=name,
        family="own",
        revision=REVISION,
        arguments=arguments,
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
        channels_last=last,
        input=size,
    )


def _run_on_zeros(
    module: nn.Module, submodules: Sequence[nn.Module], name: str, size: Size
) -> tuple[list[Any], list[int]]:
    """Return the submodules' outputs for one input of zeros in the module's own precision and device, and the calls."""
    own = next((value for value in module.parameters() if value.is_floating_point()), torch.empty(0))
    try:
        with torch.inference_mode():
            inputs = torch.zeros(1, 3, size.height, size.width, dtype=own.dtype, device=own.device)
            return _outputs(module, submodules, inputs)
    except (RuntimeError, TypeError, ValueError, AssertionError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{name} cannot be run on an input of {size} pixels ({reason}): check `input`") from error


def _outputs(module: nn.Module, submodules: Sequence[nn.Module], inputs: torch.Tensor) -> tuple[list[Any], list[int]]:
    """Return the outputs of some submodules, None for those that do not run, and how often each is called."""
    kept: dict[int, Any] = {}
    calls: Counter[int] = Counter()

    def keep(number: int, *arguments: Any) -> None:
        calls[number] += 1
        keep_output(kept, number, *arguments)

    with ExitStack() as hooks:
        for number, submodule in enumerate(submodules):
            hooks.callback(submodule.register_forward_hook(partial(keep, number)).remove)
        module(inputs)
    numbers = range(len(submodules))
    return [kept.get(number) for number in numbers], [calls[number] for number in numbers]


def _is_channels_last(where: str, shape: tuple[int, ...], size: Size, layout: str | None) -> bool:
    """Return whether a map's channels are its last axis; raises UserError where its shape allows both or neither."""
    if layout is not None:
        return layout == "channels-last"
    first, last = _has_proportions(shape[2:], size), _has_proportions(shape[1:3], size)
    if first == last:
        raise UserError(
            f"{where} gives {shape}, and which axis holds the channels cannot be told for inputs of {size} pixels: set "
            'layout = "channels-first" or "channels-last" in own_model'
        )
    return last


def _has_proportions(grid: Sequence[int], size: Size) -> bool:
    """Return whether rows and columns are those of an input that is divided alike along both axes, up to rounding."""
    rows, columns = grid
    if size.height == size.width:
        return rows == columns <= size.height
    difference = abs(rows * size.width - columns * size.height)
    return rows <= size.height and columns <= size.width and difference < max(size.height, size.width)


def _as_tokens(output: torch.Tensor, channels_last: bool) -> Float[torch.Tensor, "sample token channel"]:
    if output.ndim != 4:
        return output
    return output.flatten(1, 2) if channels_last else output.flatten(2).transpose(1, 2)


def _layer(name: str, layer: str, number: int, output: Any, n_prefix: int, size: Size, channels_last: bool) -> Layer:
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
        rows, columns = output.shape[1:3] if channels_last else output.shape[2:]
        return Layer(f"stage.{number}", (rows, columns), output.shape[3 if channels_last else 1])
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
