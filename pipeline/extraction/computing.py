"""Computes rows of a job in batches: decodes them, runs the model on the device and returns the wanted arrays."""

import contextlib
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import replace

import numpy as np
import torch

from pipeline.extraction.compute import Compute
from pipeline.extraction.job import SAMPLE_STATS, Job
from pipeline.extraction.loading import Batch, Loader, every_row, full_shape
from pipeline.extraction.model_pass.device import open_device
from pipeline.extraction.model_pass.forward import forward
from pipeline.extraction.model_pass.precision import converted
from pipeline.extraction.model_pass.running import ModelPass
from pipeline.extraction.progress import StageSeconds
from pipeline.extraction.taking_over import Missing, passes
from stores.errors import UserError
from stores.format.layout import RowRange
from stores.specs import ArraySpec


def recompute(
    job: Job,
    wanted: Missing,
    compute: Compute,
    workers: int,
    take: Callable[[Batch, dict[str, np.ndarray]], None],
) -> None:
    """Compute some rows as an extraction does and pass the batches to ``take``; writes nothing.

    Spans that start at a batch of their range give the same bytes as extracting the whole range. The decoding threads
    end when ``take`` raises. Raises UserError when a batch does not fit the memory of a GPU: another size could give
    other bytes.

    Args:
        job: The feature set.
        wanted: Spans of rows, each with the arrays to compute.
        compute: Device, batch size and threads.
        workers: Threads that decode images.
        take: Called with every batch and its arrays by address.
    """
    for spans, arrays in passes(wanted):
        with contextlib.closing(results_of(job, spans, arrays, compute, workers, StageSeconds())) as results:
            try:
                for batch, values in results:
                    take(batch, values)
            except torch.OutOfMemoryError as error:
                raise UserError(
                    f"batches of {compute.batch_size} rows, with which {job.title} was made, do not fit the free "
                    f"memory of {compute.device}: free some, or use another GPU"
                ) from error


def halved(compute: Compute, job: Job) -> tuple[Compute, str]:
    """Return settings with half the rows in a batch, after one did not fit the memory of a GPU, and a line about it.

    Raises UserError when a batch has one row already.
    """
    n_rows = full_shape(job.layout, compute.batch_size)
    if n_rows == 1:
        raise UserError(
            f"one input of {job.title} does not fit the free memory of {compute.device}: free some, keep fewer layers "
            "in [features], or use --device cpu"
        )
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.empty_cache()
    line = f"batches of {n_rows} rows do not fit the free memory of {compute.device}: batches of {n_rows // 2} are used"
    return replace(compute, batch_size=n_rows // 2, most_rows=n_rows // 2), line


@contextlib.contextmanager
def _threads(n_threads: int) -> Generator[None]:
    """Set torch's number of threads, and restore it at the end."""
    before = torch.get_num_threads()
    torch.set_num_threads(n_threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def results_of(
    job: Job,
    ranges: Iterable[RowRange],
    arrays: tuple[ArraySpec, ...],
    compute: Compute,
    workers: int,
    seconds: StageSeconds,
    rows: Callable[[RowRange], Sequence[int]] = every_row,
) -> Generator[tuple[Batch, dict[str, np.ndarray]], None, None]:
    """Yield batches of some ``rows`` of ranges with the arrays of the model and the statistics of the view."""
    stats = {array.name.partition("/")[2]: array.name for array in arrays if array.group == SAMPLE_STATS}
    tokens = [array for array in arrays if array.name not in stats.values()]
    run = ModelPass(job.model, tokens, job.precision)
    device = open_device(compute.device)
    rows_at_once = full_shape(job.layout, compute.batch_size) if compute.full_batches else compute.batch_size
    loader = Loader(
        job.samples,
        job.spec.model.interpolation,
        rows_at_once,
        workers,
        device.input_slot,
        full=compute.full_batches,
        read=job.read,
    )
    waited = 0.0
    in_precision = converted(job.model.module, compute.device, job.precision)
    compiled = run.compiled() if compute.compiled and run.arrays else contextlib.nullcontext()
    # Closed explicitly: a traceback would keep the generator alive, and with it threads that Ctrl-C waits for.
    with in_precision, compiled, _threads(compute.threads), contextlib.closing(loader.batches(ranges, rows)) as batches:
        for batch, values in forward(batches, run, job.samples, device, seconds):
            seconds.decode += loader.waited - waited
            waited = loader.waited
            yield batch, values | {address: batch.sample_stats[name] for name, address in stats.items()}
