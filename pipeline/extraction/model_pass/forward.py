"""Runs batches of pixels through the model and returns the wanted arrays in host memory."""

import time
from collections.abc import Iterator, Mapping

import numpy as np
from jaxtyping import Bool, Int64

from pipeline.extraction.loading import Batch
from pipeline.extraction.model_pass.device import Device, Fetched
from pipeline.extraction.model_pass.running import ModelPass
from pipeline.extraction.progress import StageSeconds
from pipeline.rows.samples import Samples
from stores.errors import UserError

BatchArrays = Iterator[tuple[Batch, dict[str, np.ndarray]]]
"""Batches with their arrays, by address. An array that is kept holds the memory of its batch."""

_SUMS = ""
"""Name of the arrays' sums among what is fetched."""


def forward(
    batches: Iterator[Batch], run: ModelPass, samples: Samples, device: Device, seconds: StageSeconds
) -> BatchArrays:
    """Yield every batch with its arrays in host memory; on a GPU one batch late, so that copies and writing overlap.

    Rows of bad images hold the fill value. Raises
    UserError when a valid row has a NaN or infinite value.

    Args:
        batches: Batches of decoded pixels.
        run: The model and the arrays to capture.
        samples: The samples of the set, which name rows and tell bad images.
        device: Device that the model is on.
        seconds: Time spent here is added to its ``model``.
    """
    pending: tuple[Batch, Fetched] | None = None
    for batch in batches:
        if not run.arrays:  # only statistics of the view are missing
            yield batch, {}
            continue
        before = time.perf_counter()
        ahead, pending = pending, (batch, _started(batch, run, samples, device))
        if not device.runs_behind:
            ahead, pending = pending, None
        result = _finished(ahead, run, samples) if ahead is not None else None
        seconds.model += time.perf_counter() - before
        if ahead is not None and result is not None:
            yield result
        ahead = result = None  # whose memory is free when the arrays are written
    if pending is not None:
        before = time.perf_counter()
        result = _finished(pending, run, samples)
        seconds.model += time.perf_counter() - before
        yield result


def _started(batch: Batch, run: ModelPass, samples: Samples, device: Device) -> Fetched:
    """Run the model on a batch and start copying its arrays, without the rows that pad it."""
    with device.guard():
        pixels = device.pixels(batch.pixels)
        stored, sums = run(
            pixels, [(name, tile.box) for name, tile in map(samples.tiles.__getitem__, batch.padded_rows)], batch.rows
        )
        return device.fetch({name: values[: len(batch)] for name, values in stored.items()} | {_SUMS: sums})


def _finished(pending: tuple[Batch, Fetched], run: ModelPass, samples: Samples) -> tuple[Batch, dict[str, np.ndarray]]:
    batch, fetched = pending
    arrays = fetched.wait()
    sums = arrays.pop(_SUMS)
    invalid = np.array([samples.tiles[row][0] in samples.bad_images for row in batch.rows], dtype=bool)
    if not np.isfinite(sums).all():
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
