"""Extracts one feature set: decode, forward pass, copy and write run concurrently, in one pass for all its arrays.

Threads decode ahead of the model; other threads encode, hash and fsync chunks behind it. On a GPU a batch's results
are copied while the next batch computes. Committed ranges are kept; everything else is computed again.
"""

import contextlib
import itertools
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from pipeline.extraction.capture import Capture
from pipeline.extraction.compute import Compute, reconcile_with_recorded
from pipeline.extraction.forward import BatchArrays, forward
from pipeline.extraction.job import QUEUE_BYTES, SAMPLE_STATS, Job
from pipeline.extraction.loading import Batch, Loader
from pipeline.extraction.progress import Outcome, Progress, StageSeconds
from pipeline.rows.samples import bad_rows
from stores import Store, ZarrSet
from stores.format.layout import RowRange
from stores.specs import ArraySpec
from stores.writing.dead_channels import describe_channels
from stores.writing.sealing import seal
from stores.writing.writer import RangeWriter, SetWriter

Missing = dict[RowRange, tuple[ArraySpec, ...]]
"""Ranges, each with the arrays that it lacks."""


@dataclass(frozen=True)
class ExtractOptions:
    """How an extraction runs. None of it changes the bytes of a complete set."""

    workers: int = 2
    """Threads that decode images."""
    shard: tuple[int, int] = (0, 1)
    """(i, N) makes every N-th range from the i-th on, counted from 0."""
    allow_mixed: bool = False
    """Complete a set that was started on another kind of device, whose last bits may differ."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """Written beside a new set and into the log: command, date, versions."""
    on_progress: Callable[[Progress], None] = lambda progress: None
    """Called after every batch."""


DEFAULT_OPTIONS = ExtractOptions()


@dataclass(frozen=True)
class StartedExtraction:
    """An extraction whose first batch is computed and of which nothing is written yet."""

    job: Job
    compute: Compute
    options: ExtractOptions
    missing: Missing
    """What this shard has to make."""
    passes: list[tuple[tuple[ArraySpec, ...], BatchArrays]]
    """Arrays that are made together, and their batches."""
    first_seconds: float
    """Time of the first batch, the start of its threads included."""
    seconds: StageSeconds
    notes: list[str]


@contextlib.contextmanager
def start_extraction(
    job: Job, compute: Compute, options: ExtractOptions = DEFAULT_OPTIONS
) -> Iterator[StartedExtraction]:
    """Compute the first batch of what is missing, so that a model that cannot run leaves nothing in the store.

    The threads that decode end with the context. Raises UserError as `extract` does.
    """
    missing = _assigned(job, options.shard)
    notes: list[str] = []
    if missing and job.existing is not None:
        compute, notes = reconcile_with_recorded(compute, job.existing.compute, options.allow_mixed)
    seconds = StageSeconds()
    started = time.perf_counter()
    with contextlib.ExitStack() as stack:
        passes: list[tuple[tuple[ArraySpec, ...], BatchArrays]] = []
        for ranges, arrays in _passes(missing):
            results = _results(job, ranges, arrays, compute, options.workers, seconds)
            stack.enter_context(contextlib.closing(results))
            passes.append((arrays, results if passes else itertools.chain([next(results)], results)))
        first_seconds = time.perf_counter() - started
        yield StartedExtraction(job, compute, options, missing, passes, first_seconds, seconds, notes)


def extract(job: Job, store: Store, compute: Compute, options: ExtractOptions = DEFAULT_OPTIONS) -> Outcome:
    """Make what is missing of one feature set and seal it when it is complete.

    Raises UserError, naming layer and sample, when values of valid rows do not fit the store's dtype or are not finite,
    or when a layer has dead features that are not to be counted. What was committed before stays; where it happens in
    the first batch nothing is written.

    Args:
        job: The feature set, and what is there of it.
        store: Store that a new set is created in.
        compute: Device, batch size and threads; a set that was started keeps those it was started with.
        options: How the extraction runs.
    """
    with start_extraction(job, compute, options) as work:
        return complete(work, store)


def complete(work: StartedExtraction, store: Store) -> Outcome:
    """Write what was started, into a new set if there is none, and seal what is complete; raises as `extract` does."""
    if work.job.existing is not None:
        return _write_and_seal(work, work.job.existing)
    target = _create(work.job, store, work.compute, work.options.provenance)
    job = replace(work.job, existing=target, layout=target.layout)
    recorded = work.compute.record(job.spec.compute_dtype)
    if _assigned(job, work.options.shard) == work.missing and target.compute == recorded:
        return _write_and_seal(replace(work, job=job), target)
    # Another process created the set in the meantime, with other ranges or batches, or has written some: start again.
    with start_extraction(job, work.compute, work.options) as again:
        return _write_and_seal(again, target)


def _write_and_seal(work: StartedExtraction, target: ZarrSet) -> Outcome:
    job = work.job
    n_missing = sum(row_range.stop - row_range.start for row_range in job.missing())
    outcome = Outcome(job.title, target, rows_reused=job.layout.n_rows - n_missing, seconds=work.seconds)
    outcome.notes = work.notes
    target.add_arrays(job.arrays)  # also from a shard that has no range of its own
    if work.missing:
        outcome.rows_made = _write(work, target)
    unsealed = job.unsealed()
    if unsealed or target.commits:  # commit records beside seals: a command was killed while it removed them
        before = time.perf_counter()
        outcome.missing = seal(target, unsealed, refuse_dead=job.dead_features == "stop")
        outcome.seconds.seal = time.perf_counter() - before
    outcome.notes += [
        f"{name} has {describe_channels(target.seals[name].dead, target.arrays[name].row_shape[-1])}"
        for name in unsealed
        if target.sealed(name) and target.seals[name].dead
    ]
    return outcome


def _assigned(job: Job, shard: tuple[int, int]) -> Missing:
    """Return what is missing in the ranges of one shard."""
    return {row_range: arrays for row_range, arrays in job.missing().items() if row_range.number % shard[1] == shard[0]}


def _create(job: Job, store: Store, compute: Compute, provenance: Mapping[str, Any]) -> ZarrSet:
    return ZarrSet.create(
        store.objects,
        job.spec,
        job.layout,
        {"samples": job.samples.table},
        compute.record(job.spec.compute_dtype),
        {
            **provenance,
            "licence_of_weights": job.model.licence,
            **({"weights": dict(job.model.origin)} if job.model.origin else {}),
            "licence_of_data": job.samples.licence,
            **bad_rows(job.samples, job.samples.table),
            "layers": "block.<l> is the output of block l, counted from 0; .norm is after the final norm; stage.<k> is "
            "the k-th feature map, finest first",
            "n_prefix": job.model.n_prefix,
            "grids": [list(grid) for grid in job.grids],
            **({"notes_on_model": list(job.model.notes)} if job.model.notes else {}),
        },
    )


def _write(work: StartedExtraction, target: ZarrSet) -> int:
    """Write and commit all batches; return the number of their rows."""
    seconds = work.seconds
    rows_total = sum(row_range.stop - row_range.start for row_range in work.missing)
    started = time.perf_counter() - work.first_seconds  # without the making of labels in between
    rows_done = 0
    for arrays, results in work.passes:
        with SetWriter(target, [array.name for array in arrays], max_bytes=QUEUE_BYTES) as writer:
            current: RangeWriter | None = None
            for batch, values in results:
                before = time.perf_counter()
                if current is None or current.range != batch.range:
                    current = writer.range(batch.range)
                for name, rows in values.items():
                    current.write(name, rows)
                if batch.ends_range:
                    current.commit()
                now = time.perf_counter()
                seconds.write += now - before
                rows_done += len(batch)
                work.options.on_progress(
                    Progress(work.job.title, rows_done, rows_total, now - started, seconds.bottleneck)
                )
            before = time.perf_counter()
            writer.close()
            seconds.write += time.perf_counter() - before
            writer.raise_failures()
    return rows_total


def recompute(
    job: Job,
    wanted: Missing,
    compute: Compute,
    workers: int,
    take: Callable[[Batch, dict[str, np.ndarray]], None],
) -> None:
    """Compute some rows as an extraction does and pass the batches to ``take``; writes nothing.

    Spans that start at a batch of their range give the same bytes as extracting the whole range. The decoding threads
    end when ``take`` raises.

    Args:
        job: The feature set.
        wanted: Spans of rows, each with the arrays to compute.
        compute: Device, batch size and threads.
        workers: Threads that decode images.
        take: Called with every batch and its arrays by address.
    """
    for spans, arrays in _passes(wanted):
        with contextlib.closing(_results(job, spans, arrays, compute, workers, StageSeconds())) as results:
            for batch, values in results:
                take(batch, values)


def _passes(missing: Missing) -> Iterator[tuple[list[RowRange], tuple[ArraySpec, ...]]]:
    """Group ranges that lack the same arrays; normally there is one group."""
    groups: dict[tuple[str, ...], tuple[list[RowRange], tuple[ArraySpec, ...]]] = {}
    for row_range, arrays in missing.items():
        key = tuple(array.name for array in arrays)
        groups.setdefault(key, ([], arrays))[0].append(row_range)
    yield from groups.values()


@contextlib.contextmanager
def _threads(n_threads: int) -> Generator[None]:
    """Set torch's number of threads, and restore it at the end."""
    before = torch.get_num_threads()
    torch.set_num_threads(n_threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _results(
    job: Job,
    ranges: list[RowRange],
    arrays: tuple[ArraySpec, ...],
    compute: Compute,
    workers: int,
    seconds: StageSeconds,
) -> Generator[tuple[Batch, dict[str, np.ndarray]], None, None]:
    """Yield the batches of some ranges with the arrays that the model gives, and with the statistics of the view."""
    job.model.module.to(device=compute.device, dtype=getattr(torch, job.spec.compute_dtype))
    stats = {array.name.partition("/")[2]: array.name for array in arrays if array.group == SAMPLE_STATS}
    tokens = [array for array in arrays if array.name not in stats.values()]
    run = Capture(job.model, tokens, job.spec.compute_dtype)
    loader = Loader(job.samples, job.spec.model.interpolation, compute.batch_size, workers)
    waited = 0.0
    # Closed explicitly: a traceback would keep the generator alive, and with it threads that Ctrl-C waits for.
    with _threads(compute.threads), contextlib.closing(loader.batches(ranges)) as batches:
        for batch, values in forward(batches, run, job.samples, compute.device, seconds):
            seconds.decode += loader.waited - waited
            waited = loader.waited
            yield batch, values | {address: batch.sample_stats[name] for name, address in stats.items()}
