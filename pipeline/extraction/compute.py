"""Device and settings that a model runs with: the compute record, which must be equal for equal bytes."""

import contextlib
import os
import platform
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy
import PIL
import timm
import torch

from pipeline.recipe import FeatureRecipe
from stores.errors import UserError
from stores.format.machines import differences


@dataclass(frozen=True)
class Compute:
    """A device with the settings that can change the last bits of a feature."""

    device: str
    batch_size: int
    threads: int
    full_batches: bool = True
    """Whether all batches of a set have one number of rows; sets of earlier versions end a range with a smaller one."""
    compiled: bool = False
    """Whether passes are compiled."""
    most_rows: int | None = None
    """Rows of a batch that fit the memory of the device, once more did not; also where a set was begun with more."""

    def for_features(self, features: FeatureRecipe) -> "Compute":
        """Return the settings with what an experiment says of them."""
        return replace(self, compiled=features.compile)

    def record(self, compute_dtype: str) -> dict[str, Any]:
        """Return the compute record."""
        return {
            **(_gpu(self.device) if self.on_gpu else _cpu()),
            "device": self.device.partition(":")[0],
            "batch_size": self.batch_size,
            "full_batches": self.full_batches,
            "threads": self.threads,
            "compute_dtype": compute_dtype,
            "fused_attention": bool(timm.layers.use_fused_attn()),
            "compiled": self.compiled,
            "tf32": bool(torch.backends.cuda.matmul.allow_tf32),
            "tf32_convolutions": compute_dtype != "float32" and bool(torch.backends.cudnn.allow_tf32),
            "torch": torch.__version__,
            "timm": timm.__version__,
            "numpy": numpy.__version__,
            "pillow": PIL.__version__,
        }

    @property
    def on_gpu(self) -> bool:
        """Whether the device is a GPU."""
        return self.device.startswith("cuda")


def _cpu() -> dict[str, Any]:
    """Return what decides the kernels on a processor."""
    return {
        "cpu": _cpu_model(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "mkl": torch.backends.mkl.is_available(),  # type: ignore[no-untyped-call]
        "mkldnn": torch.backends.mkldnn.is_available(),  # type: ignore[no-untyped-call]
        "device_kind": platform.machine(),
    }


def _gpu(device: str) -> dict[str, Any]:
    """Return what decides the kernels on a GPU; libraries choose them by architecture and multiprocessors."""
    found = torch.cuda.get_device_properties(device)
    return {
        "device_kind": found.name,
        "gpu_architecture": f"sm_{found.major}{found.minor}",
        "gpu_multiprocessors": found.multi_processor_count,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
    }


def _cpu_model() -> str:
    """Return the model of the processor: libraries choose their kernels by it."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def choose_compute(device: str | None, batch_size: int | None) -> Compute:
    """Return the settings for the flags, with defaults for None; raises UserError for a device that cannot be used."""
    if device is None or device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if not re.fullmatch(r"cpu|cuda(:\d+)?", device):
        raise UserError(f"device {device!r} cannot be used: --device takes cpu, cuda, cuda:N (the N-th GPU) or auto")
    if device != "cpu":
        _check_gpu(device)
    if batch_size is None:
        batch_size = 128 if device.startswith("cuda") else 16
    return Compute(device, batch_size, torch.get_num_threads())


def _check_gpu(device: str) -> None:
    """Raise UserError when a GPU cannot be used."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not count:
        raise UserError(f"device {device!r} cannot be used (PyTorch finds no NVIDIA GPU): try --device cpu")
    index = int(device.partition(":")[2] or 0)
    if index >= count:
        known = "is one GPU, cuda:0" if count == 1 else f"are {count} GPUs, cuda:0 to cuda:{count - 1}"
        raise UserError(f"device {device!r} cannot be used: there {known}")
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device {device!r} cannot be used ({str(error).splitlines()[0]}): try --device cpu") from error


def reconcile_with_recorded(wanted: Compute, recorded: dict[str, Any], allow_mixed: bool) -> tuple[Compute, list[str]]:
    """Return the settings to complete a started set with, and one line for every flag that is overridden.

    The recorded batch size and thread count are used, because bytes depend on them; a smaller batch only where the
    recorded one does not fit the memory. Raises UserError when the set was
    started on another kind of device and that is not allowed.
    """
    lines = []
    device = wanted.device.partition(":")[0]
    if recorded.get("device") != device and not allow_mixed:
        raise UserError(
            f"this set was started on {recorded.get('device')} and the device now is {device}, whose rounding differs: "
            f"use --device {recorded.get('device')}, or --allow-mixed to accept both in one set"
        )
    batch_size = int(recorded.get("batch_size", wanted.batch_size))
    batch_size = min(batch_size, wanted.most_rows or batch_size)
    if batch_size not in (wanted.batch_size, wanted.most_rows):
        lines.append(f"batch size {batch_size} is used: the set was started with it")
    compiled = bool(recorded.get("compiled", False))
    if compiled != wanted.compiled:
        lines.append(f"the model is {'compiled' if compiled else 'not compiled'}: the set was started so")
    threads = int(recorded.get("threads", wanted.threads))
    if threads != wanted.threads and device == "cpu" and threads <= (os.cpu_count() or 1):
        many = f"{threads} threads are" if threads != 1 else "1 thread is"
        lines.append(f"{many} used, as when the set was started")
    else:
        threads = wanted.threads
    full = bool(recorded.get("full_batches", False))
    settled = replace(wanted, batch_size=batch_size, threads=threads, full_batches=full, compiled=compiled)
    changed = differences(recorded, settled.record(str(recorded.get("compute_dtype", "float32"))))
    if changed:
        changes = ", ".join(f"{name} was {before} and is {now} here" for name, (before, now) in changed.items())
        lines.append(f"{changes}: the last bits may differ")
    return settled, lines
