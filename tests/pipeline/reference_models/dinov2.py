"""DINOv2 (Oquab et al. 2023): layer scale, registers (Darcet et al. 2023), positions interpolated as by its hub."""

import math

import torch
from torch import nn

from tests.pipeline.reference_models.plain import Block, PlainViT


class Scale(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return self.gamma * x


class ScaledBlock(Block):
    def __init__(self, width, heads):
        super().__init__(width, heads)
        self.ls1, self.ls2 = Scale(width), Scale(width)

    def forward(self, x):
        x = x + self.ls1(self.attn(self.norm1(x)))
        return x + self.ls2(self.mlp(self.norm2(x)))


class DINOv2(PlainViT):
    block = ScaledBlock

    def __init__(self, image=32, patch=8, width=48, depth=3, heads=4, registers=0):
        super().__init__(image, patch, width, depth, heads)
        self.patch = patch
        self.mask_token = nn.Parameter(torch.zeros(1, width))
        if registers:
            self.register_tokens = nn.Parameter(torch.zeros(1, registers, width))

    def positions(self, rows, columns):
        side = math.isqrt(self.pos_embed.shape[1] - 1)
        if (rows, columns) == (side, side):
            return self.pos_embed
        if hasattr(self, "register_tokens"):  # the hub: antialiased, to the exact size
            patches = nn.functional.interpolate(
                self.pos_embed[:, 1:].unflatten(1, (side, side)).permute(0, 3, 1, 2),
                size=(rows, columns),
                mode="bicubic",
                antialias=True,
            )
            patches = patches.flatten(2).transpose(1, 2)
        else:
            patches = hub_positions(self.pos_embed[0, 1:], rows, columns)[None]
        return torch.cat([self.pos_embed[:, :1], patches], dim=1)

    def tokens(self, images):
        patches = self.patch_embed(images)
        x = torch.cat([self.cls_token.expand(len(images), -1, -1), patches], dim=1)
        x = x + self.positions(images.shape[2] // self.patch, images.shape[3] // self.patch)
        if hasattr(self, "register_tokens"):
            x = torch.cat([x[:, :1], self.register_tokens.expand(len(images), -1, -1), x[:, 1:]], dim=1)
        return x


def cubic(distance):
    """Keys' kernel with a = -0.75, torch's."""
    near, d = abs(distance) <= 1, abs(distance)
    return 1.25 * d**3 - 2.25 * d**2 + 1 if near else -0.75 * (d**3 - 5 * d**2 + 8 * d - 4) if d < 2 else 0.0


def hub_positions(patches, rows, columns):
    """Interpolate (side * side, channel) positions in float64: sample i lies at (i + 1/2) / factor - 1/2."""
    side = math.isqrt(len(patches))
    matrices = []
    for wanted in (rows, columns):
        matrix = torch.zeros(wanted, side, dtype=torch.float64)
        for i in range(wanted):
            centre = (i + 0.5) / ((wanted + 0.1) / side) - 0.5
            for tap in range(math.floor(centre) - 1, math.floor(centre) + 3):
                matrix[i, min(max(tap, 0), side - 1)] += cubic(centre - tap)
        matrices.append(matrix)
    plane = patches.detach().double().unflatten(0, (side, side))
    return torch.einsum("rs,ct,stw->rcw", *matrices, plane).flatten(0, 1).float()
