"""Extracts one feature set: decode, forward pass, copy and write run concurrently, in one pass for all its arrays.

Threads decode ahead of the model; other threads encode, hash and fsync chunks behind it. On a GPU pixels and results
are copied on streams of their own while the model computes. Committed ranges are kept; rows that other sets hold are
taken over; all others are computed.
"""

import contextlib
import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from pipeline.extraction.compute import Compute, reconcile_with_recorded
from pipeline.extraction.computing import halved, results_of
from pipeline.extraction.job import QUEUE_BYTES, Job
from pipeline.extraction.model_pass.forward import BatchArrays
from pipeline.extraction.options import DEFAULT_OPTIONS, ExtractOptions
from pipeline.extraction.progress import Outcome, Progress, StageSeconds
from pipeline.extraction.taking_over import ArraysPass, Missing, known_rows, passes, provenance
from pipeline.rows.samples import bad_rows
from stores import Store, ZarrSet
from stores.format.layout import RowRange
from stores.format.machines import differences, note_machine
from stores.specs import ArraySpec
from stores.writing.dead_channels import describe_channels
from stores.writing.sealing import seal
from stores.writing.writer import RangeWriter, SetWriter


@dataclass(frozen=True)
class StartedExtraction:
    """An extraction whose first batch is computed and of which nothing is written yet."""

    job: Job
    compute: Compute
    options: ExtractOptions
    missing: Missing
    """What this shard has to make."""
    passes: list[ArraysPass]
    first_seconds: float
    """Time of the first batch, the start of its threads included."""
    seconds: StageSeconds
    notes: list[str]


@contextlib.contextmanager
def start_extraction(
    job: Job, compute: Compute, options: ExtractOptions = DEFAULT_OPTIONS
) -> Iterator[StartedExtraction]:
    """Compute the first batch of what is missing, so that a model that cannot run leaves nothing in the store.

    A batch that does not fit the memory of a GPU is halved. The threads that decode end with the context. Raises
    UserError as `extract` does.
    """
    missing = _assigned(job, options)
    notes: list[str] = []
    if missing and job.existing is not None:
        compute, notes = reconcile_with_recorded(compute, job.existing.compute, options.allow_mixed)
    started = time.perf_counter()
    while True:
        with contextlib.ExitStack() as stack:
            seconds = StageSeconds()
            try:
                ready, more = _first_batch(job, missing, compute, options, seconds, stack)
            except torch.OutOfMemoryError:
                ready, more = None, []
            if ready is not None:
                first_seconds = time.perf_counter() - started
                yield StartedExtraction(job, compute, options, missing, ready, first_seconds, seconds, notes + more)
                return
        # After the block, in which tensors of the failed pass can still be held.
        compute, line = halved(compute, job)
        notes.append(line)


def _first_batch(
    job: Job,
    missing: Missing,
    compute: Compute,
    options: ExtractOptions,
    seconds: StageSeconds,
    stack: contextlib.ExitStack,
) -> tuple[list[ArraysPass], list[str]]:
    """Return the passes over what is missing, the first with its first batch, and notes on rows that are taken over.

    Args:
        job: The feature set.
        missing: What is made.
        compute: Device, batch size and threads.
        options: How the extraction runs.
        seconds: Time of the stages is added to it.
        stack: Ends the threads of the passes.
    """
    record = compute.record(job.precision) if job.existing is None else job.existing.compute
    ready: list[ArraysPass] = []
    notes: list[str] = []
    is_tried = False
    for ranges, arrays in passes(missing):
        known = known_rows(job, arrays, record, options.allow_mixed)

        def compute_rows(
            spans: Iterable[RowRange],
            rows: Callable[[RowRange], Sequence[int]],
            arrays: tuple[ArraySpec, ...] = arrays,
        ) -> BatchArrays:
            results = results_of(job, spans, arrays, compute, options.workers, seconds, rows)
            stack.enter_context(contextlib.closing(results))
            return results

        results = compute_rows(ranges, known.unknown)
        if not is_tried and any(known.unknown(row_range) for row_range in ranges):
            results = itertools.chain([next(results)], results)
            is_tried = True
        ready.append(ArraysPass(known, ranges, known.merged(ranges, results, compute_rows)))
        notes += ready[-1].notes(record)
    return ready, notes


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
    recorded = work.compute.record(work.job.precision)
    target = create_set(work.job, recorded, work.options, store)
    job = replace(work.job, existing=target, layout=target.layout)
    if _assigned(job, work.options) == work.missing and target.compute == recorded:
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
        here = work.compute.record(job.precision)
        if differences(target.compute, here):
            started = [
                ([a.name for a in arrays], [r.number for r in ranges]) for ranges, arrays in passes(work.missing)
            ]
            note_machine(target.objects, target.prefix, here, started)
            outcome.notes.append("`patchbank show` lists the ranges computed here")
        try:
            _write(work, target, outcome)
            is_written = True
        except torch.OutOfMemoryError:
            is_written = False
        if not is_written:
            return _with_smaller_batches(work, target, outcome)
    if work.options.seals:
        seal_complete(job, target, outcome)
    return outcome


def seal_complete(job: Job, target: ZarrSet, outcome: Outcome) -> None:
    """Seal the wanted arrays that are complete; note in the outcome what is missing and which features are dead."""
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


def _with_smaller_batches(work: StartedExtraction, target: ZarrSet, before: Outcome) -> Outcome:
    """Go on after a batch did not fit the memory of a GPU; ranges that are committed stay, the others are marked."""
    compute, line = halved(work.compute, work.job)
    target.refresh()
    with start_extraction(replace(work.job, existing=target), compute, work.options) as again:
        outcome = _write_and_seal(again, target)
    for name in ("decode", "model", "write"):
        setattr(outcome.seconds, name, getattr(outcome.seconds, name) + getattr(before.seconds, name))
    written = outcome.rows_reused - before.rows_reused  # what was computed and committed by then
    outcome.rows_made += max(0, written - sum(before.rows_taken.values()))
    outcome.rows_reused = before.rows_reused
    outcome.rows_taken = before.rows_taken | outcome.rows_taken
    outcome.notes = [*before.notes, line, *(note for note in outcome.notes if note not in before.notes)]
    return outcome


def _assigned(job: Job, options: ExtractOptions) -> Missing:
    """Return what is missing in the ranges that are to be made here."""
    return {row_range: arrays for row_range, arrays in job.missing().items() if options.makes(row_range.number)}


def create_set(job: Job, record: Mapping[str, Any], options: ExtractOptions, store: Store) -> ZarrSet:
    """Create a feature set without arrays, or open it where another process has created it.

    Args:
        job: The feature set.
        record: Its compute record.
        options: How the extraction runs.
        store: The store.
    """
    return ZarrSet.create(
        store.objects,
        job.spec,
        job.layout,
        {"samples": job.samples.table},
        record,
        {
            **options.provenance,
            "licence_of_weights": job.model.licence,
            **({"weights": dict(job.model.origin)} if job.model.origin else {}),
            "licence_of_data": job.samples.licence,
            **bad_rows(job.samples, job.samples.table),
            "layers": "block.<l> is the output of block l, counted from 0; .norm is after the final norm; stage.<k> is "
            "the k-th feature map, finest first",
            "n_prefix": job.model.n_prefix,
            "grids": [list(grid) for grid in job.grids],
            **({"notes_on_model": list(job.model.notes)} if job.model.notes else {}),
            **provenance(job, record, options.allow_mixed),
        },
    )


def _write(work: StartedExtraction, target: ZarrSet, outcome: Outcome) -> None:
    """Write and commit all rows, and count those that the model computed and those that were taken over."""
    seconds = work.seconds
    n_unknown = sum(one.n_unknown for one in work.passes)
    rows_total = n_unknown or sum(row_range.stop - row_range.start for row_range in work.missing)
    started = time.perf_counter() - work.first_seconds  # without the making of labels in between
    rows_done = 0
    for one in work.passes:
        with SetWriter(target, [array.name for array in one.known.arrays], max_bytes=QUEUE_BYTES) as writer:
            current: RangeWriter | None = None
            for rows in one.rows:
                before = time.perf_counter()
                if current is None or current.range != rows.range:
                    current = writer.range(rows.range)
                for name, values in rows.values.items():
                    current.write(name, values)
                if rows.stop == rows.range.stop:
                    current.commit()
                now = time.perf_counter()
                seconds.write += now - before
                n_rows = rows.stop - rows.start
                if rows.taken_from:
                    outcome.rows_taken[rows.taken_from] = outcome.rows_taken.get(rows.taken_from, 0) + n_rows
                else:
                    outcome.rows_made += n_rows
                rows_done += n_rows if n_unknown == 0 or not rows.taken_from else 0
                work.options.on_progress(
                    Progress(work.job.title, min(rows_done, rows_total), rows_total, now - started, seconds.bottleneck)
                )
            before = time.perf_counter()
            writer.close()
            seconds.write += time.perf_counter() - before
            writer.raise_failures()
