"""DINOv3 (Siméoni et al. 2025): rotary positions of patch tokens, registers, keys without bias, LayerNorm eps 1e-5."""

import math

import torch
from torch import nn

from tests.pipeline.reference_models.dinov2 import Scale
from tests.pipeline.reference_models.plain import PatchEmbedding, Perceptron


class MaskedAttention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.qkv.register_buffer("bias_mask", torch.cat([torch.ones(width), torch.zeros(width), torch.ones(width)]))
        self.proj = nn.Linear(width, width)

    def forward(self, x, angles):
        n, t, w = x.shape
        projected = x @ self.qkv.weight.T + self.qkv.bias * self.qkv.bias_mask
        q, k, v = (part.view(n, t, self.heads, -1).transpose(1, 2) for part in projected.split(w, dim=2))
        q, k = rotated(q, angles), rotated(k, angles)
        weights = torch.softmax(q @ k.transpose(2, 3) / (w // self.heads) ** 0.5, dim=-1)
        return self.proj((weights @ v).transpose(1, 2).reshape(n, t, w))


def rotated(x, angles):
    """Channel c and channel c + half turn by one angle as a complex number; tokens before the patches stay."""
    n_prefix = x.shape[2] - len(angles)
    real, imaginary = x[:, :, n_prefix:].chunk(2, dim=-1)
    turned = torch.complex(real, imaginary) * torch.polar(torch.ones_like(angles), angles)
    return torch.cat([x[:, :, :n_prefix], torch.cat([turned.real, turned.imag], dim=-1)], dim=2)


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-5), nn.LayerNorm(width, eps=1e-5)
        self.attn, self.mlp = MaskedAttention(width, heads), Perceptron(width)
        self.ls1, self.ls2 = Scale(width), Scale(width)

    def forward(self, x, angles):
        x = x + self.ls1(self.attn(self.norm1(x), angles))
        return x + self.ls2(self.mlp(self.norm2(x)))


class DINOv3(nn.Module):
    def __init__(self, patch=8, width=48, depth=3, heads=4, registers=4, image=None):
        super().__init__()
        self.patch_embed = PatchEmbedding(patch, width)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.storage_tokens = nn.Parameter(torch.zeros(1, registers, width))
        self.mask_token = nn.Parameter(torch.zeros(1, width))
        self.blocks = nn.ModuleList([Block(width, heads) for _ in range(depth)])
        self.norm = nn.LayerNorm(width, eps=1e-5)
        n_periods = width // heads // 4
        self.rope_embed = nn.Module()
        self.rope_embed.register_buffer("periods", 100 ** (torch.arange(n_periods) / n_periods))

    def layers(self, images):
        patches = self.patch_embed(images)
        rows, columns = (side // self.patch_embed.proj.kernel_size[0] for side in images.shape[2:])
        # Centres of the patches, each axis scaled to -1..1; one turn is a distance of one period.
        down, right = ((torch.arange(n) + 0.5) / n * 2 - 1 for n in (rows, columns))
        places = torch.stack(torch.meshgrid(down, right, indexing="ij"), dim=-1).reshape(-1, 2, 1)
        angles = (2 * math.pi * places / self.rope_embed.periods).flatten(1)
        expand = (len(images), -1, -1)
        x = torch.cat([self.cls_token.expand(expand), self.storage_tokens.expand(expand), patches], dim=1)
        outputs = []
        for block in self.blocks:
            x = block(x, angles)
            outputs.append(x)
        return outputs

    def final(self, x):
        return self.norm(x)
