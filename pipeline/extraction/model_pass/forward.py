"""Runs batches of pixels through the model and returns the wanted arrays in host memory."""

import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int64

from pipeline.extraction.loading import Batch
from pipeline.extraction.model_pass.capture import Capture
from pipeline.extraction.progress import StageSeconds
from pipeline.rows.samples import Samples
from stores.errors import UserError

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
        stored, sums = run(pixels.float(), [tile_ids[row] for row in batch.padded_rows])
        stored = {name: values[: len(batch)] for name, values in stored.items()}
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
    invalid = np.array([samples.tiles[row][0] in samples.bad_images for row in batch.rows], dtype=bool)
    if not bool(torch.isfinite(sums).all()):
        _check_finite(run.model.record.name, arrays, samples, np.array(batch.rows)[~invalid], ~invalid)
    if invalid.any():
        for array in run.arrays:
            arrays[array.name][invalid] = array.fill
    return batch, arrays


def _check_finite(
    model: str,
    arrays: Mapping[str, np.ndarray],
    samples: Samples,
    rows: Int64[np.ndarray, " valid"],
    valid: Bool[np.ndarray, " row"],
) -> None:
    """Raise UserError when a valid row has a NaN or infinite value; ``rows`` are the numbers of the valid ones.

    It names the first affected layer with its first sample and count, then the counts of the other layers.
    """
    counts = {name: int((~np.isfinite(values[valid])).sum()) for name, values in arrays.items()}
    affected = {name: count for name, count in counts.items() if count}
    if not affected:
        return
    name, count = next(iter(affected.items()))
    values = arrays[name][valid]
    row = int(rows[(~np.isfinite(values)).reshape(len(values), -1).any(axis=1).argmax()])
    n_nan = int(np.isnan(values).sum())
    where = f"{model}, {name}, row {row} ({samples.table['sample'].iloc[row]})"
    others = ", ".join(f"{more} of {other}" for other, more in affected.items() if other != name)
    also = f" (in the same {len(rows)} samples {others})" if others else ""
    if n_nan == 0 and values.dtype == np.float16:
        raise UserError(
            f"{count} values of {where} exceed the largest float16 value, 65504{also}: "
            'set store_dtype = "float32" in [features]'
        )
    raise UserError(
        f"{count} values of {where} are NaN or infinite ({n_nan} NaN){also}: check the weights, or compute in float32"
    )
