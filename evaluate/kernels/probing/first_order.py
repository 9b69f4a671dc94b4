"""Linear probes trained for a fixed number of epochs by AdamW, as a reading of papers that do not name an optimiser.

A converged fit is, up to its penalty, invariant to rescaling features, so that it cannot show what BatchNorm changes in
training of fixed length. Defaults: AdamW (Loshchilov and Hutter, 2019) with learning rate 1e-3, no weight decay, ten
epochs in batches of 1,024 rows; BatchNorm is `BatchNorm1d(affine=False, eps=1e-6)` of facebookresearch/mae,
main_linprobe.py, in training mode, and predicts with its running statistics.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Integer

from evaluate.kernels.moments import EPSILON, Standardisation, read_float32
from evaluate.kernels.probing.lbfgs import Head
from evaluate.kernels.probing.probes import Probe
from stores.errors import UserError
from stores.specs import VOID

BATCH_ROWS = 1024


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
) -> tuple[Probe, ...]:
    """Train one probe for every set of kept features; equal seeds and threads give equal bits.

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
    """
    import torch

    used = np.flatnonzero(labels != VOID)
    if not len(used):
        raise UserError("no training patch has a label: choose other training images")
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
        optimiser = torch.optim.AdamW(linear.parameters(), lr=learning_rate, weight_decay=0.0)
        norm.train()
        steps, total = 0, 0.0
        for _ in range(epochs):
            order = used[torch.randperm(len(used), generator=generator).numpy()]
            total = 0.0
            for start in range(0, len(order), BATCH_ROWS):
                rows = order[start : start + BATCH_ROWS]
                if len(rows) < 2 and standardise and len(order) > 1:
                    continue  # BatchNorm has no statistics of one row
                batch = np.empty((len(rows), len(channels)), dtype=np.float32)
                read_float32(features[rows][:, channels], batch)
                targets = torch.from_numpy(labels[rows].astype(np.int64))
                loss = torch.nn.functional.cross_entropy(linear(norm(torch.from_numpy(batch))), targets)
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
                steps, total = steps + 1, total + float(loss.detach()) * len(rows)
        weight = np.zeros((n_classes, features.shape[1]))
        weight[:, channels] = linear.weight.detach().double().numpy()
        centre, standardisation = np.zeros(features.shape[1]), None
        if isinstance(norm, torch.nn.BatchNorm1d) and norm.running_mean is not None and norm.running_var is not None:
            centre[channels] = norm.running_mean.double().numpy()
            variance = np.ones(features.shape[1])
            variance[channels] = norm.running_var.double().numpy()
            standardisation = Standardisation(centre, variance)
        bias = linear.bias.detach().double().numpy()
        probes.append(
            Probe(Head(0.0, mask), weight, bias, centre, standardisation, total / len(used), float("nan"), steps,
                  False, f"trained for {epochs} epochs")
        )  # fmt: skip
    return tuple(probes)


def peak_bytes(n_classes: int, n_channels: int) -> int:
    """Return the bytes of training one probe beside its features: a batch, its gradients and AdamW's state."""
    return 4 * (6 * BATCH_ROWS * (n_channels + n_classes) + 6 * n_classes * n_channels)
