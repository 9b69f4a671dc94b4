"""MAE as its paper and repository describe it, in plain torch: the judge of our encoder path and decoder.

Written from arXiv 2111.06377 and the key names and shapes of facebookresearch/mae's checkpoints; it uses no timm and
nothing of ours. Weights are a flat dictionary in the official format.
"""

import math

import torch
from torch.nn import functional as F


def sin_cos_table(width, rows, columns, scale=1.0):
    """Half of the channels tell the column, half the row; each half is sines, then cosines. Class row: zeros."""
    table = torch.zeros(1 + rows * columns, width, dtype=torch.float64)
    quarter = width // 4
    for row in range(rows):
        for column in range(columns):
            for k in range(quarter):
                frequency = 10000.0 ** (-k / quarter)
                place = 1 + row * columns + column
                table[place, k] = math.sin(column * scale * frequency)
                table[place, quarter + k] = math.cos(column * scale * frequency)
                table[place, 2 * quarter + k] = math.sin(row * scale * frequency)
                table[place, 3 * quarter + k] = math.cos(row * scale * frequency)
    return table.float()


def random_weights(width=24, depth=3, patch=8, grid=4, decoder_width=16, decoder_depth=2, seed=0):
    """A state dict with the names and shapes of mae_visualize_vit_*.pth, every entry random but the tables."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape, scale=0.2):
        return torch.randn(*shape, generator=generator) * scale

    def block(name, w):
        return {
            **{f"{name}.{norm}.weight": 1 + draw(w) for norm in ("norm1", "norm2")},
            **{f"{name}.{norm}.bias": draw(w) for norm in ("norm1", "norm2")},
            f"{name}.attn.qkv.weight": draw(3 * w, w),
            f"{name}.attn.qkv.bias": draw(3 * w),
            f"{name}.attn.proj.weight": draw(w, w),
            f"{name}.attn.proj.bias": draw(w),
            f"{name}.mlp.fc1.weight": draw(4 * w, w),
            f"{name}.mlp.fc1.bias": draw(4 * w),
            f"{name}.mlp.fc2.weight": draw(w, 4 * w),
            f"{name}.mlp.fc2.bias": draw(w),
        }

    weights = {
        "cls_token": draw(1, 1, width),
        "pos_embed": sin_cos_table(width, grid, grid)[None],
        "patch_embed.proj.weight": draw(width, 3, patch, patch, scale=0.05),
        "patch_embed.proj.bias": draw(width),
        "norm.weight": 1 + draw(width),
        "norm.bias": draw(width),
        "mask_token": draw(1, 1, decoder_width),
        "decoder_embed.weight": draw(decoder_width, width),
        "decoder_embed.bias": draw(decoder_width),
        "decoder_pos_embed": sin_cos_table(decoder_width, grid, grid)[None],
        "decoder_norm.weight": 1 + draw(decoder_width),
        "decoder_norm.bias": draw(decoder_width),
        "decoder_pred.weight": draw(patch * patch * 3, decoder_width),
        "decoder_pred.bias": draw(patch * patch * 3),
    }
    for number in range(depth):
        weights |= block(f"blocks.{number}", width)
    for number in range(decoder_depth):
        weights |= block(f"decoder_blocks.{number}", decoder_width)
    return weights


def norm(weights, name, x):
    return F.layer_norm(x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"], eps=1e-6)


def linear(weights, name, x):
    return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def block(weights, name, x, heads):
    """Pre-norm attention and MLP with residuals; attention written out, not torch's fused one."""
    n, t, w = x.shape
    qkv = linear(weights, f"{name}.attn.qkv", norm(weights, f"{name}.norm1", x))
    q, k, v = qkv.reshape(n, t, 3, heads, w // heads).permute(2, 0, 3, 1, 4)
    shares = torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(w // heads), dim=-1)
    x = x + linear(weights, f"{name}.attn.proj", (shares @ v).transpose(1, 2).reshape(n, t, w))
    hidden = F.gelu(linear(weights, f"{name}.mlp.fc1", norm(weights, f"{name}.norm2", x)))
    return x + linear(weights, f"{name}.mlp.fc2", hidden)


def patches_of(images, patch):
    """Cut (sample, 3, height, width) into (sample, patch, values), values in the order row, column, channel."""
    n, channels, height, width = images.shape
    cells = images.reshape(n, channels, height // patch, patch, width // patch, patch)
    return cells.permute(0, 2, 4, 3, 5, 1).reshape(n, (height // patch) * (width // patch), -1)


def encode(weights, images, heads, ids_shuffle=None, n_keep=None, table=None):
    """Return every block's output and the normed last one; patches in the order of ids_shuffle[:, :n_keep]."""
    kernel = weights["patch_embed.proj.weight"]
    # A strided convolution is a product with the flattened patches.
    flat = patches_of(images, kernel.shape[-1]) @ kernel.permute(2, 3, 1, 0).reshape(-1, kernel.shape[0])
    table = weights["pos_embed"] if table is None else table
    x = flat + weights["patch_embed.proj.bias"] + table[:, 1:]
    if ids_shuffle is not None:
        x = torch.stack([one[order[:n_keep]] for one, order in zip(x, ids_shuffle, strict=True)])
    x = torch.cat([(weights["cls_token"] + table[:, :1]).expand(len(x), -1, -1), x], dim=1)
    layers = []
    while f"blocks.{len(layers)}.norm1.weight" in weights:
        x = block(weights, f"blocks.{len(layers)}", x, heads)
        layers.append(x)
    return layers, norm(weights, "norm", x)


def decode(weights, latent, ids_restore, heads):
    """The official decoder: append mask tokens, put every patch in its place, add positions, predict pixels."""
    x = linear(weights, "decoder_embed", latent)
    n_masked = ids_restore.shape[1] + 1 - x.shape[1]
    sequence = torch.cat([x[:, 1:], weights["mask_token"].expand(len(x), n_masked, -1)], dim=1)
    placed = torch.stack([one[order] for one, order in zip(sequence, ids_restore, strict=True)])
    x = torch.cat([x[:, :1], placed], dim=1) + weights["decoder_pos_embed"]
    number = 0
    while f"decoder_blocks.{number}.norm1.weight" in weights:
        x = block(weights, f"decoder_blocks.{number}", x, heads)
        number += 1
    return linear(weights, "decoder_pred", norm(weights, "decoder_norm", x))[:, 1:]
