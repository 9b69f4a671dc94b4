"""Points inside a transformer's blocks at which tensors are read while the model runs.

A point is a tensor of one block: what enters it, the output of a sub-layer, the sum after the attention, the call of
the attention kernel. Hooks read them and change nothing: the pass computes with its own fused kernels, and what it puts
out has the same bytes. Query and key are those that the kernel gets, after their norms, rotary position embedding and
with the bias for relative positions, so that no model's attention is written a second time here.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import nn
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode

from pipeline.models.contract import FrozenModel
from stores.errors import UserError

OUTPUT = "output"
"""Output of a block, both residuals added, or of a stage."""
EMBEDDING = "embedding"
"""Input of the first block: patch embedding with position embedding and prefix tokens."""
INPUT = "input"
"""Input of a block."""
RESIDUAL = "attention-residual"
"""Sum after the attention, which enters the block's second norm."""
KERNEL = "kernel"
"""The call of the attention kernel, as an `AttentionCall`."""

_SUBMODULES = {
    "norm1": ("norm1",),
    "attention": ("attn",),
    "ls1": ("ls1", "layer_scale1"),
    RESIDUAL: ("norm2",),
    "norm2": ("norm2",),
    "mlp": ("mlp",),
    "ls2": ("ls2", "layer_scale2"),
}
"""Names of the submodule of a block whose output is a point; of the second norm it is also the input."""


class Point(NamedTuple):
    """One tensor of one block."""

    layer: int
    """Block or stage, counted from 0."""
    part: str

    @property
    def name(self) -> str:
        """Name in addresses of arrays: ``block.3``, ``block.3.mlp`` or ``embedding``."""
        if self.part == EMBEDDING:
            return EMBEDDING
        return f"block.{self.layer}" + ("" if self.part == OUTPUT else f".{self.part}")

    @property
    def depth(self) -> float:
        """Blocks that were passed: 0 for the embedding, 0.5 after the first attention, 1 after the first block."""
        return {EMBEDDING: 0.0, INPUT: float(self.layer), OUTPUT: self.layer + 1.0}.get(self.part, self.layer + 0.5)


@dataclass(frozen=True)
class AttentionCall:
    """Arguments and output of one call of the attention kernel."""

    query: Float[torch.Tensor, "sample head token head_channel"]
    key: Float[torch.Tensor, "sample head token head_channel"]
    value: Float[torch.Tensor, "sample head token head_channel"]
    output: Float[torch.Tensor, "sample head token head_channel"]
    """Output of every head, before they are joined and projected."""
    bias: Float[torch.Tensor, "..."] | None
    """What is added to the products before the softmax, broadcast to ``sample head token token``."""
    scale: float
    """Factor of the products of query and key."""


Take = Callable[[Any], None]
"""Called with the tensor of a point, or the `AttentionCall`; it must not change it."""


def points_of(model: FrozenModel, layers: Sequence[int], parts: Sequence[str], key: str) -> list[Point]:
    """Return the points of some layers, from the input on; raises UserError for a model that lacks one.

    Args:
        model: The model.
        layers: Blocks or stages, increasing.
        parts: Parts of a block; ``embedding`` is taken once.
        key: The key of [features] that names the parts, for the message.
    """
    points = [Point(0, EMBEDDING)] if EMBEDDING in parts else []
    in_order = ("norm1", KERNEL, "attention", "ls1", RESIDUAL, "norm2", "mlp", "ls2", OUTPUT)
    points += [Point(layer, part) for layer in layers for part in in_order if part in parts]
    for point in points:
        if point.part != OUTPUT:
            _check(model, point, key)
    return points


def _check(model: FrozenModel, point: Point, key: str) -> None:
    is_layered = len(model.blocks) == len(model.layers) and all(one.name.startswith("block.") for one in model.layers)
    if not is_layered:
        what = "attention" if point.part == KERNEL else f'"{point.part}"'
        own = {"capture_points": 'capture_points = ["output"]', "sublayers": "sublayers = []"}
        instead = f"`{own[key]}`" if key in own else "`captures` with those it has"
        raise UserError(
            f"{model.record.name} has no transformer blocks to read {what} in: take it out of `{key}` in [features], "
            f"or write {instead} into its [[models]] table"
        )
    if point.part in _SUBMODULES and _submodule(model.blocks[point.layer], point.part) is None:
        known = [part for part in _SUBMODULES if _submodule(model.blocks[point.layer], part) is not None]
        here = f"it has {', '.join(known)}" if known else "its blocks have none of the parts that can be read"
        raise UserError(
            f'block {point.layer} of {model.record.name} has no "{point.part}" ({here}): change `{key}` in [features]'
        )


def _submodule(block: nn.Module, part: str) -> nn.Module | None:
    """Return the submodule of a block that a part is read at; a layer scale that does nothing is none."""
    found = next((getattr(block, name) for name in _SUBMODULES[part] if hasattr(block, name)), None)
    is_there = isinstance(found, nn.Module) and not (part.startswith("ls") and isinstance(found, nn.Identity))
    return found if is_there else None


@contextmanager
def watching(model: FrozenModel, takes: Mapping[Point, Sequence[Take]]) -> Iterator[None]:
    """Call what takes a point whenever the model reaches it, for this block; block outputs are not among them.

    Raises UserError, from the pass, for a model whose attention does not go through PyTorch's kernel.

    Args:
        model: The model, which runs inside the block.
        takes: Functions by point, called in order.
    """
    with ExitStack() as hooks:
        kernels: dict[int, Sequence[Take]] = {}
        for point, wanted in takes.items():
            block = model.blocks[point.layer]
            if point.part == KERNEL:
                kernels[point.layer] = wanted
            elif point.part in (INPUT, EMBEDDING):
                hooks.callback(block.register_forward_pre_hook(partial(_first_input, wanted)).remove)
            elif point.part == RESIDUAL:
                norm = _submodule(block, point.part)
                assert norm is not None
                hooks.callback(norm.register_forward_pre_hook(partial(_first_input, wanted)).remove)
            else:
                module = _submodule(block, point.part)
                assert module is not None
                hooks.callback(module.register_forward_hook(partial(_output, wanted)).remove)
        if kernels:
            mode = _KernelCalls(model.record.name, kernels)
            for layer in kernels:
                block = model.blocks[layer]
                hooks.callback(block.register_forward_pre_hook(partial(mode.enter, layer)).remove)
                hooks.callback(block.register_forward_hook(partial(mode.leave, layer)).remove)
            hooks.enter_context(mode)
        yield


def _first_input(takes: Sequence[Take], module: nn.Module, inputs: tuple[Any, ...]) -> None:
    for take in takes:
        take(inputs[0])


def _output(takes: Sequence[Take], module: nn.Module, inputs: Any, output: Any) -> None:
    for take in takes:
        take(output[0] if isinstance(output, tuple) else output)


class _KernelCalls(TorchFunctionMode):
    """Passes the calls of the attention kernel inside of blocks on, once they are computed as they are."""

    def __init__(self, name: str, takes: Mapping[int, Sequence[Take]]) -> None:
        super().__init__()
        self.name = name
        self.takes = takes
        self.layer: int | None = None
        self.n_calls = 0

    def enter(self, layer: int, module: nn.Module, inputs: Any) -> None:
        """Note that a block begins."""
        self.layer, self.n_calls = layer, 0

    def leave(self, layer: int, module: nn.Module, inputs: Any, output: Any) -> None:
        """Note that a block ends; raises UserError unless the kernel was called once in it."""
        self.layer = None
        if self.n_calls != 1:
            found = "does not call" if self.n_calls == 0 else f"calls {self.n_calls} times"
            raise UserError(
                f"block {layer} of {self.name} {found} torch.nn.functional.scaled_dot_product_attention, where "
                "attention is read, once a block: take attention out of `captures` and `sublayers` in [features]"
            )

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func is scaled_dot_product_attention and self.layer is not None:
            self.n_calls += 1
            call = self._call(args, kwargs or {}, result)
            for take in self.takes[self.layer]:
                take(call)
        return result

    def _call(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: torch.Tensor) -> AttentionCall:
        names = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")
        given = {**dict(zip(names, args, strict=False)), **kwargs}
        query, key, mask = given["query"], given["key"], given.get("attn_mask")
        if given.get("is_causal") or (mask is not None and not mask.is_floating_point()) or query.shape != key.shape:
            raise UserError(
                f"the attention of {self.name} is masked, or its heads share keys, and its statistics are not known "
                "here: take attention out of `captures` and `sublayers` in [features]"
            )
        scale = given.get("scale")
        return AttentionCall(
            query, key, given["value"], output, mask, query.shape[-1] ** -0.5 if scale is None else float(scale)
        )
