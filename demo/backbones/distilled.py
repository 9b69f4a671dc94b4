"""Self-distillation without labels: DINO (arXiv 2104.14294, section 3.1 and algorithm 1) with multi-crop, and iBOT."""

import copy
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import nn
from torch.nn import functional as F

from demo.backbones.crops import Cropper, Images
from demo.backbones.encoder import PATCH, WIDTH, embed, encode, follow
from demo.backbones.settings import Dino, Settings


class Head(nn.Module):
    """DINO's projection head: three layers, a unit vector, and a last layer whose rows are unit vectors.

    With BatchNorm, as DINO's code has it as an option: class tokens of an untrained encoder hardly differ, and without
    it the teacher's outputs were the same for all crops.
    """

    def __init__(self, options: Dino) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(WIDTH, options.hidden),
            nn.BatchNorm1d(options.hidden),
            nn.GELU(),
            nn.Linear(options.hidden, options.hidden),
            nn.BatchNorm1d(options.hidden),
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
        self.centres = {of: torch.zeros(1, options.outputs) for of in ("class", "patches")}
        self.mask_token = nn.Parameter(torch.zeros(WIDTH))

    def loss(self, encoder: Any, cropper: Cropper) -> Float[torch.Tensor, ""]:
        """Return the loss of a new batch."""
        if not self.teacher:
            self.teacher = [copy.deepcopy(part).requires_grad_(False) for part in (encoder, self.head)]
        chosen = cropper.choose(self.batch)
        large = torch.cat([cropper.crop(chosen, self.crops)[0] for _ in range(2)])
        masked = self.mask(cropper, large) if self.options.masked_share else None
        tokens = self.student_tokens(encoder, large, masked)
        student = list(self.head(tokens[:, 0]).chunk(2))
        if self.options.small_crops:
            small = torch.cat([cropper.crop(chosen, self.options.small)[0] for _ in range(self.options.small_crops)])
            outputs = self.head(self.student_tokens(encoder, small)[:, 0])
            student += outputs.chunk(self.options.small_crops)
        with torch.no_grad():
            teacher_tokens = encode(self.teacher[0], embed(self.teacher[0], large))
            targets = self.targets(self.teacher[1](teacher_tokens[:, 0]), "class").chunk(2)
        losses = [
            self.cross_entropy(target, outputs)
            for own, target in enumerate(targets)
            for view, outputs in enumerate(student)
            if view != own
        ]
        loss = torch.stack(losses).mean()
        if masked is not None:
            with torch.no_grad():
                patch_targets = self.targets(self.teacher[1](teacher_tokens[:, 1:][masked]), "patches")
            loss = loss + self.cross_entropy(patch_targets, self.head(tokens[:, 1:][masked]))
        return loss

    def student_tokens(
        self, encoder: Any, images: Images, masked: Bool[torch.Tensor, "view patch"] | None = None
    ) -> Float[torch.Tensor, "view token channel"]:
        """Return the encoded tokens, with the mask token in place of the embedded patches that are masked."""
        if masked is None:
            return encode(encoder, embed(encoder, images))
        embedded = encoder.patch_embed(images)
        flags = masked.reshape(*embedded.shape[:3], 1)
        return encode(encoder, encoder._pos_embed(torch.where(flags, self.mask_token.to(embedded.dtype), embedded)))

    def mask(self, cropper: Cropper, images: Images) -> Bool[torch.Tensor, "view patch"]:
        """Return which patches are masked: the same number in every view, at random places."""
        n_patches = (images.shape[2] // PATCH) * (images.shape[3] // PATCH)
        order = cropper.uniform(len(images), n_patches).argsort(1).argsort(1)
        return order < round(self.options.masked_share * n_patches)

    def cross_entropy(
        self, targets: Float[torch.Tensor, "view output"], outputs: Float[torch.Tensor, "view output"]
    ) -> Float[torch.Tensor, ""]:
        """Return the mean cross-entropy of the student's outputs with the teacher's probabilities."""
        return -(targets * (outputs / self.options.student_temperature).log_softmax(1)).sum(1).mean()

    def targets(
        self, outputs: Float[torch.Tensor, "view output"], of: Literal["class", "patches"]
    ) -> Float[torch.Tensor, "view output"]:
        """Return the teacher's probabilities, spread over all outputs as the settings say.

        Class tokens and patches have a centre each.
        """
        if self.options.balance == "sinkhorn":
            return sinkhorn(outputs / self.options.teacher_temperature)
        targets = ((outputs - self.centres[of]) / self.options.teacher_temperature).softmax(1)
        keep = self.options.centre_momentum
        self.centres[of] = keep * self.centres[of] + (1 - keep) * outputs.mean(0, keepdim=True)
        return targets

    def before_update(self) -> None:
        """Keep the last layer as it is during the first steps, which keeps the outputs from collapsing."""
        if self.step < self.options.freeze_last:
            self.head.last.grad = None

    def after_update(self, encoder: Any) -> None:
        """Move the teacher a little towards the student."""
        follow(self.teacher, (encoder, self.head), self.options.momentum, self.step / self.steps)
        self.step += 1

    def trained(self, encoder: Any) -> Any:
        """Return the teacher, whose features are the better ones (section 5)."""
        return self.teacher[0] if self.teacher else encoder

    def saved(self) -> dict[str, torch.Tensor]:
        """Return nothing: the head is of no use later."""
        return {}


def sinkhorn(logits: Float[torch.Tensor, "view output"], rounds: int = 3) -> Float[torch.Tensor, "view output"]:
    """Return probabilities a view that use all outputs equally often: SwAV's assignment (arXiv 2006.09882, eq. 4)."""
    logged = logits.double()
    for _ in range(rounds):
        logged = logged - logged.logsumexp(0, keepdim=True)
        logged = logged - logged.logsumexp(1, keepdim=True)
    return logged.exp().to(logits.dtype)
