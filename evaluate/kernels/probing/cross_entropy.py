"""Mean cross-entropy of many linear heads and its gradients, in one pass over the rows by all cores.

A block of rows is one product in one thread, with BLAS held to one thread: BLAS's own threads wait for each other in a
loop after every small product, which took up to five times the processor time of the products on a busy machine. Sums
of blocks are added in their order, so that the number of threads changes no bit.
"""

import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Float, Float32, Float64, Int64
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from evaluate.kernels.moments import convert_alone, read_float32
from stores.errors import UserError
from stores.storage.cores import available_cores

if TYPE_CHECKING:
    import torch

BLOCK_ROWS = 2048
"""Rows in one matrix product: fixed, because another number would change the last bits."""
COPY_BYTES = 128 << 20
"""Centred float32 rows up to this size are kept for all passes; larger ones are read again in every pass."""
WINDOW = 4
"""Blocks in flight a thread, whose gradients are held until they are added."""


@dataclass(frozen=True)
class Device:
    """Where products are computed: by numpy on the processor, or by torch on a device."""

    name: str | None = None
    """torch's name, such as ``cuda:0``; None for numpy."""
    kind: str | None = None
    """The device's model, by which results whose last bits depend on it are named."""


CPU = Device()


def choose_device(name: str) -> Device:
    """Return the device of this name, ``cpu`` or ``cuda`` with a number or not; raises UserError for any other."""
    if name == "cpu":
        return CPU
    if re.fullmatch(r"cuda(:\d+)?", name) is None:
        raise UserError(f"evaluate computes on cpu or cuda, and {name[:40]!r} is neither: use --device cpu")
    import torch

    if not torch.cuda.is_available():
        raise UserError(f"device {name!r} cannot be used (PyTorch finds no NVIDIA GPU): try --device cpu")
    try:
        torch.empty(0, device=name)
        kind = torch.cuda.get_device_name(name)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device {name!r} cannot be used ({str(error).splitlines()[0]}): try --device cpu") from error
    return Device(name, kind)


@dataclass(frozen=True, eq=False)
class Rows:
    """Chosen rows of a feature array, read in blocks of `BLOCK_ROWS`."""

    features: Float[np.ndarray, "row channel"]
    numbers: Int64[np.ndarray, " used"]
    """Row numbers, increasing."""

    def raw(self) -> Iterator[Float[np.ndarray, "_ channel"]]:
        """Yield blocks in the stored type."""
        for start in range(0, len(self.numbers), BLOCK_ROWS):
            yield self.block(start)

    def block(self, start: int) -> Float[np.ndarray, "_ channel"]:
        """Return the block of rows from the ``start``-th on, in the stored type."""
        rows = self.numbers[start : start + BLOCK_ROWS]
        contiguous = rows[-1] - rows[0] + 1 == len(rows)
        return self.features[rows[0] : rows[-1] + 1] if contiguous else self.features[rows]

    def centred_block(self, start: int, centre: Float32[np.ndarray, " channel"]) -> Float32[np.ndarray, "_ channel"]:
        """Return the block of rows from the ``start``-th on, minus ``centre``, as a new float32 array."""
        raw = self.block(start)
        block = np.empty(raw.shape, dtype=np.float32)
        read_float32(raw, block)
        block -= centre
        return block

    def centred(self, centre: Float32[np.ndarray, " channel"]) -> Iterator[Float32[np.ndarray, "_ channel"]]:
        """Yield float32 blocks minus ``centre``."""
        for start in range(0, len(self.numbers), BLOCK_ROWS):
            yield self.centred_block(start, centre)


class _Sums(NamedTuple):
    losses: Float64[np.ndarray, " head"]
    weights: Float[np.ndarray, "_ channel"]
    biases: Float64[np.ndarray, "classes head"]


@contextmanager
def all_cores() -> Iterator[ThreadPoolExecutor]:
    """Threads for the passes of an `Objective`, one a core, with BLAS held to one thread meanwhile."""
    with (
        threadpool_limits(limits=1, user_api="blas"),
        ThreadPoolExecutor(available_cores(), initializer=convert_alone) as pool,
    ):
        yield pool


class Objective:
    """Mean cross-entropy of stacked heads and its gradients.

    Args:
        rows: training rows.
        targets: class of each row.
        centre: subtracted from every row.
        pool: threads that the blocks of a pass are divided among.
        device: where torch computes the passes; None for numpy in the pool's threads.
    """

    def __init__(
        self,
        rows: Rows,
        targets: Int64[np.ndarray, " used"],
        centre: Float32[np.ndarray, " channel"],
        pool: ThreadPoolExecutor,
        device: str | None = None,
    ) -> None:
        self._rows, self._targets, self._centre, self._pool, self._device = rows, targets, centre, pool, device
        self._blocks: list[np.ndarray] = []
        self._on_device: list[tuple[torch.Tensor, torch.Tensor]] = []
        if 4 * len(rows.numbers) * len(centre) <= COPY_BYTES:
            self._blocks = list(rows.centred(centre))

    def covariance(self) -> Float64[np.ndarray, "channel channel"]:
        """Return the covariance of the rows, from float32 products of blocks."""
        total = np.zeros((len(self._centre), len(self._centre)))

        def product(start: int) -> Float32[np.ndarray, "channel channel"]:
            block = self._block(start)
            return block.T @ block

        for starts in self._windows():
            for part in self._pool.map(product, starts):
                total += part
        return total / len(self._targets)

    def _windows(self) -> Iterator[range]:
        """Yield the first rows of the blocks of a pass, as many at a time as may be in flight."""
        window = WINDOW * available_cores() * BLOCK_ROWS
        for first in range(0, len(self._targets), window):
            yield range(first, min(first + window, len(self._targets)), BLOCK_ROWS)

    def _sums(
        self, stacked: Float32[np.ndarray, "_ channel"], offsets: Float32[np.ndarray, "c h 1"]
    ) -> Iterator[_Sums]:
        """Yield the sums of every block of rows, in order."""
        if self._device is not None:
            yield from _sums_on(self._device, self._device_blocks(), stacked, offsets)
            return
        for starts in self._windows():
            yield from self._pool.map(lambda start: self._block_sums(start, stacked, offsets), starts)

    def _device_blocks(self) -> "Iterator[tuple[torch.Tensor, torch.Tensor]]":
        """Yield blocks of rows with their targets on the device, where small ones stay for the next pass."""
        import torch

        if self._on_device:
            yield from self._on_device
            return
        for start in range(0, len(self._targets), BLOCK_ROWS):
            target = torch.from_numpy(self._targets[start : start + BLOCK_ROWS])
            both = torch.from_numpy(self._block(start)).to(self._device), target.to(self._device)
            if self._blocks:
                self._on_device.append(both)
            yield both

    def _block(self, start: int) -> Float32[np.ndarray, "_ channel"]:
        return self._blocks[start // BLOCK_ROWS] if self._blocks else self._rows.centred_block(start, self._centre)

    def __call__(
        self, weights: Float64[np.ndarray, "head classes channel"], biases: Float64[np.ndarray, "head classes"]
    ) -> tuple[
        Float64[np.ndarray, " head"],
        Float64[np.ndarray, "head classes channel"],
        Float64[np.ndarray, "head classes"],
    ]:
        """Return each head's mean cross-entropy in nats, and its gradients by weights and by biases."""
        n_heads, n_classes, n_channels = weights.shape
        # Classes first, rows last: reductions over classes then run along whole vectors of rows.
        stacked = weights.transpose(1, 0, 2).reshape(-1, n_channels).astype(np.float32)
        offsets = biases.T.astype(np.float32)[:, :, None]
        losses = np.zeros(n_heads)
        weight_sums = np.zeros(stacked.shape)
        bias_sums = np.zeros((n_classes, n_heads))
        for sums in self._sums(stacked, offsets):
            losses += sums.losses
            weight_sums += sums.weights
            bias_sums += sums.biases
        n_rows = len(self._targets)
        gradients = weight_sums.reshape(n_classes, n_heads, n_channels).transpose(1, 0, 2) / n_rows
        return losses / n_rows, gradients, bias_sums.T / n_rows

    def _block_sums(
        self, start: int, stacked: Float32[np.ndarray, "_ channel"], offsets: Float32[np.ndarray, "classes head 1"]
    ) -> _Sums:
        block = self._block(start)
        row = np.arange(len(block))
        target = self._targets[start : start + len(block)]
        scores = (stacked @ block.T).reshape(*offsets.shape[:2], len(block))
        scores += offsets
        own = scores[target, :, row].sum(axis=0, dtype=np.float64)
        highest = scores.max(axis=0)
        scores -= highest
        np.exp(scores, out=scores)
        total = scores.sum(axis=0)
        losses = (np.log(total) + highest).sum(axis=1, dtype=np.float64) - own
        scores /= total
        scores[target, :, row] -= 1.0
        return _Sums(losses, scores.reshape(-1, len(block)) @ block, scores.sum(axis=2, dtype=np.float64))


def _sums_on(
    device: str,
    blocks: "Iterable[tuple[torch.Tensor, torch.Tensor]]",
    stacked: Float32[np.ndarray, "_ channel"],
    offsets: Float32[np.ndarray, "classes head 1"],
) -> Iterator[_Sums]:
    """Yield the sum of all blocks on a device, by the steps of `Objective._block_sums`, in float32 without TF32."""
    import torch

    weights, shifts = torch.from_numpy(stacked).to(device), torch.from_numpy(offsets).to(device)
    losses = torch.zeros(offsets.shape[1], dtype=torch.float64, device=device)
    weight_sums = torch.zeros(stacked.shape, dtype=torch.float64, device=device)
    bias_sums = torch.zeros(offsets.shape[:2], dtype=torch.float64, device=device)
    for block, target in blocks:
        scores = (weights @ block.T).view(*offsets.shape[:2], len(block)) + shifts
        places = target.expand(1, offsets.shape[1], len(block))
        own = scores.gather(0, places)[0]
        losses += (scores.logsumexp(dim=0) - own).sum(dim=1, dtype=torch.float64)
        scores = scores.softmax(dim=0)
        scores.scatter_add_(0, places, torch.full_like(own, -1.0)[None])
        weight_sums += scores.view(-1, len(block)) @ block
        bias_sums += scores.sum(dim=2, dtype=torch.float64)
    yield _Sums(losses.cpu().numpy(), weight_sums.cpu().numpy(), bias_sums.cpu().numpy())
