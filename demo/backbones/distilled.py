"""Self-distillation without labels: DINO (arXiv 2104.14294, section 3.1 and algorithm 1) with multi-crop."""

import copy
import math
from typing import Any

import torch
from jaxtyping import Float
from torch import nn
from torch.nn import functional as F

from demo.backbones.crops import Cropper, Images
from demo.backbones.encoder import WIDTH, embed, encode
from demo.backbones.settings import Dino, Settings


class Head(nn.Module):
    """DINO's projection head: three layers, a unit vector, and a last layer whose rows are unit vectors."""

    def __init__(self, options: Dino) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(WIDTH, options.hidden),
            nn.GELU(),
            nn.Linear(options.hidden, options.hidden),
            nn.GELU(),
            nn.Linear(options.hidden, options.bottleneck),
        )
        for layer in self.layers:
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)
        self.last = nn.Parameter(torch.randn(options.outputs, options.bottleneck))

    def forward(self, tokens: Float[torch.Tensor, "view channel"]) -> Float[torch.Tensor, "view output"]:
        """Return the cosines with the rows of the last layer, in float32."""
        return F.normalize(self.layers(tokens).float(), dim=1) @ F.normalize(self.last, dim=1).T


class DinoObjective(nn.Module):
    """Cross-entropy of the student's outputs with the teacher's on other crops of the same frame."""

    def __init__(self, settings: Settings, options: Dino) -> None:
        super().__init__()
        self.options, self.crops, self.batch = options, settings.crops, settings.optimisation.batch
        self.steps, self.step = settings.optimisation.steps, 0
        self.head = Head(options)
        self.teacher: list[Any] = []  # in a list: no part of this module's parameters
        self.centre = torch.zeros(1, options.outputs)

    def loss(self, encoder: Any, cropper: Cropper) -> Float[torch.Tensor, ""]:
        """Return the loss of a new batch."""
        if not self.teacher:
            self.teacher = [copy.deepcopy(part).requires_grad_(False) for part in (encoder, self.head)]
        chosen = cropper.choose(self.batch)
        large = torch.cat([cropper.crop(chosen, self.crops)[0] for _ in range(2)])
        student = [self.head(_class_token(encoder, large)).chunk(2)]
        if self.options.small_crops:
            small = torch.cat([cropper.crop(chosen, self.options.small)[0] for _ in range(self.options.small_crops)])
            student.append(self.head(_class_token(encoder, small)).chunk(self.options.small_crops))
        with torch.no_grad():
            outputs = self.teacher[1](_class_token(self.teacher[0], large))
            targets = ((outputs - self.centre) / self.options.teacher_temperature).softmax(1).chunk(2)
            keep = self.options.centre_momentum
            self.centre = keep * self.centre + (1 - keep) * outputs.mean(0, keepdim=True)
        guesses = [(view / self.options.student_temperature).log_softmax(1) for views in student for view in views]
        losses = [
            -(target * guess).sum(1).mean()
            for own, target in enumerate(targets)
            for view, guess in enumerate(guesses)
            if view != own
        ]
        return torch.stack(losses).mean()

    def before_update(self) -> None:
        """Keep the last layer as it is during the first steps, which keeps the outputs from collapsing."""
        if self.step < self.options.freeze_last:
            self.head.last.grad = None

    @torch.no_grad()
    def after_update(self, encoder: Any) -> None:
        """Move the teacher a little towards the student."""
        rise = (math.cos(math.pi * self.step / self.steps) + 1) / 2
        momentum = 1 - (1 - self.options.momentum) * rise
        for mine, own in zip(self.teacher, (encoder, self.head), strict=True):
            for kept, new in zip(mine.parameters(), own.parameters(), strict=True):
                kept.lerp_(new, 1 - momentum)
        self.step += 1

    def trained(self, encoder: Any) -> Any:
        """Return the teacher, whose features are the better ones (section 5)."""
        return self.teacher[0] if self.teacher else encoder

    def saved(self) -> dict[str, torch.Tensor]:
        """Return nothing: the head is of no use later."""
        return {}


def _class_token(encoder: Any, images: Images) -> Float[torch.Tensor, "view channel"]:
    return encode(encoder, embed(encoder, images))[:, 0]
