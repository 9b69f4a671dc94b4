"""Finds out which tokens the blocks of a timm transformer give, where the architecture does not say it."""

from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from timm.layers import to_2tuple
from timm.models.beit import Beit
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from timm.models.vision_transformer_relpos import VisionTransformerRelPos

from pipeline.models.contract import keep_output
from pipeline.models.loading.position import grid_of
from stores.errors import UserError

_PLAIN = (VisionTransformer, Eva, Beit, VisionTransformerRelPos)
"""Architectures whose blocks are known to give all prefix tokens, then the patches."""


def prefix_of_blocks(module: Any, name: str) -> tuple[int, tuple[str, ...]]:
    """Return how many prefix tokens every block of a timm module gives, and a note where these are not all it has.

    CaiT's and XCiT's class token joins after the blocks, which then give patch tokens alone. Other architectures than
    the plain ones are run once on zeros. Raises UserError when blocks give another number of tokens, or differ: in
    ConViT the class token joins on the way.
    """
    n_prefix = int(module.num_prefix_tokens)
    if isinstance(module, _PLAIN):
        return n_prefix, ()
    grid, patch = grid_of(module), to_2tuple(module.patch_embed.patch_size)
    n_patches = grid[0] * grid[1]
    kept: dict[int, Any] = {}
    with ExitStack() as hooks, torch.inference_mode():
        for number, block in enumerate(module.blocks):
            hooks.callback(block.register_forward_hook(partial(keep_output, kept, number)).remove)
        own = next(module.parameters())
        size = (grid[0] * int(patch[0]), grid[1] * int(patch[1]))
        try:
            module.forward_features(torch.zeros(1, 3, *size, dtype=own.dtype, device=own.device))
        except (RuntimeError, TypeError, ValueError, AssertionError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise UserError(f"{name} cannot be run on pixels ({reason}): choose another model") from error
    shapes = {tuple(output.shape) if isinstance(output, torch.Tensor) else None for output in kept.values()}
    if len(kept) == len(module.blocks) and len(shapes) == 1:
        shape = shapes.pop()
        n_given = -1 if shape is None or len(shape) != 3 else shape[1] - n_patches
        if n_given == n_prefix:
            return n_prefix, ()
        if n_given == 0:
            return 0, ("its class token joins after the blocks, so that layers hold patch tokens alone",)
    raise UserError(
        f"the blocks of {name} do not all give one token for each of {n_patches} patches after the same number of "
        "prefix tokens (in some architectures the class token joins on the way): choose another model"
    )
