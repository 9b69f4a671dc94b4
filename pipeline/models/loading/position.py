"""Resamples position embeddings to another patch grid, as the models' own code does."""

import math
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from timm.layers import to_2tuple

from pipeline.models.loading.weights import Weights
from pipeline.recipe import ModelRecipe
from stores.errors import UserError

Mode = Literal["timm", "hub"]

HUB_OFFSET = 0.1
"""Added to the wanted rows and columns before they are divided by the old ones."""


def fit_embedding(
    embedding: Float[torch.Tensor, "1 token channel"], grid: tuple[int, int], n_prefix: int, mode: Mode
) -> tuple[Float[torch.Tensor, "1 fitted channel"], str]:
    """Return a position embedding for another grid, and how it was made.

    The second value is ``native`` (as it was), ``timm-resample`` or ``hub``. Raises UserError when the old grid is not
    square.

    Args:
        embedding: The stored embedding: entries of prefix tokens, then those of a square grid of patches.
        grid: Rows and columns of the new grid.
        n_prefix: Number of entries of prefix tokens, which are kept.
        mode: ``timm`` resamples bicubically with antialiasing to the exact size (timm `resample_abs_pos_embed`);
            ``hub`` bicubically without antialiasing by the factor (rows + 0.1) / side, as the DINO and DINOv2 codes do
            (facebookresearch/dinov2 `interpolate_pos_encoding`).
    """
    n_tokens = embedding.shape[1] - n_prefix
    side = math.isqrt(max(n_tokens, 0))
    if side < 1 or side * side != n_tokens:
        raise UserError(
            f"the weights' position embedding is for {n_tokens} patches, which is not a square grid: give weights that "
            "were trained on square images"
        )
    if grid == (side, side):
        return embedding, "native"
    if mode == "timm":
        from timm.layers import resample_abs_pos_embed

        fitted: torch.Tensor = resample_abs_pos_embed(
            embedding, new_size=list(grid), old_size=[side, side], num_prefix_tokens=n_prefix
        )
        return fitted, "timm-resample"
    plane = embedding[:, n_prefix:].float().reshape(1, side, side, -1).permute(0, 3, 1, 2)
    # Passing the factor, not the size, makes the offset take effect in the positions of the samples.
    factor = tuple((wanted + HUB_OFFSET) / side for wanted in grid)
    plane = F.interpolate(plane, scale_factor=factor, mode="bicubic")
    patches = plane.permute(0, 2, 3, 1).reshape(1, grid[0] * grid[1], -1).to(embedding.dtype)
    return torch.cat([embedding[:, :n_prefix], patches], dim=1), "hub"


def fit_bias_table(
    table: Float[torch.Tensor, "distance head"], grid: tuple[int, int]
) -> tuple[Float[torch.Tensor, "fitted head"], str]:
    """Return a relative position bias table (BEiT, SimMIM) for a grid of (rows, columns), and how it was made.

    Its rows are the vertical and horizontal distances between two patches of a square grid, and three more for the
    class token, which are kept. As in BEiT's fine-tuning code (microsoft/unilm, beit/run_class_finetuning.py),
    distances are spaced geometrically, so that small ones keep their bias, with cubic splines in between; here for
    each axis, so that grids need not be square. The second value is ``native`` (as it was) or ``beit-resample``.
    Raises UserError when the table is not for a square grid.
    """
    n_distances = len(table) - 3
    side = math.isqrt(max(n_distances, 0))
    if side < 1 or side * side != n_distances:
        raise UserError(
            f"the weights' relative position bias has {len(table)} rows, which fit no square grid: give weights that "
            "were trained on square images"
        )
    wanted = (2 * grid[0] - 1, 2 * grid[1] - 1)
    if wanted == (side, side):
        return table, "native"
    from scipy.interpolate import RectBivariateSpline

    (down, new_down), (right, new_right) = (_spread(side, length) for length in wanted)
    order = min(3, side - 1)
    fitted = [
        RectBivariateSpline(down, right, plane.numpy(), kx=order, ky=order)(new_down, new_right)
        for plane in table[:-3].double().T.reshape(-1, side, side)
    ]
    values = torch.from_numpy(np.stack(fitted, axis=-1)).to(table.dtype).flatten(0, 1)
    return torch.cat([values, table[-3:]]), "beit-resample"


def _spread(length: int, wanted: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the coordinates of one axis' old distances, in patches of the new grid, and the new distances."""
    target = np.arange(wanted) - wanted // 2
    old = np.arange(length // 2)
    ratio = 1.0
    if wanted > length:
        # The ratio q with 1 + q + q^2 + ... = the largest new distance, within BEiT's bounds, by bisection.
        low, high = 1.01, 1.5
        while high - low > 1e-6:
            ratio = (low + high) / 2
            low, high = (low, ratio) if np.sum(ratio**old) > wanted // 2 else (ratio, high)
    distances = np.cumsum(ratio**old)
    coordinates = np.concatenate([-distances[::-1], [0.0], distances])
    return coordinates, np.clip(target, coordinates[0], coordinates[-1])


def grid_of(module: Any) -> tuple[int, int]:
    """Return rows and columns of a module's patches."""
    embed = module.patch_embed
    if hasattr(embed, "grid_size"):
        rows, columns = embed.grid_size
    else:  # XCiT
        rows, columns = (
            size // patch for size, patch in zip(*map(to_2tuple, (embed.img_size, embed.patch_size)), strict=True)
        )
    return int(rows), int(columns)


def n_embedded(module: Any) -> int:
    """Return how many prefix tokens have an entry in a module's position embedding."""
    return 0 if getattr(module, "no_embed_class", False) else int(module.num_prefix_tokens)


def absolute_embedding(weights: Weights, recipe: ModelRecipe) -> torch.Tensor:
    """Return the position embedding among weights; raises UserError when there is none to interpolate."""
    if "pos_embed" not in weights:
        raise UserError(
            f"{recipe.name} has no absolute position embedding to interpolate: leave out `position_embedding`"
        )
    return weights["pos_embed"]


def without_index_tables(weights: Weights) -> Weights:
    """Return weights without BEiT's tables of relative position indices, which a model computes for its own grid."""
    return {key: value for key, value in weights.items() if not key.endswith("relative_position_index")}


def fit_positions(weights: Weights, module: Any, mode: Mode, recipe: ModelRecipe) -> tuple[Weights, str]:
    """Resample position embeddings and bias tables to a module's grid; return the weights and how it was done.

    Raises UserError when the recipe asks for ``hub`` and there is no position embedding, or an old grid is not square.

    Args:
        weights: Weights under timm's names.
        module: The timm module they are for.
        mode: How position embeddings are resampled; see `fit_embedding`.
        recipe: The model's recipe, named in errors.
    """
    own = module.state_dict()
    if recipe.position_embedding == "hub":
        absolute_embedding(weights, recipe)
    fitted, done = dict(weights), "native"
    for key, value in weights.items():
        how = "native"
        if key == "pos_embed" and key in own:
            fitted[key], how = fit_embedding(value, grid_of(module), n_embedded(module), mode)
        elif key.endswith("relative_position_bias_table") and key in own:
            fitted[key], how = fit_bias_table(value, grid_of(module))
        done = done if how == "native" else how
    return fitted, done
