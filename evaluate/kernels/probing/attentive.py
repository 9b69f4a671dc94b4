"""Attentive probe: a learned query attends to all patch tokens of an input, and a linear layer reads what it collects.

One block of cross-attention with a learned query, as in V-JEPA's evaluation (Bardes et al., 2024, section 4.2) without
its MLP: layer norm, multi-head attention with 64 channels a head, linear classifier. Trained by AdamW for fixed epochs
without weight decay; seeded, so that equal threads give equal bits. Where classes need what single patches know, it
tells more than a probe of their mean.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

BATCH_ROWS = 64
HEAD_CHANNELS = 64


class _Pooling(nn.Module):
    """Logits of tokens ``(row, patch, channel)``."""

    def __init__(self, n_channels: int, n_classes: int) -> None:
        super().__init__()
        n_heads = max(1, n_channels // HEAD_CHANNELS)
        while n_channels % n_heads:
            n_heads -= 1
        self.norm = nn.LayerNorm(n_channels)
        self.query = nn.Parameter(0.02 * torch.randn(1, 1, n_channels))
        self.attention = nn.MultiheadAttention(n_channels, n_heads, batch_first=True)
        self.linear = nn.Linear(n_channels, n_classes)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        normed = self.norm(tokens)
        collected, _ = self.attention(self.query.expand(len(tokens), -1, -1), normed, normed, need_weights=False)
        logits: torch.Tensor = self.linear(collected[:, 0])
        return logits


class AttentiveProbe:
    """A fitted attentive probe."""

    def __init__(self, module: nn.Module, loss: float, device: str | None = None) -> None:
        self._module, self._device = module, device
        self.loss = loss
        """Mean cross-entropy of the last epoch, in nats."""

    def scores(self, tokens: Float[np.ndarray, "row patch channel"]) -> Float64[np.ndarray, "row classes"]:
        """Return the logits of some rows."""
        with torch.inference_mode(), _repeatable(self._device):
            parts = [self._module(block) for block in _blocks(tokens, np.arange(len(tokens)), self._device)]
        return torch.cat(parts).double().cpu().numpy()


def fit_attentive(
    tokens: Float[np.ndarray, "row patch channel"],
    classes: Int64[np.ndarray, " row"],
    n_classes: int,
    *,
    seed: int,
    epochs: int,
    learning_rate: float,
    device: str | None = None,
) -> AttentiveProbe:
    """Train an attentive probe.

    Args:
        tokens: Patch tokens of training rows, as stored.
        classes: Their classes.
        n_classes: Classes of the class table.
        seed: Seed of the initial weights and of the order of rows.
        epochs: Passes over the rows.
        learning_rate: Learning rate of AdamW.
        device: Where torch computes, such as ``cuda``; None for the processor. Initial weights and the order of rows
            are equal everywhere, last bits are the device's own.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = _Pooling(tokens.shape[-1], n_classes)
    module = module.to(device or "cpu")
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.AdamW(module.parameters(), lr=learning_rate, weight_decay=0.0)
    total = torch.zeros((), dtype=torch.float64, device=device or "cpu")
    with _repeatable(device):
        for _ in range(epochs):
            total.zero_()
            order = torch.randperm(len(tokens), generator=generator).numpy()
            targets = torch.from_numpy(classes[order]).to(device or "cpu")
            for number, block in enumerate(_blocks(tokens, order, device)):
                some = targets[number * BATCH_ROWS : number * BATCH_ROWS + len(block)]
                one = nn.functional.cross_entropy(module(block), some)
                optimiser.zero_grad()
                one.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
                total += one.detach().double() * len(block)  # on the device, which need not wait for every step
    return AttentiveProbe(module.eval(), float(total) / len(tokens) if epochs else float("nan"), device)


def _repeatable(device: str | None) -> AbstractContextManager[None]:
    """Keep a device from attention whose gradients are added in no fixed order."""
    return nullcontext() if device is None else sdpa_kernel(SDPBackend.MATH)


def _blocks(
    tokens: Float[np.ndarray, "row patch channel"], order: Int64[np.ndarray, " some"], device: str | None
) -> Iterator[torch.Tensor]:
    """Yield batches of rows in an order, in float32; they are converted where they are used."""
    for start in range(0, len(order), BATCH_ROWS):
        yield torch.from_numpy(tokens[order[start : start + BATCH_ROWS]]).to(device or "cpu").float()
