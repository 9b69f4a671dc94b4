"""Linear probes trained for a fixed number of epochs by AdamW, as a reading of papers that do not name an optimiser.

A converged fit is, up to its penalty, invariant to rescaling features, so that it cannot show what BatchNorm changes in
training of fixed length. Defaults: AdamW (Loshchilov and Hutter, 2019) with learning rate 1e-3, no weight decay, ten
epochs in batches of 1,024 rows; BatchNorm is `BatchNorm1d(affine=False, eps=1e-6)` of facebookresearch/mae,
main_linprobe.py, in training mode, and predicts with its running statistics.
"""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float, Int64, Integer

from evaluate.kernels.moments import EPSILON, Standardisation, read_float32
from evaluate.kernels.probing.lbfgs import Head
from evaluate.kernels.probing.probes import Probe
from stores.errors import UserError
from stores.specs import VOID

if TYPE_CHECKING:
    import torch

BATCH_ROWS = 1024
HELD_SHARE = 0.5
"""Share of a device's free memory that training rows may take to stay there; larger ones are copied batch by batch."""
_COPIED = 1 << 26  # bytes of a piece of rows on its way to a device


def fit_adamw(
    features: Float[np.ndarray, "row channel"],
    labels: Integer[np.ndarray, " row"],
    n_classes: int,
    kept: Sequence[Bool[np.ndarray, " channel"] | None],
    *,
    standardise: bool,
    seed: int,
    epochs: int = 10,
    learning_rate: float = 1e-3,
    device: str | None = None,
) -> tuple[Probe, ...]:
    """Train one probe for every set of kept features; equal seeds, threads and devices give equal bits.

    ``Probe.objective`` is the mean cross-entropy of the last epoch in nats, ``iterations`` the number of steps, and
    ``converged`` false: nothing is tested. Raises UserError when no row is labelled.

    Args:
        features: training rows.
        labels: class of each row, 255 for void, which is left out.
        n_classes: classes of the class table.
        kept: masks of kept features, None for all; one probe is trained for each.
        standardise: whether BatchNorm comes before the linear layer.
        seed: seed of the initial weights and of the order of rows.
        epochs: passes over the rows.
        learning_rate: learning rate of AdamW.
        device: where torch computes the steps, such as ``cuda``; None for the processor. Initial weights and the order
            of rows are equal everywhere, last bits are the device's own.
    """
    import torch

    used = np.flatnonzero(labels != VOID)
    if not len(used):
        raise UserError("no training patch has a label: choose other training images")
    batches = _Batches(features, labels, device)
    probes = []
    for mask in kept:
        channels = np.arange(features.shape[1]) if mask is None else np.flatnonzero(mask)
        generator = torch.Generator().manual_seed(seed)
        linear = torch.nn.Linear(len(channels), n_classes)
        norm = torch.nn.BatchNorm1d(len(channels), eps=EPSILON, affine=False) if standardise else torch.nn.Identity()
        with torch.no_grad():
            bound = 1.0 / np.sqrt(len(channels))
            linear.weight.uniform_(-bound, bound, generator=generator)
            linear.bias.zero_()
        linear, norm = linear.to(batches.device), norm.to(batches.device)
        optimiser = torch.optim.AdamW(linear.parameters(), lr=learning_rate, weight_decay=0.0)
        norm.train()
        steps, total = 0, torch.zeros((), dtype=torch.float64, device=batches.device)
        for _ in range(epochs):
            order = used[torch.randperm(len(used), generator=generator).numpy()]
            total.zero_()
            for start in range(0, len(order), BATCH_ROWS):
                rows = order[start : start + BATCH_ROWS]
                if len(rows) < 2 and standardise and len(order) > 1:
                    continue  # BatchNorm has no statistics of one row
                batch, targets = batches.of(rows, channels)
                loss = torch.nn.functional.cross_entropy(linear(norm(batch)), targets)
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
                steps += 1
                total += loss.detach().double() * len(rows)  # on the device, which need not wait for every step
        weight = np.zeros((n_classes, features.shape[1]))
        weight[:, channels] = linear.weight.detach().double().cpu().numpy()
        centre, standardisation = np.zeros(features.shape[1]), None
        if isinstance(norm, torch.nn.BatchNorm1d) and norm.running_mean is not None and norm.running_var is not None:
            centre[channels] = norm.running_mean.double().cpu().numpy()
            variance = np.ones(features.shape[1])
            variance[channels] = norm.running_var.double().cpu().numpy()
            standardisation = Standardisation(centre, variance)
        bias = linear.bias.detach().double().cpu().numpy()
        probes.append(
            Probe(Head(0.0, mask), weight, bias, centre, standardisation, float(total) / len(used), float("nan"), steps,
                  False, f"trained for {epochs} epochs")
        )  # fmt: skip
    return tuple(probes)


class _Batches:
    """Chosen training rows with their targets as batches on a device.

    Args:
        features: training rows.
        labels: class of each row.
        device: torch's name of it; None for the processor, which reads every batch from ``features``.
    """

    def __init__(
        self, features: Float[np.ndarray, "row channel"], labels: Integer[np.ndarray, " row"], device: str | None
    ) -> None:
        self._features, self._labels = features, labels
        self.device = device or "cpu"
        self._held = None if device is None else _held_on(device, features)

    def of(
        self, rows: Int64[np.ndarray, " batch"], channels: Int64[np.ndarray, " kept"]
    ) -> "tuple[torch.Tensor, torch.Tensor]":
        """Return some channels of some rows in float32, and the targets of the rows."""
        import torch

        targets = torch.from_numpy(self._labels[rows].astype(np.int64)).to(self.device)
        if self._held is not None:
            chosen = self._held.index_select(0, torch.from_numpy(rows).to(self.device))
            if len(channels) < chosen.shape[1]:
                chosen = chosen.index_select(1, torch.from_numpy(channels).to(self.device))
            return chosen.float(), targets
        batch = np.empty((len(rows), len(channels)), dtype=np.float32)
        read_float32(self._features[rows][:, channels], batch)
        return torch.from_numpy(batch).to(self.device), targets


def _held_on(device: str, features: Float[np.ndarray, "row channel"]) -> "torch.Tensor | None":
    """Return all rows on a device in the stored type, or None where they would take too much of its memory."""
    import torch

    free = torch.cuda.mem_get_info(device)[0] if device.startswith("cuda") else sys.maxsize
    if features.nbytes > HELD_SHARE * free:
        return None
    held = torch.empty(features.shape, dtype=torch.from_numpy(np.empty(0, features.dtype)).dtype, device=device)
    step = max(1, _COPIED // max(1, features.shape[1] * features.itemsize))
    for start in range(0, len(features), step):
        held[start : start + step] = torch.from_numpy(np.array(features[start : start + step])).to(device)
    return held


def peak_bytes(n_classes: int, n_channels: int) -> int:
    """Return the bytes of training one probe beside its features: a batch, its gradients and AdamW's state."""
    return 4 * (6 * BATCH_ROWS * (n_channels + n_classes) + 6 * n_classes * n_channels)
