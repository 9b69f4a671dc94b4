"""Similarity and variance of one input's tokens: over heads, over positions, from one block to the next.

Statistics, named in the array's attribute ``statistics``:

* ``space_cosine``: mean cosine over all pairs of different patches of the block's output.
* ``depth_cosine``: mean over patches of the cosine between a block's input and output.
* ``variance``: variance over the patches, averaged over the channels (how-do-vits-work, featuremap_variance.ipynb).
* ``head_cosine``: mean over patches and pairs of different heads of the cosine between the heads' outputs, before they
  are projected; of models whose attention has heads that can be read.

The cosines are the quantities of Park et al. (ICLR 2023) on the diversity of tokens. A mean cosine over pairs is made
of the sum of normalised vectors: ``(|sum u|^2 - n) / (n (n - 1))``.
"""

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from jaxtyping import Float

from pipeline.captures.contract import Capture, array_name, facts, patch_tokens
from pipeline.captures.points import INPUT, KERNEL, OUTPUT, AttentionCall, Point, Take, points_of
from pipeline.models.contract import FrozenModel
from pipeline.recipe import FeatureRecipe
from stores.errors import UserError
from stores.specs import ArraySpec

REVISION = 1
"""Increased when the same tokens give other statistics."""

_OF_MAPS = ("space_cosine", "variance")
_OF_BLOCKS = ("space_cosine", "depth_cosine", "variance", "head_cosine")
_SMALLEST = 1e-12
"""Least length of a vector that is normalised."""


class TokenStatistics(Capture):
    """Statistics of the tokens of every block, or of every stage without those of depth and heads."""

    group = "statistics"

    def __init__(self, model: FrozenModel, arrays: Sequence[ArraySpec]) -> None:
        super().__init__(model, arrays)
        self._found: dict[int, dict[str, torch.Tensor]] = {}
        """Statistics of the batch by layer and name, until the block's output completes them."""
        self._inputs: dict[int, torch.Tensor] = {}

    @classmethod
    def wanted(cls, model: FrozenModel, features: FeatureRecipe, layers: Sequence[int]) -> list[ArraySpec]:
        """Return one array a layer for ``token-statistics``."""
        if "token-statistics" not in features.captures:
            return []
        names = _OF_BLOCKS if _has_kernel(model, layers) else _OF_MAPS
        return [
            ArraySpec(
                name=f"{cls.group}/{array_name(model, point)}",
                row_shape=(len(names),),
                dtype="float32",
                dimension_names=("sample", "statistic"),
                attributes={**facts(point), "revision": REVISION, "statistics": " ".join(names)},
            )
            for point in points_of(model, layers, (OUTPUT,), "captures")
        ]

    def takes(self) -> Mapping[Point, Take]:
        """Return what takes input, kernel and output of each block, or the output of each stage."""
        takes: dict[Point, Take] = {}
        for array in self.arrays:
            layer = array.layer or 0
            if "depth_cosine" in _names(array):
                takes[Point(layer, INPUT)] = partial(self._take_input, layer)
                takes[Point(layer, KERNEL)] = partial(self._take_heads, layer)
            takes[Point(layer, OUTPUT)] = partial(self._take_output, array)
        return takes

    def begin(self, rows: Sequence[int], size: tuple[int, int]) -> None:
        """Begin a batch, without what an earlier one left."""
        super().begin(rows, size)
        self._found, self._inputs = {}, {}

    def _take_input(self, layer: int, tokens: torch.Tensor) -> None:
        self._inputs[layer] = tokens

    def _take_heads(self, layer: int, call: AttentionCall) -> None:
        heads = call.output[:, :, self.model.n_prefix :].float()
        self._found.setdefault(layer, {})["head_cosine"] = mean_cosine(heads, axis=1).mean(dim=1)

    def _take_output(self, array: ArraySpec, output: torch.Tensor) -> None:
        layer = array.layer or 0
        tokens = patch_tokens(self.model, output)
        found = self._found.setdefault(layer, {})
        found["space_cosine"] = mean_cosine(tokens, axis=1)
        found["variance"] = tokens.var(dim=1, correction=0).mean(dim=1)
        if layer in self._inputs:
            before = patch_tokens(self.model, self._inputs.pop(layer))
            found["depth_cosine"] = torch.cosine_similarity(before, tokens, dim=-1, eps=_SMALLEST).mean(dim=1)
        self.keep(array, torch.stack([found[name] for name in _names(array)], dim=1))


def mean_cosine(vectors: Float[torch.Tensor, "..."], axis: int) -> Float[torch.Tensor, "..."]:
    """Return the mean cosine over all pairs along an axis of vectors, which lie along the last; 1 for a single one."""
    n = vectors.shape[axis]
    if n == 1:
        return vectors.new_ones(vectors.sum(dim=(axis, -1)).shape)
    total = torch.nn.functional.normalize(vectors, dim=-1, eps=_SMALLEST).sum(dim=axis)
    return (total.square().sum(dim=-1) - n) / (n * (n - 1))


def _names(array: ArraySpec) -> list[str]:
    return str(array.attributes["statistics"]).split()


def _has_kernel(model: FrozenModel, layers: Sequence[int]) -> bool:
    """Return whether the blocks' attention can be read as far as is known before the model runs."""
    try:
        return bool(points_of(model, layers, (KERNEL, "attention"), "captures"))
    except UserError:
        return False
