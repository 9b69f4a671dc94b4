"""Supervision by the painted labels: the class of every patch, or the classes that an image holds."""

from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import nn
from torch.nn import functional as F

from demo.backbones.crops import Cropper
from demo.backbones.encoder import GRID, WIDTH, embed, encode
from demo.backbones.frames import VOID
from demo.backbones.settings import Settings, Supervised
from pipeline.datasets.cityscapes import CLASSES
from pipeline.labels.patch_labels import patch_labels


class SupervisedObjective(nn.Module):
    """Cross-entropy of one linear layer on the patch tokens, or binary cross-entropy of one on the class token."""

    def __init__(self, settings: Settings, options: Supervised) -> None:
        super().__init__()
        self.options, self.crops, self.batch = options, settings.crops, settings.optimisation.batch
        self.head = nn.Linear(WIDTH, len(CLASSES))
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def loss(self, encoder: Any, cropper: Cropper) -> Float[torch.Tensor, ""]:
        """Return the loss of a new batch."""
        images, classes = cropper.crop(cropper.choose(self.batch), self.crops, with_classes=True)
        assert classes is not None
        tokens = encode(encoder, embed(encoder, images))
        if self.options.labels == "image":
            return F.binary_cross_entropy_with_logits(self.head(tokens[:, 0]).float(), self.present(classes))
        labels = torch.from_numpy(patch_labels(classes.to(torch.uint8).numpy(), GRID, GRID)).long()
        return F.cross_entropy(self.head(tokens[:, 1:]).float().transpose(1, 2), labels, ignore_index=VOID)

    def present(self, classes: Int64[torch.Tensor, "sample row column"]) -> Float[torch.Tensor, "sample class"]:
        """Return 1 for the classes that cover enough of an image, 0 for the others."""
        shares = [(classes == entry.id).float().mean((1, 2)) for entry in CLASSES]
        return (torch.stack(shares, 1) >= self.options.least_share).float()

    def saved(self) -> dict[str, torch.Tensor]:
        """Return nothing: the classifier is of no use later."""
        return {}
