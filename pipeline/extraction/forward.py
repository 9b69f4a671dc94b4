"""Runs batches of pixels through the model and returns the wanted arrays in host memory."""

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from pipeline.extraction.capture import Capture
from pipeline.extraction.finite_values import check_finite
from pipeline.extraction.loading import Batch
from pipeline.extraction.progress import StageSeconds
from pipeline.rows.samples import Samples

BatchArrays = Iterator[tuple[Batch, dict[str, np.ndarray]]]
"""Batches with their arrays, by address."""


def forward(
    batches: Iterator[Batch], run: Capture, samples: Samples, device: str, seconds: StageSeconds
) -> BatchArrays:
    """Yield every batch with its arrays in host memory; on a GPU one batch late, so that copies overlap.

    Rows of bad images hold the fill value. Raises UserError when a valid row has a NaN or infinite value.

    Args:
        batches: Batches of decoded pixels.
        run: The model and the arrays to capture.
        samples: The samples of the set, which name rows and tell bad images.
        device: Device that the model is on.
        seconds: Time spent here is added to its ``model``.
    """
    on_gpu = device.startswith("cuda")
    tile_ids = samples.tile_ids
    pending: tuple[Batch, dict[str, torch.Tensor], torch.Tensor, Any] | None = None
    for batch in batches:
        if not run.arrays:  # only statistics of the view are missing
            yield batch, {}
            continue
        before = time.perf_counter()
        pixels = torch.from_numpy(batch.pixels)
        if on_gpu:
            pixels = pixels.pin_memory().to(device, non_blocking=True)
        stored, sums = run(pixels.float(), tile_ids[batch.start : batch.start + len(batch)])
        done = None
        if on_gpu:
            stored = {name: _to_host(values) for name, values in stored.items()}
            sums = _to_host(sums)
            done = torch.cuda.Event()  # type: ignore[no-untyped-call]
            done.record()
        ahead, pending = pending, (batch, stored, sums, done)
        if not on_gpu:
            ahead, pending = pending, None
        result = _finished(ahead, run, samples) if ahead is not None else None
        seconds.model += time.perf_counter() - before
        if result is not None:
            yield result
    if pending is not None:
        before = time.perf_counter()
        result = _finished(pending, run, samples)
        seconds.model += time.perf_counter() - before
        yield result


def _to_host(values: torch.Tensor) -> torch.Tensor:
    host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
    return host.copy_(values, non_blocking=True)


def _finished(
    pending: tuple[Batch, dict[str, torch.Tensor], torch.Tensor, Any], run: Capture, samples: Samples
) -> tuple[Batch, dict[str, np.ndarray]]:
    batch, stored, sums, done = pending
    if done is not None:
        done.synchronize()
    arrays = {name: values.numpy() for name, values in stored.items()}
    invalid = samples.invalid(batch.start, batch.start + len(batch))
    if not bool(torch.isfinite(sums).all()):
        check_finite(run.model.record.name, arrays, samples, batch.start)
    if invalid.any():
        for array in run.arrays:
            arrays[array.name][invalid] = array.fill
    return batch, arrays
