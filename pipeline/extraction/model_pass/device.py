"""Copies to and from a device beside its computation, through page-locked memory that is used again.

On a GPU pixels go up on one stream and results come down on another, while the current stream computes; threads hash
and write chunks from the block they came down into. Every event is recorded on the stream it speaks of; by itself
`Event.record()` takes the current device's, which is another GPU's where ``cuda:1`` computes. On a CPU nothing is
copied. `Cuda` has all calls of PyTorch, so that a test can stand in for it.
"""

import contextlib
import math
import threading
import weakref
from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, UInt8

_ALIGNMENT = 256
"""Bytes; arrays in one block begin at multiples of it, as the allocator of a GPU has them."""


@runtime_checkable
class Fetched(Protocol):
    """Results of a batch on their way to host memory."""

    def wait(self) -> dict[str, np.ndarray]:
        """Return the arrays, once, when they have arrived; their memory is used again when nothing refers to them."""


@runtime_checkable
class Device(Protocol):
    """Where a model runs."""

    runs_behind: bool
    """Whether work is queued, so that one batch can be asked for while the next computes."""

    def guard(self) -> contextlib.AbstractContextManager[Any]:
        """Make this the current device; everything below, and the model, is called inside."""

    def input_slot(self, shape: tuple[int, ...]) -> UInt8[np.ndarray, "..."]:
        """Return host memory for the pixels of a batch; `pixels` gives it back."""

    def pixels(self, slot: UInt8[np.ndarray, "sample height width 3"]) -> Float[torch.Tensor, "sample height width 3"]:
        """Return the pixels of a slot on the device, as float32; the slot is free once they are there."""

    def fetch(self, values: Mapping[str, torch.Tensor]) -> Fetched:
        """Start copying the results of what was computed so far into host memory."""


def open_device(name: str) -> Device:
    """Return the device of a name: ``cpu``, ``cuda`` or ``cuda:N``."""
    return Gpu(Cuda(torch.device(name))) if name.startswith("cuda") else Processor()


@dataclass
class _Here:
    """Results that are in host memory already."""

    values: Mapping[str, torch.Tensor]

    def wait(self) -> dict[str, np.ndarray]:
        return {name: values.numpy() for name, values in self.values.items()}


class Processor:
    """The processor: the same interface with plain arrays and no copies."""

    runs_behind = False

    def guard(self) -> contextlib.AbstractContextManager[Any]:
        """Return a context that does nothing."""
        return contextlib.nullcontext()

    def input_slot(self, shape: tuple[int, ...]) -> UInt8[np.ndarray, "..."]:
        """Return a new array."""
        return np.empty(shape, np.uint8)

    def pixels(self, slot: UInt8[np.ndarray, "sample height width 3"]) -> Float[torch.Tensor, "sample height width 3"]:
        """Return the pixels as float32."""
        return torch.from_numpy(slot).float()

    def fetch(self, values: Mapping[str, torch.Tensor]) -> Fetched:
        """Return the arrays that the tensors are."""
        return _Here(values)


class Cuda:
    """The calls of PyTorch that copies and streams of one GPU take."""

    def __init__(self, device: torch.device) -> None:
        self.device = torch.device("cuda", torch.cuda.current_device()) if device.index is None else device

    def guard(self) -> contextlib.AbstractContextManager[Any]:
        """Make the GPU the current device: kernels of Triton, events and page-locked memory go by it."""
        return torch.cuda.device(self.device)

    def page_locked(self, n_bytes: int) -> UInt8[torch.Tensor, " byte"]:
        """Return host memory that copies read and write while the host goes on."""
        return torch.empty(n_bytes, dtype=torch.uint8, pin_memory=True)

    def memory(self, n_bytes: int) -> UInt8[torch.Tensor, " byte"]:
        """Return memory of the GPU."""
        return torch.empty(n_bytes, dtype=torch.uint8, device=self.device)

    def stream(self) -> Any:
        """Return a new stream."""
        return torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]

    def current(self) -> Any:
        """Return the stream that the model computes on."""
        return torch.cuda.current_stream(self.device)

    def copy(self, target: torch.Tensor, source: torch.Tensor, stream: Any) -> None:
        """Copy when a stream comes to it."""
        with torch.cuda.stream(stream):
            target.copy_(source, non_blocking=True)

    def record(self, stream: Any) -> Any:
        """Return an event that happens when a stream has done what it was given until now."""
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record(stream)
        return event

    def wait(self, stream: Any, event: Any) -> None:
        """Let a stream wait for an event; the host goes on."""
        stream.wait_event(event)

    def synchronise(self, event: Any) -> None:
        """Wait for an event."""
        event.synchronize()

    def happened(self, event: Any) -> bool:
        """Return whether an event has happened."""
        return bool(event.query())


@dataclass
class _Upload:
    """Memory of the GPU that pixels are copied into, and the event after which it may be written again."""

    memory: torch.Tensor
    read: Any = None


@dataclass
class _Down:
    """Results on their way into a block of page-locked memory."""

    gpu: "Gpu"
    block: torch.Tensor
    host: dict[str, torch.Tensor]
    arrived: Any
    values: list[torch.Tensor]
    """The tensors that are copied: their memory is not used again while they are held here."""

    def wait(self) -> dict[str, np.ndarray]:
        self.gpu.cuda.synchronise(self.arrived)
        self.values.clear()
        arrays = {name: values.numpy() for name, values in self.host.items()}
        _Lease(self.block, self.gpu.blocks, arrays.values())
        return arrays


class _Lease:
    """A block of page-locked memory that is free again when no array refers to any of its parts.

    Args:
        block: The block.
        free: Where it goes then; by whichever thread drops the last array.
        arrays: Its arrays, as PyTorch made them: all parts of one refer to its ``base``, a tensor of its own.
    """

    def __init__(self, block: torch.Tensor, free: list[torch.Tensor], arrays: Collection[np.ndarray]) -> None:
        self._block, self._free, self._left, self._lock = block, free, len(arrays), threading.Lock()
        for array in arrays:
            weakref.finalize(array.base, self._dropped).atexit = False

    def _dropped(self) -> None:
        with self._lock:
            self._left -= 1
            is_free = self._left == 0
        if is_free:
            self._free.append(self._block)


@dataclass
class Gpu:
    """One GPU with a stream for each direction of copies.

    A batch is asked for while the next computes: two uploads are in use. Results stay in their blocks until they are
    written: the bytes that may wait for that (`SetWriter`) bound the number of blocks. Input slots are as many as the
    decoders fill ahead of the model.
    """

    cuda: Cuda
    runs_behind: bool = True
    blocks: list[torch.Tensor] = field(default_factory=list)
    """Page-locked blocks for results that nobody reads."""

    def __post_init__(self) -> None:
        with self.cuda.guard():
            self.up, self.down = self.cuda.stream(), self.cuda.stream()
        self._uploads: deque[_Upload] = deque()
        self._slots: dict[int, torch.Tensor] = {}
        """Input slots by address."""
        self._free: list[torch.Tensor] = []
        self._leaving: deque[tuple[Any, torch.Tensor]] = deque()
        """Slots that are being copied, each with the event after which it is free."""

    def guard(self) -> contextlib.AbstractContextManager[Any]:
        """Make this GPU the current device."""
        return self.cuda.guard()

    def input_slot(self, shape: tuple[int, ...]) -> UInt8[np.ndarray, "..."]:
        """Return a page-locked array that no copy reads any more."""
        while self._leaving and self.cuda.happened(self._leaving[0][0]):
            self._free.append(self._leaving.popleft()[1])
        n_bytes = math.prod(shape)
        slot = _taken(self._free, n_bytes)
        if slot is None:
            with self.cuda.guard():
                slot = self.cuda.page_locked(n_bytes)
            self._slots[slot.data_ptr()] = slot
        array: np.ndarray = slot[:n_bytes].view(shape).numpy()
        return array

    def pixels(self, slot: UInt8[np.ndarray, "sample height width 3"]) -> Float[torch.Tensor, "sample height width 3"]:
        """Return the pixels as float32; the current stream waits for them, the host does not."""
        cuda, n_bytes = self.cuda, slot.nbytes
        locked = self._slots.get(slot.ctypes.data)
        upload = self._upload(n_bytes)
        if upload.read is not None:
            cuda.wait(self.up, upload.read)
        there = upload.memory[:n_bytes].view(slot.shape)
        cuda.copy(there, torch.from_numpy(slot) if locked is None else locked[:n_bytes].view(slot.shape), self.up)
        arrived = cuda.record(self.up)
        if locked is None:  # the array is the caller's, and may be written as soon as this returns
            cuda.synchronise(arrived)
        else:
            self._leaving.append((arrived, locked))
        cuda.wait(cuda.current(), arrived)
        values = there.float()
        upload.read = cuda.record(cuda.current())
        return values

    def _upload(self, n_bytes: int) -> _Upload:
        """Return the memory for pixels that was used longest ago."""
        if len(self._uploads) < 2:
            self._uploads.append(_Upload(self.cuda.memory(n_bytes)))
            # Kernels of the current stream may still read what was at this place before.
            self._uploads[-1].read = self.cuda.record(self.cuda.current())
        else:
            self._uploads.rotate(-1)
        if self._uploads[-1].memory.numel() < n_bytes:
            self._uploads[-1] = _Upload(self.cuda.memory(n_bytes), self.cuda.record(self.cuda.current()))
        return self._uploads[-1]

    def fetch(self, values: Mapping[str, torch.Tensor]) -> Fetched:
        """Start copying results into one block, once the current stream has computed them."""
        cuda = self.cuda
        sizes = {name: each.numel() * each.element_size() for name, each in values.items()}
        n_bytes = sum(-(-size // _ALIGNMENT) * _ALIGNMENT for size in sizes.values())
        block = _taken(self.blocks, n_bytes)
        if block is None:
            block = cuda.page_locked(n_bytes)
        cuda.wait(self.down, cuda.record(cuda.current()))
        host, start = {}, 0
        for name, each in values.items():
            host[name] = block[start : start + sizes[name]].view(each.dtype).view(each.shape)
            cuda.copy(host[name], each, self.down)
            start += -(-sizes[name] // _ALIGNMENT) * _ALIGNMENT
        return _Down(self, block, host, cuda.record(self.down), list(values.values()))


def _taken(free: list[torch.Tensor], n_bytes: int) -> torch.Tensor | None:
    """Take a block of at least ``n_bytes`` from a list; None where there is none."""
    for number, block in enumerate(free):
        if block.numel() >= n_bytes:
            return free.pop(number)
    return None
