"""BEiT's ViT (Bao et al. 2021), which SimMIM (Xie et al. 2021) shares, as both pretrain it.

No position embedding; one table of biases by relative position, shared by all blocks; layer scale; queries and values
have a bias, keys none.
"""

import torch
from torch import nn

from tests.pipeline.reference_models.plain import PatchEmbedding, Perceptron


class RelativePositionBias(nn.Module):
    def __init__(self, side, heads):
        super().__init__()
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * side - 1) ** 2 + 3, heads))
        # Entry by entry: distance of two patches, then the three rows of the class token.
        n = 1 + side * side
        index = torch.empty(n, n, dtype=torch.long)
        for i in range(1, n):
            for j in range(1, n):
                down = (i - 1) // side - (j - 1) // side + side - 1
                right = (i - 1) % side - (j - 1) % side + side - 1
                index[i, j] = down * (2 * side - 1) + right
        index[0, :], index[:, 0], index[0, 0] = (2 * side - 1) ** 2, (2 * side - 1) ** 2 + 1, (2 * side - 1) ** 2 + 2
        self.register_buffer("relative_position_index", index)

    def forward(self):
        return self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1)


class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.q_bias = nn.Parameter(torch.zeros(width))
        self.v_bias = nn.Parameter(torch.zeros(width))
        self.proj = nn.Linear(width, width)

    def forward(self, x, bias):
        n, t, w = x.shape
        q, k, v = self.qkv(x).split(w, dim=2)
        q, k, v = (part.view(n, t, self.heads, -1).transpose(1, 2) for part in (q + self.q_bias, k, v + self.v_bias))
        weights = torch.softmax(q @ k.transpose(2, 3) / (w // self.heads) ** 0.5 + bias, dim=-1)
        return self.proj((weights @ v).transpose(1, 2).reshape(n, t, w))


class OwnBiasAttention(Attention):
    """As fine-tuned: every block has a table of its own."""

    def __init__(self, width, heads, side):
        super().__init__(width, heads)
        bias = RelativePositionBias(side, heads)
        self.relative_position_bias_table = bias.relative_position_bias_table
        self.register_buffer("relative_position_index", bias.relative_position_index)

    def forward(self, x, bias):
        return super().forward(x, self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1))


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.attn, self.mlp = Attention(width, heads), Perceptron(width)
        self.gamma_1, self.gamma_2 = nn.Parameter(torch.ones(width)), nn.Parameter(torch.ones(width))

    def forward(self, x, bias):
        x = x + self.gamma_1 * self.attn(self.norm1(x), bias)
        return x + self.gamma_2 * self.mlp(self.norm2(x))


class BEiT(nn.Module):
    def __init__(self, image=32, patch=8, width=48, depth=3, heads=4, finetuned=False):
        super().__init__()
        self.patch_embed = PatchEmbedding(patch, width)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        self.rel_pos_bias = RelativePositionBias(image // patch, heads)
        self.blocks = nn.ModuleList([Block(width, heads) for _ in range(depth)])
        self.norm = nn.LayerNorm(width, eps=1e-6)
        if finetuned:  # pooled too, so the norm follows the mean
            del self.rel_pos_bias, self.norm, self.mask_token
            self.fc_norm = nn.LayerNorm(width, eps=1e-6)
            for block in self.blocks:
                block.attn = OwnBiasAttention(width, heads, image // patch)

    def layers(self, images):
        patches = self.patch_embed(images)
        x, outputs = torch.cat([self.cls_token.expand(len(images), -1, -1), patches], dim=1), []
        for block in self.blocks:
            x = block(x, self.rel_pos_bias() if hasattr(self, "rel_pos_bias") else None)
            outputs.append(x)
        return outputs

    def final(self, x):
        return self.norm(x)
