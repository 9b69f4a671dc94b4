"""MAE's decoder as a module: from the encoder's tokens to predictions, or to the tokens of its own blocks."""

from collections.abc import Iterator
from functools import partial

import torch
from jaxtyping import Float, Int64
from timm.models.vision_transformer import Block
from torch import nn

from pipeline.models.loading.sin_cos import sin_cos_table


class DecoderModule(nn.Module):
    """MAE's decoder: embedding, mask token, position table, blocks, norm, prediction (arXiv 2111.06377, section 3)."""

    def __init__(self, channels: int, grid: tuple[int, int], width: int, depth: int, heads: int, n_values: int) -> None:
        super().__init__()
        norm = partial(nn.LayerNorm, eps=1e-6)
        self.embed = nn.Linear(channels, width)
        self.masked = nn.Parameter(torch.zeros(1, 1, width))
        with torch.device("cpu"):  # a fixed table, also where the module is on the meta device
            self.pos_embed = nn.Parameter(sin_cos_table(width, grid, torch.ones(1)))
        self.blocks = nn.ModuleList(Block(width, heads, qkv_bias=True, norm_layer=norm) for _ in range(depth))
        self.norm = norm(width)
        self.pred = nn.Linear(width, n_values)

    def forward(
        self, tokens: Float[torch.Tensor, "sample token channel"], ids: Int64[torch.Tensor, "sample visible"] | None
    ) -> Float[torch.Tensor, "sample patch value"]:
        """Return the prediction for every patch of the grid."""
        for left in self.block_tokens(tokens, ids):
            last = left
        predicted: torch.Tensor = self.pred(self.norm(last))
        return predicted[:, 1:]

    def block_tokens(
        self, tokens: Float[torch.Tensor, "sample token channel"], ids: Int64[torch.Tensor, "sample visible"] | None
    ) -> Iterator[Float[torch.Tensor, "sample token width"]]:
        """Yield the tokens that enter the first block, then those that every block leaves, class token first."""
        embedded = self.embed(tokens)
        if ids is not None:
            prefix, visible = embedded[:, :1], embedded[:, 1:]
            patches = self.masked.to(embedded.dtype).repeat(len(embedded), self.pos_embed.shape[1] - 1, 1)
            patches = patches.scatter(1, ids[:, :, None].expand_as(visible), visible)
            embedded = torch.cat([prefix, patches], dim=1)
        embedded = embedded + self.pos_embed
        yield embedded
        for block in self.blocks:
            embedded = block(embedded)
            yield embedded
