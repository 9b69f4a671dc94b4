"""Runs a model on batches and returns the wanted arrays, with hooks that leave the pass unchanged.

Forward hooks, set by `FrozenModel.keeping`, keep each block's output; the model's own fused kernels stay in use, so the
tokens are those of a plain forward, whatever else is captured.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from jaxtyping import Float

from pipeline.captures import masked
from pipeline.captures.contract import Capture
from pipeline.captures.layer_tokens import cut
from pipeline.captures.points import OUTPUT, AttentionCall, Point, Take, watching
from pipeline.captures.table import CAPTURES
from pipeline.extraction.model_pass.precision import autocast, module_dtype
from pipeline.models.contract import FrozenModel, normalised
from pipeline.rows.masking import TileId
from stores.errors import UserError
from stores.specs import ArraySpec


class ModelPass:
    """Runs a model and returns the wanted arrays of a batch, on the model's device, in the store's dtype."""

    def __init__(self, model: FrozenModel, arrays: Sequence[ArraySpec], precision: str) -> None:
        self.model = model
        self.arrays = tuple(arrays)
        self.precision = precision
        self._masked: dict[tuple[float, int], list[ArraySpec]] = {}
        self._of_layers: list[ArraySpec] = []
        by_capture: dict[type[Capture], list[ArraySpec]] = {}
        kinds = {kind.group: kind for kind in CAPTURES}
        for array in self.arrays:
            mask = masked.mask_of(array)
            if mask is not None:
                self._masked.setdefault(mask, []).append(array)
            elif array.group in kinds:
                by_capture.setdefault(kinds[array.group], []).append(array)
            else:
                self._of_layers.append(array)
        self._captures = [kind(model, some) for kind, some in by_capture.items()]
        self._inside, self._outputs = self._takes()
        self._layers = sorted({array.layer or 0 for array in self._of_layers} | set(self._outputs))
        self._compiled: Callable[..., tuple[dict[str, torch.Tensor], dict[int, torch.Tensor]]] | None = None

    def __call__(
        self,
        pixels: Float[torch.Tensor, "sample height width 3"],
        tile_ids: Sequence[TileId] = (),
        rows: Sequence[int] | None = None,
    ) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """Return the arrays by address, and the sum of each in order.

        A finite sum proves that every value is finite. The caller checks the sums later, so that a GPU is not
        synchronised here.

        Args:
            pixels: RGB values 0..255 as float32.
            tile_ids: What masks depend on, for every input; needed for masked arrays only.
            rows: Numbers of the rows, without those that pad the batch; by default counted from 0.
        """
        with torch.inference_mode(), autocast(self.precision, pixels.device.type):
            constants = self.model.constants(pixels.device)
            stored: dict[str, torch.Tensor] = {}
            if self._layers or self._inside:
                stored |= self._plain(range(len(pixels)) if rows is None else rows, pixels, *constants)
            for mask, arrays in self._masked.items():
                stored |= masked.run(self.model, self._inputs(pixels, *constants), arrays, tile_ids, *mask)
            return stored, torch.stack([stored[array.name].sum(dtype=torch.float32) for array in self.arrays])

    @contextmanager
    def compiled(self) -> Iterator[None]:
        """Compile the pass into one function (normalise, blocks, norms, cast) for this block; masked ones run as usual.

        Raises UserError for captures inside the blocks and, from the pass, where PyTorch cannot compile the model.
        """
        if self._inside:
            inside = [one for one in self._captures if any(point.part != OUTPUT for point in one.takes())]
            names = ", ".join(sorted({array.group for one in inside for array in one.arrays}))
            raise UserError(
                f"the {names} arrays of {self.model.record.name} are read inside its blocks, which a compiled model "
                "does not allow: set compile = false in [features], or capture them in an experiment of their own"
            )
        kept: dict[int, torch.Tensor] = {}
        with self.model.keeping(self._layers, kept=kept) as run:
            step = torch.compile(partial(self._full, run), dynamic=False)

            def compiled(*arguments: Any) -> tuple[dict[str, torch.Tensor], dict[int, torch.Tensor]]:
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

    def _takes(self) -> tuple[dict[Point, list[Take]], dict[int, list[Take]]]:
        """Return what takes points inside the blocks, and what takes the outputs of layers, by number."""
        inside: dict[Point, list[Take]] = {}
        outputs: dict[int, list[Take]] = {}
        for capture in self._captures:
            for point, take in capture.takes().items():
                if point.part == OUTPUT:
                    outputs.setdefault(point.layer, []).append(self._in_float32(take))
                else:
                    inside.setdefault(point, []).append(self._in_float32(take))
        return inside, outputs

    def _in_float32(self, take: Take) -> Take:
        """Return ``take`` outside of autocast, which would round its products."""
        if not self.precision.endswith("-autocast"):
            return take

        def outside(values: Any) -> None:
            kind = (values.query if isinstance(values, AttentionCall) else values).device.type
            with torch.autocast(kind, enabled=False):
                take(values)

        return outside

    def _inputs(self, pixels: torch.Tensor, mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
        return normalised(pixels, mean, std).to(module_dtype(self.precision))

    def _plain(
        self, rows: Sequence[int], pixels: torch.Tensor, mean: torch.Tensor, std: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """Return the arrays of a pass without a mask."""
        for capture in self._captures:
            capture.begin(rows, (pixels.shape[1], pixels.shape[2]))
        if self._compiled is None:
            with self.model.keeping(self._layers) as run, watching(self.model, self._inside):
                stored, kept = self._full(run, pixels, mean, std)
        else:
            stored, kept = self._compiled(pixels, mean, std)
        for layer, takes in self._outputs.items():
            for take in takes:
                take(kept[layer])
        return {name: values for one in self._captures for name, values in one.values.items()} | stored

    def _full(
        self,
        run: Callable[[torch.Tensor], dict[int, torch.Tensor]],
        pixels: torch.Tensor,
        mean: torch.Tensor,
        std: torch.Tensor,
    ) -> tuple[dict[str, torch.Tensor], dict[int, torch.Tensor]]:
        """Return the arrays of layers, and the outputs that captures take."""
        kept = run(self._inputs(pixels, mean, std))
        return cut(self.model, kept, self._of_layers), {layer: kept[layer] for layer in self._outputs}
