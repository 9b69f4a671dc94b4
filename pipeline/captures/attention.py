"""Statistics of the attention weights by head, and the class token's weights over the patches.

The weights themselves are 11 MB an image for ViT-B/16 in float16; statistics of one image are a few numbers. They are
taken over the patches: prefix tokens are dropped as queries and keys, and the softmax is over what is left, which
equals dropping columns of the model's weights and dividing rows by their new sums.

Statistics, in this order on their axis (``STATISTICS``), with weights ``A`` of ``N`` patches:

* ``distance_px``: mean over queries of the distance between patch centres, weighted by ``A``, in pixels of the input
  (Park et al., ICLR 2023, figure 3; naver-ai/cl-vs-mim, self_attention_analysis.ipynb). Uniform weights on the 14 x 14
  grid at 224 px give 116.5 px.
* ``distance_unit``: the same on the unit square, with patches at ``i / (grid - 1)`` (Raghu et al., NeurIPS 2021;
  mwalmer-umd/vit_analysis), to compare grids.
* ``entropy_nats``: mean over queries of the entropy of a row of ``A``, in nats.
* ``nmi``: mutual information of query and key tokens, divided by ``sqrt(H(query) H(key))``, with uniform queries
  (cl-vs-mim). 1 for one-to-one attention, 0 where all queries attend alike. Their code adds 1e-8 to the model's weights
  before it drops the class token: that moves the value by less than 1e-4, but where a query leaves patches less than
  about 1e-6 of its attention its row becomes uniform, and their value is lower (by 0.11 in one head of random weights
  with large queries).
"""

import math
from collections.abc import Mapping, Sequence
from functools import partial

import torch
from jaxtyping import Float

from pipeline.captures.contract import Capture
from pipeline.captures.points import KERNEL, AttentionCall, Point, Take, points_of
from pipeline.models.contract import FrozenModel
from pipeline.recipe import FeatureRecipe
from stores.errors import UserError
from stores.specs import ArraySpec

REVISION = 1
"""Increased when the same weights give other statistics."""

STATISTICS = ("distance_px", "distance_unit", "entropy_nats", "nmi")

_BYTES_AT_ONCE = {"cpu": 8 << 20}
"""Bytes of weights that are looked at together: on a CPU as much as its caches hold."""
_BYTES_ELSEWHERE = 512 << 20


class Attention(Capture):
    """Statistics of the attention weights of every head, or the class token's weights over the patches."""

    group = "attention"

    @classmethod
    def wanted(cls, model: FrozenModel, features: FeatureRecipe, layers: Sequence[int]) -> list[ArraySpec]:
        """Return one array a block for ``attention`` and one for ``class-attention``."""
        names = [name for name in ("attention", "class-attention") if name in features.captures]
        if not names:
            return []
        points = points_of(model, layers, (KERNEL,), "captures")
        if "class-attention" in names and not model.n_prefix:
            raise UserError(
                f'{model.record.name} has no class token: take "class-attention" out of `captures` in [features]'
            )
        rows, columns = model.grid
        arrays = []
        for layer, _ in points:
            n_heads = heads_of(model, layer)
            facts: dict[str, str | int | float | bool | None] = {"layer": layer, "norm": None, "revision": REVISION}
            facts |= {"grid_rows": rows, "grid_columns": columns}
            if "attention" in names:
                arrays.append(
                    ArraySpec(
                        name=f"{cls.group}/block.{layer}",
                        row_shape=(len(STATISTICS), n_heads),
                        dtype="float32",
                        dimension_names=("sample", "statistic", "head"),
                        attributes={**facts, "statistics": " ".join(STATISTICS)},
                    )
                )
            if "class-attention" in names:
                arrays.append(
                    ArraySpec(
                        name=f"{cls.group}/block.{layer}.class",
                        row_shape=(n_heads, model.n_patches),
                        dtype="float32",
                        dimension_names=("sample", "head", "patch"),
                        attributes=facts,
                    )
                )
        return arrays

    def takes(self) -> Mapping[Point, Take]:
        """Return what takes the call of each block's attention kernel."""
        layers = sorted({array.layer or 0 for array in self.arrays})
        return {Point(layer, KERNEL): partial(self._take, layer) for layer in layers}

    def _take(self, layer: int, call: AttentionCall) -> None:
        for array in self.arrays:
            if array.layer != layer:
                continue
            if array.name.endswith(".class"):
                self.keep(array, class_attention(call, self.model.n_prefix))
            else:
                height, width = (size / n for size, n in zip(self.size, self.model.grid, strict=True))
                self.keep(array, attention_statistics(call, self.model.n_prefix, self.model.grid, (height, width)))


def heads_of(model: FrozenModel, layer: int) -> int:
    """Return the number of attention heads of a block; raises UserError where its attention does not say it."""
    attention = getattr(model.blocks[layer], "attn", None)
    for owner in (attention, getattr(model.blocks[layer], "attention", None), model.blocks[layer]):
        for name in ("num_heads", "n_heads", "num_attention_heads"):
            number = getattr(owner, name, None)
            if isinstance(number, int):
                return number
    raise UserError(
        f"the number of attention heads of block {layer} of {model.record.name} is not known (its attention has no "
        "num_heads): take attention out of `captures` and `sublayers` in [features]"
    )


def class_attention(call: AttentionCall, n_prefix: int) -> Float[torch.Tensor, "sample head patch"]:
    """Return the first token's attention weights over the patches; with those over prefix tokens they sum to 1."""
    scores = call.query[:, :, :1].float() * call.scale @ call.key.float().mT
    if call.bias is not None:
        scores = scores + call.bias[..., :1, :].float()
    return scores.softmax(dim=-1)[:, :, 0, n_prefix:]


def attention_statistics(
    call: AttentionCall, n_prefix: int, grid: tuple[int, int], patch: tuple[float, float]
) -> Float[torch.Tensor, "sample statistic head"]:
    """Return the statistics of every image and head, in the order of `STATISTICS`.

    Args:
        call: The call of the attention kernel.
        n_prefix: Tokens before the patches.
        grid: Rows and columns of patches.
        patch: Height and width of a patch, in pixels.
    """
    n_samples, n_heads = call.query.shape[:2]
    query = call.query[:, :, n_prefix:].flatten(0, 1).float() * call.scale
    key = call.key[:, :, n_prefix:].flatten(0, 1).float()
    n_patches = query.shape[1]
    bias = None
    if call.bias is not None:
        shape = (n_samples, n_heads, n_patches + n_prefix, n_patches + n_prefix)
        bias = call.bias.expand(shape)[:, :, n_prefix:, n_prefix:].flatten(0, 1).float()
    unit = tuple(1.0 / max(1, n - 1) for n in grid)
    distances = [_distances(grid, each, query.device) for each in (patch, unit)]
    most = _BYTES_AT_ONCE.get(query.device.type, _BYTES_ELSEWHERE)
    step = max(1, most // (4 * n_patches**2))
    parts = [
        _statistics(query[start : start + step], key[start : start + step],
                    None if bias is None else bias[start : start + step], distances)
        for start in range(0, len(query), step)
    ]  # fmt: skip
    return torch.cat(parts).view(n_samples, n_heads, -1).transpose(1, 2)


def _statistics(
    query: Float[torch.Tensor, "map patch head_channel"],
    key: Float[torch.Tensor, "map patch head_channel"],
    bias: Float[torch.Tensor, "map patch patch"] | None,
    distances: Sequence[Float[torch.Tensor, " patch_pair"]],
) -> Float[torch.Tensor, "map statistic"]:
    scores = query @ key.mT
    if bias is not None:
        scores += bias
    logs = torch.log_softmax(scores, dim=-1)
    weights = logs.exp()
    n_patches = weights.shape[-1]
    flat = weights.flatten(1)
    # Weights of 0 have a logarithm of -inf only where the product underflows; 0 * -inf would be NaN.
    entropy = -torch.linalg.vecdot(flat, logs.clamp_(min=-1e4).flatten(1)) / n_patches
    of_key = weights.mean(dim=1)
    key_entropy = -torch.special.xlogy(of_key, of_key).sum(dim=-1)
    information = (key_entropy - entropy).clamp(min=0)
    # Where all queries attend to one key its entropy is 0, and so is the information.
    nmi = information / (key_entropy * math.log(n_patches)).sqrt().clamp(min=1e-12) if n_patches > 1 else 0 * entropy
    return torch.stack([*(flat @ each / n_patches for each in distances), entropy, nmi], dim=1)


def _distances(
    grid: tuple[int, int], patch: Sequence[float], device: torch.device
) -> Float[torch.Tensor, " patch_pair"]:
    """Return the distances of all pairs of patch centres, row by row."""
    rows = torch.arange(grid[0], device=device, dtype=torch.float32).repeat_interleave(grid[1]) * patch[0]
    columns = torch.arange(grid[1], device=device, dtype=torch.float32).repeat(grid[0]) * patch[1]
    return torch.hypot(rows[:, None] - rows, columns[:, None] - columns).flatten()
