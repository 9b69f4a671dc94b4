"""Tensors inside the blocks as they are: outputs of sub-layers, sums after the attention, heads, queries and keys.

They are as large as patch tokens, or larger, and meant for a few images or layers; what a whole data set is asked
about has captures that reduce them on the device.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from pipeline.captures.attention import heads_of
from pipeline.captures.contract import Capture, array_name, facts
from pipeline.captures.points import KERNEL, AttentionCall, Point, Take, points_of
from pipeline.models.contract import FrozenModel
from pipeline.recipe import FeatureRecipe
from stores.specs import ArraySpec

REVISION = 1
"""Increased when the same pass gives other values."""

_OF_KERNEL = {"query": "query", "key": "key", "value": "value", "heads": "output"}
"""Names in the recipe, and attributes of the call of the attention kernel."""


class Sublayers(Capture):
    """Tokens at chosen points of every block, prefix tokens first, or what every head has of them."""

    group = "sublayers"

    @classmethod
    def wanted(cls, model: FrozenModel, features: FeatureRecipe, layers: Sequence[int]) -> list[ArraySpec]:
        """Return one array a layer and name in ``sublayers``."""
        of_kernel = [name for name in features.sublayers if name in _OF_KERNEL]
        others = [name for name in features.sublayers if name not in _OF_KERNEL]
        n_tokens = model.n_prefix + model.n_patches
        of_tokens = [
            _array(model, point, array_name(model, point), features, {"token": n_tokens, "channel": model.width})
            for point in points_of(model, layers, others, "sublayers")
        ]
        of_heads = []
        for point in points_of(model, layers, (KERNEL,) if of_kernel else (), "sublayers"):
            n_heads = heads_of(model, point.layer)
            axes = {"head": n_heads, "token": n_tokens, "head_channel": model.width // n_heads}
            of_heads += [_array(model, point, f"block.{point.layer}.{name}", features, axes) for name in of_kernel]
        return of_tokens + of_heads

    def takes(self) -> Mapping[Point, Take]:
        """Return what takes the tokens, or the call of the kernel, at each point."""
        takes: dict[Point, Take] = {}
        by_call: dict[int, list[ArraySpec]] = {}
        for array in self.arrays:
            point = Point(array.layer or 0, str(array.attributes["point"]))
            if point.part == KERNEL:
                by_call.setdefault(point.layer, []).append(array)
            else:
                takes[point] = partial(self.keep, array)
        return takes | {Point(layer, KERNEL): partial(self._take_call, arrays) for layer, arrays in by_call.items()}

    def _take_call(self, arrays: Sequence[ArraySpec], call: AttentionCall) -> None:
        for array in arrays:
            self.keep(array, getattr(call, _OF_KERNEL[array.name.rpartition(".")[2]]))


def _array(model: FrozenModel, point: Point, name: str, features: FeatureRecipe, axes: Mapping[str, int]) -> ArraySpec:
    rows, columns = model.grid
    attributes: dict[str, Any] = {**facts(point), "revision": REVISION, "n_prefix": model.n_prefix}
    return ArraySpec(
        name=f"{Sublayers.group}/{name}",
        row_shape=tuple(axes.values()),
        dtype=features.store_dtype,
        dimension_names=("sample", *axes),
        attributes={**attributes, "grid_rows": rows, "grid_columns": columns},
    )
