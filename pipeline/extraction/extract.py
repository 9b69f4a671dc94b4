"""Extraction: decode, model, copy and write, side by side, one pass a model for all its arrays.

Decoding runs in threads ahead of the model, chunks are encoded, hashed and fsynced in threads behind it. On a GPU a
batch's results are copied while the next batch computes. What is committed stays; everything else is made again.
"""

import contextlib
import itertools
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from pipeline.extraction.capture import Capture
from pipeline.extraction.compute import Compute, reconcile_with_recorded
from pipeline.extraction.forward import BatchArrays, forward
from pipeline.extraction.job import FACTS, QUEUE_BYTES, Job
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
"""Ranges with the arrays that they lack."""


@dataclass(frozen=True)
class StartedExtraction:
    """An extraction whose first batch is computed, and of which nothing is written yet."""

    job: Job
    compute: Compute
    shard: tuple[int, int]
    workers: int
    allow_mixed: bool
    mine: Missing
    passes: list[tuple[tuple[ArraySpec, ...], BatchArrays]]
    """Arrays that are made together, and their batches."""
    first_seconds: float
    """What the first batch took, from the start of its threads on."""
    seconds: StageSeconds
    notes: list[str]


@contextlib.contextmanager
def start_extraction(
    job: Job,
    compute: Compute,
    *,
    workers: int = 2,
    shard: tuple[int, int] = (0, 1),
    allow_mixed: bool = False,
) -> Iterator[StartedExtraction]:
    """Compute the first batch of what is missing, so that a model that cannot run leaves nothing behind.

    ``shard`` (i, N) takes every N-th range from the i-th on, counted from 0. Leaving ends the threads that decode,
    whatever happened. Raises UserError as `extract` does.
    """
    mine = _mine(job, shard)
    notes: list[str] = []
    if mine and job.existing is not None:
        compute, notes = reconcile_with_recorded(compute, job.existing.compute, allow_mixed)
    seconds = StageSeconds()
    started = time.perf_counter()
    with contextlib.ExitStack() as stack:
        passes: list[tuple[tuple[ArraySpec, ...], BatchArrays]] = []
        for ranges, arrays in _passes(mine):
            results = stack.enter_context(contextlib.closing(_results(job, ranges, arrays, compute, workers, seconds)))
            passes.append((arrays, results if passes else itertools.chain([next(results)], results)))
        first_seconds = time.perf_counter() - started
        yield StartedExtraction(job, compute, shard, workers, allow_mixed, mine, passes, first_seconds, seconds, notes)


def extract(
    job: Job,
    store: Store,
    compute: Compute,
    *,
    workers: int = 2,
    shard: tuple[int, int] = (0, 1),
    allow_mixed: bool = False,
    provenance: dict[str, Any] | None = None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> Outcome:
    """Make what is missing of one feature set and seal it when it is complete.

    ``shard`` (i, N) takes every N-th range from the i-th on, counted from 0. Raises UserError when values of valid
    rows do not fit the store's dtype or are not finite, or when a layer has dead features that are not to be counted,
    naming layer and sample; what was committed before stays, and where that happens in the first batch nothing is
    written.
    """
    with start_extraction(job, compute, workers=workers, shard=shard, allow_mixed=allow_mixed) as work:
        return complete(work, store, provenance=provenance, on_progress=on_progress)


def complete(
    work: StartedExtraction,
    store: Store,
    *,
    provenance: dict[str, Any] | None = None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> Outcome:
    """Create the set if need be, write what was begun and seal what is complete; raises what `extract` does."""
    job = work.job
    target = job.existing
    if target is None:
        target = _create(job, store, work.compute, provenance or {})
        job = replace(job, existing=target, layout=target.layout)
        if _mine(job, work.shard) != work.mine or target.compute != work.compute.record(job.spec.compute_dtype):
            # Another process created it a moment ago, and cut it into other ranges or batches, or wrote some.
            return extract(
                job,
                store,
                work.compute,
                workers=work.workers,
                shard=work.shard,
                allow_mixed=work.allow_mixed,
                provenance=provenance,
                on_progress=on_progress,
            )
    n_missing = sum(row_range.stop - row_range.start for row_range in job.missing())
    outcome = Outcome(job.title, target, rows_reused=job.layout.n_rows - n_missing, seconds=work.seconds)
    outcome.notes = work.notes
    target.add_arrays(job.arrays)  # a shard without a range of its own may come first
    if work.mine:
        outcome.rows_made = _write(work, target, on_progress)
    unsealed = job.unsealed()
    if unsealed or target.commits:  # commit records beside seals: a command was killed while it cleared them away
        before = time.perf_counter()
        outcome.missing = seal(target, unsealed, refuse_dead=job.dead_features == "stop")
        outcome.seconds.seal = time.perf_counter() - before
    outcome.notes += [
        f"{name} has {describe_channels(target.seals[name].dead, target.arrays[name].row_shape[-1])}"
        for name in unsealed
        if target.sealed(name) and target.seals[name].dead
    ]
    return outcome


def _mine(job: Job, shard: tuple[int, int]) -> Missing:
    return {row_range: arrays for row_range, arrays in job.missing().items() if row_range.number % shard[1] == shard[0]}


def _create(job: Job, store: Store, compute: Compute, provenance: dict[str, Any]) -> ZarrSet:
    return ZarrSet.create(
        store.objects,
        job.spec,
        job.layout,
        {"samples": job.samples.table},
        compute.record(job.spec.compute_dtype),
        {
            **provenance,
            "licence_of_weights": job.model.licence,
            "licence_of_data": job.samples.licence,
            **bad_rows(job.samples, job.samples.table),
            "layers": "block.<l> is the output of block l, counted from 0; .norm is after the final norm; stage.<k> is "
            "the k-th feature map, finest first",
            "n_prefix": job.model.n_prefix,
            "grids": [list(grid) for grid in job.grids],
            **({"notes_on_model": list(job.model.notes)} if job.model.notes else {}),
        },
    )


def _write(work: StartedExtraction, target: ZarrSet, on_progress: Callable[[Progress], None]) -> int:
    """Write and commit all batches; return the number of their rows."""
    seconds = work.seconds
    rows_total = sum(row_range.stop - row_range.start for row_range in work.mine)
    started = time.perf_counter() - work.first_seconds  # labels are made in between, and are no part of the rate
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
                rows_done += len(batch.pixels)
                on_progress(Progress(work.job.title, rows_done, rows_total, now - started, seconds.bottleneck))
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
    """Hand over the batches of some rows with their arrays as an extraction computes them, and write nothing.

    A span of rows that begins at a batch of its range gives the bytes of the whole range's extraction. Whatever
    ``take`` raises ends the threads that decode.
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
    """Compute with so many threads, and give the process back those it had."""
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
    """Yield the batches of some ranges with the arrays that the model gives, and with the facts of the view."""
    job.model.module.to(device=compute.device, dtype=getattr(torch, job.spec.compute_dtype))
    facts = {array.name.partition("/")[2]: array.name for array in arrays if array.group == FACTS}
    tokens = [array for array in arrays if array.name not in facts.values()]
    run = Capture(job.model, tokens, job.spec.compute_dtype)
    loader = Loader(job.samples, job.spec.model.interpolation, compute.batch_size, workers)
    waited = 0.0
    # Closed by name: a traceback would keep it alive, and with it threads for which Ctrl-C waits.
    with _threads(compute.threads), contextlib.closing(loader.batches(ranges)) as batches:
        for batch, values in forward(batches, run, job.samples, compute.device, seconds):
            seconds.decode += loader.waited - waited
            waited = loader.waited
            yield batch, values | {address: batch.facts[name] for name, address in facts.items()}
