"""Attentive probe: a learned query attends to all patch tokens of an input, and a linear layer reads what it collects.

One block of cross-attention with a learned query, as in V-JEPA's evaluation (Bardes et al., 2024, section 4.2) without
its MLP: layer norm, multi-head attention with 64 channels a head, linear classifier. Trained by AdamW for fixed epochs
without weight decay; seeded, so that equal threads give equal bits. Where classes need what single patches know, it
tells more than a probe of their mean.
"""

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64, Int64
from torch import nn

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

    def __init__(self, module: nn.Module, loss: float) -> None:
        self._module = module
        self.loss = loss
        """Mean cross-entropy of the last epoch, in nats."""

    def scores(self, tokens: Float[np.ndarray, "row patch channel"]) -> Float64[np.ndarray, "row classes"]:
        """Return the logits of some rows."""
        with torch.inference_mode():
            parts = [self._module(torch.from_numpy(block)) for block in _blocks(tokens, np.arange(len(tokens)))]
        return torch.cat(parts).double().numpy()


def fit_attentive(
    tokens: Float[np.ndarray, "row patch channel"],
    classes: Int64[np.ndarray, " row"],
    n_classes: int,
    *,
    seed: int,
    epochs: int,
    learning_rate: float,
) -> AttentiveProbe:
    """Train an attentive probe.

    Args:
        tokens: Patch tokens of training rows, as stored.
        classes: Their classes.
        n_classes: Classes of the class table.
        seed: Seed of the initial weights and of the order of rows.
        epochs: Passes over the rows.
        learning_rate: Learning rate of AdamW.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = _Pooling(tokens.shape[-1], n_classes)
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.AdamW(module.parameters(), lr=learning_rate, weight_decay=0.0)
    loss = float("nan")
    for _ in range(epochs):
        total = 0.0
        order = torch.randperm(len(tokens), generator=generator).numpy()
        targets = torch.from_numpy(classes[order])
        for number, block in enumerate(_blocks(tokens, order)):
            some = targets[number * BATCH_ROWS : number * BATCH_ROWS + len(block)]
            one = nn.functional.cross_entropy(module(torch.from_numpy(block)), some)
            optimiser.zero_grad()
            one.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            total += one.item() * len(block)
        loss = total / len(tokens)
    return AttentiveProbe(module.eval(), loss)


def _blocks(
    tokens: Float[np.ndarray, "row patch channel"], order: Int64[np.ndarray, " some"]
) -> Iterator[Float32[np.ndarray, "batch patch channel"]]:
    """Yield batches of rows in an order, in float32."""
    for start in range(0, len(order), BATCH_ROWS):
        yield tokens[order[start : start + BATCH_ROWS]].astype(np.float32)
