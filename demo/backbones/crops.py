"""Random crops of painted frames and random changes of their colours, in batches and from one generator.

Colours change as in SimCLR (arXiv 2002.05709, appendix A), with hue turned in YIQ, where a turn is one product.
"""

import math

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch.nn import functional as F

from demo.backbones.frames import HEIGHT, WIDTH, Frames
from demo.backbones.settings import Crops

_ASPECT = math.log(4 / 3)
_YIQ = torch.tensor([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
_RGB = torch.linalg.inv(_YIQ)

Images = Float[torch.Tensor, "sample 3 row column"]


class Cropper:
    """Draws crops of frames; equal generators give equal crops."""

    def __init__(self, frames: Frames, generator: torch.Generator) -> None:
        self._pictures = torch.from_numpy(np.ascontiguousarray(frames.pictures.transpose(0, 3, 1, 2)))
        self._classes = torch.from_numpy(frames.classes)
        self.generator = generator

    def uniform(self, *shape: int) -> torch.Tensor:
        """Return numbers of 0..1."""
        return torch.rand(shape, generator=self.generator)

    def choose(self, batch: int) -> Int64[torch.Tensor, " sample"]:
        """Return the frames of a batch, with repetition."""
        return torch.randint(len(self._pictures), (batch,), generator=self.generator)

    def crop(
        self, chosen: Int64[torch.Tensor, " sample"], crops: Crops, *, with_classes: bool = False
    ) -> tuple[Images, Int64[torch.Tensor, "sample row column"] | None]:
        """Return one crop of each chosen frame, values -1..1, and the classes of its pixels if asked for.

        Args:
            chosen: Numbers of frames.
            crops: Size of the crops and what is done to them.
            with_classes: Also return classes, nearest pixel.
        """
        grid = self._grid(len(chosen), crops)
        pictures = self._pictures[chosen].float() / 255
        images = F.grid_sample(pictures, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
        images = self._recoloured(images.clamp(0, 1), crops)
        classes = None
        if with_classes:
            values = self._classes[chosen][:, None].float()
            nearest = F.grid_sample(values, grid, mode="nearest", padding_mode="reflection", align_corners=False)
            classes = nearest[:, 0].round().long()
        return images * 2 - 1, classes

    def _grid(self, batch: int, crops: Crops) -> Float[torch.Tensor, "sample row column 2"]:
        """Return the sampling positions of crops within random places of the frames, half of them flipped."""
        drawn = self.uniform(5, batch)
        low, high = crops.area
        area = (low + (high - low) * drawn[0]) * HEIGHT * HEIGHT  # a tile is as wide as the frame is high
        aspect = torch.exp(_ASPECT * (2 * drawn[1] - 1))
        wide, high_ = (torch.sqrt(area * aspect)).clamp(max=HEIGHT), (torch.sqrt(area / aspect)).clamp(max=HEIGHT)
        x, y = wide / 2 + (WIDTH - wide) * drawn[2], high_ / 2 + (HEIGHT - high_) * drawn[3]
        flip = torch.where(drawn[4] < 0.5, -1.0, 1.0)
        theta = torch.zeros(batch, 2, 3)
        theta[:, 0, 0], theta[:, 0, 2] = flip * wide / WIDTH, 2 * x / WIDTH - 1
        theta[:, 1, 1], theta[:, 1, 2] = high_ / HEIGHT, 2 * y / HEIGHT - 1
        return F.affine_grid(theta, [batch, 3, crops.pixels, crops.pixels], align_corners=False)

    def _recoloured(self, images: Images, crops: Crops) -> Images:
        batch = len(images)
        if crops.jitter:
            drawn = self.uniform(5, batch, 1, 1, 1)
            changed = _jittered(images, crops.strength, drawn)
            images = torch.where(drawn[4] < crops.jitter, changed, images)
        if crops.grey:
            grey = torch.einsum("c,bchw->bhw", _YIQ[0], images)[:, None].expand_as(images)
            images = torch.where(self.uniform(batch, 1, 1, 1) < crops.grey, grey, images)
        if crops.blur:
            drawn = self.uniform(2, batch)
            blurred = _blurred(images, 0.1 + 1.4 * drawn[0])
            images = torch.where((drawn[1] < crops.blur)[:, None, None, None], blurred, images)
        if crops.solarise:
            inverted = torch.where(images > 0.5, 1 - images, images)
            images = torch.where(self.uniform(batch, 1, 1, 1) < crops.solarise, inverted, images)
        return images


def _jittered(images: Images, strength: float, drawn: Float[torch.Tensor, "5 sample 1 1 1"]) -> Images:
    """Change brightness, contrast, saturation and hue, in this order."""
    turn = 2 * drawn - 1
    images = images * (1 + 0.8 * strength * turn[0])
    mean = images.mean((1, 2, 3), keepdim=True)
    images = mean + (images - mean) * (1 + 0.8 * strength * turn[1])
    yiq = torch.einsum("dc,bchw->bdhw", _YIQ, images)
    angle = 2 * math.pi * 0.2 * strength * turn[3]
    gain = 1 + 0.4 * strength * turn[2]
    cosine, sine = gain * torch.cos(angle), gain * torch.sin(angle)
    y, i, q = yiq[:, :1], yiq[:, 1:2], yiq[:, 2:]
    yiq = torch.cat([y, cosine * i - sine * q, sine * i + cosine * q], 1)
    return torch.einsum("dc,bchw->bdhw", _RGB, yiq).clamp(0, 1)


def _blurred(images: Images, sigma: Float[torch.Tensor, " sample"]) -> Images:
    """Blur each image by its own Gaussian, cut off at 4 px."""
    offsets = torch.arange(-4, 5, dtype=torch.float32)
    weights = torch.exp(-(offsets**2) / (2 * sigma[:, None] ** 2))
    weights = (weights / weights.sum(1, keepdim=True)).repeat_interleave(3, 0)[:, None, None]
    batch, channels, rows, columns = images.shape
    flat = F.pad(images, (4, 4, 4, 4), mode="reflect").reshape(1, batch * channels, rows + 8, columns + 8)
    flat = F.conv2d(flat, weights, groups=batch * channels)
    flat = F.conv2d(flat, weights.transpose(2, 3), groups=batch * channels)
    return flat.reshape(batch, channels, rows, columns)
