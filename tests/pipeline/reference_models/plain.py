"""The ViT of MAE, DINO, iBOT and MoCo v3 (Dosovitskiy et al. 2021, pre-norm), and its heads and wrappers."""

import torch
from torch import nn


class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x):
        n, t, w = x.shape
        q, k, v = (part.view(n, t, self.heads, -1).transpose(1, 2) for part in self.qkv(x).split(w, dim=2))
        weights = torch.softmax(q @ k.transpose(2, 3) / (w // self.heads) ** 0.5, dim=-1)
        return self.proj((weights @ v).transpose(1, 2).reshape(n, t, w))


class Perceptron(nn.Module):
    def __init__(self, width, hidden=None):
        super().__init__()
        self.fc1 = nn.Linear(width, hidden or 4 * width)
        self.fc2 = nn.Linear(hidden or 4 * width, width)

    def forward(self, x):
        return self.fc2(nn.functional.gelu(self.fc1(x)))


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = Perceptron(width)

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class PatchEmbedding(nn.Module):
    def __init__(self, patch, width):
        super().__init__()
        self.proj = nn.Conv2d(3, width, patch, stride=patch)

    def forward(self, images):
        return self.proj(images).flatten(2).transpose(1, 2)


class PlainViT(nn.Module):
    block = Block

    def __init__(self, image=32, patch=8, width=48, depth=3, heads=4, pooled=False):
        super().__init__()
        self.patch_embed = PatchEmbedding(patch, width)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + (image // patch) ** 2, width))
        self.blocks = nn.ModuleList([self.block(width, heads) for _ in range(depth)])
        # MAE's fine-tuning code deletes `norm` when it pools.
        setattr(self, "fc_norm" if pooled else "norm", nn.LayerNorm(width, eps=1e-6))

    def tokens(self, images):
        patches = self.patch_embed(images)
        return torch.cat([self.cls_token.expand(len(images), -1, -1), patches], dim=1) + self.pos_embed

    def layers(self, images):
        x, outputs = self.tokens(images), []
        for block in self.blocks:
            x = block(x)
            outputs.append(x)
        return outputs

    def final(self, x):
        return self.norm(x)
