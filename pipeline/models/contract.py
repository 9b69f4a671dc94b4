"""The frozen model that the pipeline runs: its module, layers, normalisation and record."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import nn

from stores.specs import ModelRecord, Size

Pixels = Float[torch.Tensor, "sample 3 height width"]
"""Normalised model inputs."""


@dataclass(frozen=True)
class Layer:
    """Name, patch grid and width of one layer's output."""

    name: str
    """The name of its array, ``block.3`` or ``stage.3``."""
    grid: tuple[int, int]
    """Rows and columns of patches."""
    width: int
    """Channels of a token."""

    @property
    def n_patches(self) -> int:
        """Patch tokens of one input."""
        return self.grid[0] * self.grid[1]


@dataclass(frozen=True)
class FrozenModel:
    """A module in evaluation mode, with its parts by name.

    ``forward`` runs it on normalised pixels; ``blocks[l]``'s output is layer ``l``: prefix tokens first, then patch
    tokens row by row. ``norm`` is the final norm or None. Models whose layers differ in width or grid are a subclass
    (pipeline/models/stages.py) with other `layers` and `keeping`.
    """

    record: ModelRecord
    module: nn.Module
    forward: Callable[[Pixels], object]
    blocks: Sequence[nn.Module]
    norm: nn.Module | None
    n_prefix: int
    grid: tuple[int, int]
    """Rows and columns of patches."""
    width: int
    """Channels of a token."""
    licence: str
    notes: tuple[str, ...] = ()
    """What users of the features must know about this model, one sentence each."""
    input: Size | None = None
    """The one input size it was described for; None for models that are built for any size."""
    origin: Mapping[str, str] = field(default_factory=dict)
    """Where weights from a file come from: its name and sha256, and the prefix of the keys that were read."""

    @property
    def n_patches(self) -> int:
        """Patch tokens of one input."""
        return self.grid[0] * self.grid[1]

    @property
    def layers(self) -> tuple[Layer, ...]:
        """Every layer, counted from 0."""
        return tuple(Layer(f"block.{number}", self.grid, self.width) for number in range(len(self.blocks)))

    def normalise(self, pixels: Float[torch.Tensor, "sample height width 3"]) -> Pixels:
        """Return model inputs from RGB values 0..255: divided by 255, then normalised by mean and std."""
        return normalised(pixels, *self.constants(pixels.device))

    def constants(self, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """Return mean and std on a device, made once: making them waits for a GPU to finish all it was given."""
        return _constant(self.record.mean, device), _constant(self.record.std, device)

    def tokens(
        self,
        inputs: Pixels,
        layers: Collection[int],
        visible: Int64[torch.Tensor, "sample visible"] | None = None,
    ) -> dict[int, Float[torch.Tensor, "sample token channel"]]:
        """Run the model once and return the outputs of some layers, prefix tokens first.

        With ``visible`` the blocks process the prefix tokens and these patches only, in this order, as MAE's encoder
        does (arXiv 2111.06377, section 3): position embeddings are added first, then the other patches are dropped.
        """
        with self.keeping(layers, visible) as run:
            return run(inputs)

    @contextmanager
    def keeping(
        self,
        layers: Collection[int],
        visible: Int64[torch.Tensor, "sample visible"] | None = None,
        kept: dict[int, Any] | None = None,
    ) -> Iterator[Callable[[Pixels], dict[int, torch.Tensor]]]:
        """Yield a function that runs the model and returns what `tokens` does; its hooks stay for the whole block.

        Any other run of the model in the block leaves its outputs in ``kept``, if that is given.
        """
        kept = {} if kept is None else kept
        with ExitStack() as hooks:
            for layer in layers:
                hooks.callback(self.blocks[layer].register_forward_hook(partial(keep_output, kept, layer)).remove)
            if visible is not None:
                leave_out = partial(_leave_out, visible, self.n_prefix)
                hooks.callback(self.blocks[0].register_forward_pre_hook(leave_out).remove)
            yield partial(_outputs, self.forward, kept)


def _outputs(forward: Callable[[Pixels], object], kept: dict[int, torch.Tensor], inputs: Pixels) -> dict[int, Any]:
    """Run a model whose hooks put outputs into ``kept``, and take them out of it."""
    forward(inputs)
    found = dict(kept)
    kept.clear()
    return found


def normalised(
    pixels: Float[torch.Tensor, "sample height width 3"], mean: Float[torch.Tensor, "3"], std: Float[torch.Tensor, "3"]
) -> Pixels:
    """Return RGB values 0..255 divided by 255 and normalised, with the colours first."""
    return ((pixels / 255.0 - mean) / std).permute(0, 3, 1, 2).contiguous()


@lru_cache(maxsize=64)
def _constant(values: tuple[float, ...], device: torch.device) -> torch.Tensor:
    with torch.inference_mode(False):
        return torch.tensor(values, device=device)


def keep_output(kept: dict[int, Any], number: int, module: nn.Module, inputs: Any, output: Any) -> None:
    """Store a copy of a submodule's output, or of the first of a tuple; a forward hook once two arguments are bound.

    It is a copy, because what runs next may change the output in place, as ``ReLU(inplace=True)`` does.

    Args:
        kept: Outputs by number, added to here.
        number: Key of this submodule.
        module: The submodule, as torch passes it.
        inputs: Its inputs.
        output: Its output.
    """
    first = output[0] if isinstance(output, tuple) and output else output
    kept[number] = first.clone() if isinstance(first, torch.Tensor) else first


def _leave_out(
    visible: Int64[torch.Tensor, "sample visible"], n_prefix: int, module: nn.Module, inputs: tuple[torch.Tensor, ...]
) -> tuple[torch.Tensor, ...]:
    every = inputs[0]
    chosen = visible[:, :, None].expand(-1, -1, every.shape[2]) + n_prefix
    return (torch.cat([every[:, :n_prefix], every.gather(1, chosen)], dim=1), *inputs[1:])
