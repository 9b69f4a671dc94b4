"""Masked image modelling: MAE (arXiv 2111.06377) with two targets, and SimMIM (arXiv 2111.09886)."""

from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import nn

from demo.backbones.crops import Cropper, Images
from demo.backbones.encoder import GRID, PATCH, WIDTH, embed, encode
from demo.backbones.settings import Mae, Settings, SimMim
from pipeline.models.mae_decoder_module import DecoderModule

_EPSILON = 1e-6  # added to the variance of a patch, as where decoders are read


def patches_of(images: Images) -> Float[torch.Tensor, "sample patch value"]:
    """Cut images into patches row by row; the values of a patch are ordered by pixel row, pixel column, channel."""
    batch, channels, rows, columns = images.shape
    cells = images.reshape(batch, channels, rows // PATCH, PATCH, columns // PATCH, PATCH)
    return cells.permute(0, 2, 4, 3, 5, 1).reshape(batch, -1, PATCH * PATCH * channels)


class MaeObjective(nn.Module):
    """Mean squared error of the masked patches, which a decoder predicts from the encoded visible ones (section 3).

    The decoder is the project's own module for MAE's decoders, and is saved under the names that these have.
    """

    def __init__(self, settings: Settings, options: Mae) -> None:
        super().__init__()
        self.options, self.crops, self.batch = options, settings.crops, settings.optimisation.batch
        self.decoder = DecoderModule(WIDTH, (GRID, GRID), options.width, options.depth, options.heads, 3 * PATCH**2)
        self.decoder.pos_embed.requires_grad_(False)
        nn.init.normal_(self.decoder.masked, std=0.02)

    def loss(self, encoder: Any, cropper: Cropper) -> Float[torch.Tensor, ""]:
        """Return the loss of a new batch."""
        images, _ = cropper.crop(cropper.choose(self.batch), self.crops)
        n_patches = GRID * GRID
        order = cropper.uniform(len(images), n_patches).argsort(1)
        ids, _ = order[:, : int(n_patches * (1 - self.options.mask_ratio))].sort(1)
        predicted = self.decoder(encode(encoder, visible(embed(encoder, images), ids)), ids)
        masked = torch.ones(len(images), n_patches).scatter(1, ids, 0.0)
        error = (predicted.float() - self.targets(images)).square().mean(2)
        return (error * masked).sum() / masked.sum()

    def targets(self, images: Images) -> Float[torch.Tensor, "sample patch value"]:
        """Return pixels, or pixels minus their patch's mean over their standard deviation."""
        patches = patches_of(images)
        if self.options.target == "pixels":
            return patches
        mean, variance = patches.mean(2, keepdim=True), patches.var(2, keepdim=True)
        return (patches - mean) / (variance + _EPSILON).sqrt()

    def saved(self) -> dict[str, torch.Tensor]:
        """Return the decoder under MAE's key names, or nothing where the settings say so."""
        if not self.options.saves_decoder:
            return {}
        named = {f"decoder_{key}": value for key, value in self.decoder.state_dict().items() if key != "masked"}
        return {**named, "mask_token": self.decoder.masked.detach()}


def visible(
    tokens: Float[torch.Tensor, "sample token channel"], ids: Int64[torch.Tensor, "sample visible"]
) -> Float[torch.Tensor, "sample kept channel"]:
    """Return the class token and the tokens of the visible patches."""
    patches = tokens[:, 1:].gather(1, ids[:, :, None].expand(-1, -1, tokens.shape[2]))
    return torch.cat([tokens[:, :1], patches], 1)


class SimMimObjective(nn.Module):
    """Mean absolute error of masked pixels, which one linear layer predicts from all tokens (section 3)."""

    def __init__(self, settings: Settings, options: SimMim) -> None:
        super().__init__()
        self.options, self.crops, self.batch = options, settings.crops, settings.optimisation.batch
        self.mask_token = nn.Parameter(torch.zeros(1, 1, WIDTH))
        nn.init.normal_(self.mask_token, std=0.02)
        self.head = nn.Linear(WIDTH, 3 * PATCH**2)

    def loss(self, encoder: Any, cropper: Cropper) -> Float[torch.Tensor, ""]:
        """Return the loss of a new batch."""
        images, _ = cropper.crop(cropper.choose(self.batch), self.crops)
        masked = self.mask(cropper, len(images))
        # The mask token replaces the embedded patch, before its position is added.
        embedded = encoder.patch_embed(images)
        flags = masked.reshape(len(images), GRID, GRID, 1)
        embedded = torch.where(flags, self.mask_token[:, :, None].to(embedded.dtype), embedded)
        predicted = self.head(encode(encoder, encoder._pos_embed(embedded))[:, 1:])
        error = (predicted.float() - patches_of(images)).abs().mean(2)
        return (error * masked).sum() / masked.sum()

    def mask(self, cropper: Cropper, batch: int) -> Bool[torch.Tensor, "sample patch"]:
        """Return which patches are masked: squares of ``unit`` patches, the same number in every image."""
        side = -(-GRID // self.options.unit)
        order = cropper.uniform(batch, side * side).argsort(1).argsort(1)
        coarse = (order < round(self.options.mask_ratio * side * side)).reshape(batch, side, side)
        fine = coarse.repeat_interleave(self.options.unit, 1).repeat_interleave(self.options.unit, 2)
        return fine[:, :GRID, :GRID].reshape(batch, -1)

    def saved(self) -> dict[str, torch.Tensor]:
        """Return nothing: the head is of no use later."""
        return {}
