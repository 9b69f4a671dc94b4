"""What a frozen model is to the pipeline."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import nn

from stores.specs import ModelRecord


@dataclass(frozen=True)
class FrozenModel:
    """A module in evaluation mode, with the names of its parts.

    ``forward`` runs it on normalised pixels; ``blocks[l]``'s output is layer ``l``: prefix tokens first, then patch
    tokens row by row. ``norm`` is the final norm, None where there is none.
    """

    record: ModelRecord
    module: nn.Module
    forward: Callable[[Float[torch.Tensor, "sample 3 height width"]], object]
    blocks: Sequence[nn.Module]
    norm: nn.Module | None
    n_prefix: int
    grid: tuple[int, int]
    """Rows and columns of patches."""
    width: int
    """Channels of a token."""
    licence: str

    @property
    def n_patches(self) -> int:
        """Patch tokens of one input."""
        return self.grid[0] * self.grid[1]

    def normalise(
        self, pixels: Float[torch.Tensor, "sample height width 3"]
    ) -> Float[torch.Tensor, "sample 3 height width"]:
        """Return model inputs from RGB values 0..255: divided by 255 once, then the record's mean and std."""
        mean = torch.tensor(self.record.mean, device=pixels.device)
        std = torch.tensor(self.record.std, device=pixels.device)
        return ((pixels / 255.0 - mean) / std).permute(0, 3, 1, 2).contiguous()
