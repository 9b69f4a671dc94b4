"""Contrastive learning with a momentum encoder: MoCo v3 (arXiv 2104.02057, algorithm 1)."""

import copy
import itertools
from typing import Any

import torch
from jaxtyping import Float
from torch import nn
from torch.nn import functional as F

from demo.backbones.crops import Cropper, Images
from demo.backbones.encoder import WIDTH, embed, encode, follow
from demo.backbones.settings import Moco, Settings


def _layers(*widths: int) -> nn.Sequential:
    """Return linear layers with BatchNorm and ReLU between them; the last BatchNorm has no parameters."""
    parts: list[nn.Module] = []
    for into, out in itertools.pairwise(widths[:-1]):
        parts += [nn.Linear(into, out, bias=False), nn.BatchNorm1d(out), nn.ReLU()]
    last = nn.Linear(widths[-2], widths[-1], bias=False), nn.BatchNorm1d(widths[-1], affine=False)
    return nn.Sequential(*parts, *last)


class MocoObjective(nn.Module):
    """InfoNCE: each crop has to find the other crop of its frame, encoded by the moving average, among a batch's."""

    def __init__(self, settings: Settings, options: Moco) -> None:
        super().__init__()
        self.options, self.crops, self.batch = options, settings.crops, settings.optimisation.batch
        self.steps, self.step = settings.optimisation.steps, 0
        self.projector = _layers(WIDTH, options.hidden, options.hidden, options.outputs)
        self.predictor = _layers(options.outputs, options.hidden, options.outputs)
        self.averaged: list[Any] = []  # in a list: no part of this module's parameters

    def loss(self, encoder: Any, cropper: Cropper) -> Float[torch.Tensor, ""]:
        """Return the loss of a new batch."""
        if not self.averaged:
            self.averaged = [copy.deepcopy(part).requires_grad_(False) for part in (encoder, self.projector)]
        chosen = cropper.choose(self.batch)
        views = [cropper.crop(chosen, self.crops)[0] for _ in range(2)]
        queries = [self.predictor(self.projector(_class_token(encoder, view))) for view in views]
        with torch.no_grad():
            keys = [self.averaged[1](_class_token(self.averaged[0], view)) for view in views]
        return self._info_nce(queries[0], keys[1]) + self._info_nce(queries[1], keys[0])

    def _info_nce(
        self, queries: Float[torch.Tensor, "view output"], keys: Float[torch.Tensor, "view output"]
    ) -> Float[torch.Tensor, ""]:
        cosines = F.normalize(queries.float(), dim=1) @ F.normalize(keys.float(), dim=1).T
        return F.cross_entropy(cosines / self.options.temperature, torch.arange(len(cosines)))

    def after_update(self, encoder: Any) -> None:
        """Move the averaged encoder a little towards the trained one."""
        follow(self.averaged, (encoder, self.projector), self.options.momentum, self.step / self.steps)
        self.step += 1

    def saved(self) -> dict[str, torch.Tensor]:
        """Return nothing: the heads are of no use later."""
        return {}


def _class_token(encoder: Any, images: Images) -> Float[torch.Tensor, "view channel"]:
    return encode(encoder, embed(encoder, images))[:, 0]
