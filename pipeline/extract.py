"""Extraction: decode, model, copy and write, side by side, one pass a model for all its arrays.

Decoding runs in threads ahead of the model, chunks are encoded, hashed and fsynced in threads behind it. On a GPU a
batch's results are copied while the next batch computes. What is committed stays; everything else is made again.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from pipeline.capture import Capture
from pipeline.compute import Compute, settle
from pipeline.job import FACTS, QUEUE_BYTES, Job
from pipeline.loading import Batch, Loader
from pipeline.not_finite import refuse_not_finite
from pipeline.samples import Samples, invalid_rows
from stores import Store, ZarrSet
from stores.dead_features import in_words
from stores.geometry import RowRange
from stores.sealing import seal
from stores.specs import ArraySpec
from stores.writing import RangeWriter, SetWriter


@dataclass
class StageSeconds:
    """Where the time of one extraction went, as seen by the thread that drives the model."""

    decode: float = 0.0
    """Waiting for pixels."""
    model: float = 0.0
    """Forward passes, and on a GPU waiting for their results."""
    write: float = 0.0
    """Copying into chunks, and waiting for room in the write queue."""
    seal: float = 0.0
    """Reading everything back."""

    @property
    def bottleneck(self) -> str:
        """The stage that takes the most time."""
        stages = {"decode": self.decode, "model": self.model, "write": self.write}
        return max(stages, key=lambda name: stages[name])


@dataclass(frozen=True)
class Progress:
    """What is told after every batch."""

    title: str
    rows_done: int
    rows_total: int
    seconds: float
    bottleneck: str


@dataclass
class Outcome:
    """What one job made and reused."""

    title: str
    set: ZarrSet
    rows_made: int = 0
    rows_reused: int = 0
    missing: dict[str, list[int]] = field(default_factory=dict)
    """Ranges that are still missing, by array: other shards' work."""
    seconds: StageSeconds = field(default_factory=StageSeconds)
    notes: list[str] = field(default_factory=list)


def extract(
    job: Job,
    store: Store,
    compute: Compute,
    *,
    workers: int = 2,
    shard: tuple[int, int] = (0, 1),
    allow_mixed: bool = False,
    provenance: dict[str, Any] | None = None,
    tell: Callable[[Progress], None] = lambda progress: None,
) -> Outcome:
    """Make what is missing of one feature set and seal it when it is complete.

    ``shard`` (i, N) takes every N-th range from the i-th on, counted from 0. Raises UserError when values of valid
    rows do not fit the store's dtype or are not finite, or when a layer has dead features that are not to be counted,
    naming layer and sample; what was committed before stays.
    """
    target = job.existing or ZarrSet.create(
        store.objects,
        job.spec,
        job.layout,
        {"samples": job.samples.table},
        compute.record(job.spec.compute_dtype),
        {
            **(provenance or {}),
            "licence_of_weights": job.model.licence,
            "licence_of_data": job.samples.dataset.licence,
            **invalid_rows(job.samples.table),
            "layers": "block.<l> is the output of block l, counted from 0; .norm is after the final norm; stage.<k> is "
            "the k-th feature map, finest first",
            "n_prefix": job.model.n_prefix,
            "grids": [list(grid) for grid in job.grids],
            **({"notes_on_model": list(job.model.notes)} if job.model.notes else {}),
        },
    )
    if job.existing is None:
        # Another process may have created it a moment ago, and cut it into other ranges.
        job = replace(job, existing=target, layout=target.layout)
    missing = job.missing()
    mine = {row_range: arrays for row_range, arrays in missing.items() if row_range.number % shard[1] == shard[0]}
    outcome = Outcome(job.title, target, rows_reused=job.layout.n_rows)
    if mine:
        compute, outcome.notes = settle(compute, target.compute, allow_mixed)
        target.add_arrays(job.arrays)
        rows_mine = sum(row_range.stop - row_range.start for row_range in mine)
        outcome.rows_reused -= sum(row_range.stop - row_range.start for row_range in missing)
        _run(job, target, mine, compute, workers, outcome, rows_mine, tell)
        outcome.rows_made = rows_mine
    unsealed = job.unsealed()
    if unsealed or target.commits:  # commit records beside seals: a command was killed while it cleared them away
        before = time.perf_counter()
        outcome.missing = seal(target, unsealed, refuse_dead=job.dead_features == "stop")
        outcome.seconds.seal = time.perf_counter() - before
    outcome.notes += [
        f"{name} has {in_words(target.seals[name].dead, target.arrays[name].row_shape[-1])}"
        for name in unsealed
        if target.sealed(name) and target.seals[name].dead
    ]
    return outcome


def _run(
    job: Job,
    target: ZarrSet,
    missing: dict[RowRange, tuple[ArraySpec, ...]],
    compute: Compute,
    workers: int,
    outcome: Outcome,
    rows_total: int,
    tell: Callable[[Progress], None],
) -> None:
    torch.set_num_threads(compute.threads)
    seconds = outcome.seconds
    begun = time.perf_counter()
    rows_done = 0
    job.model.module.to(device=compute.device, dtype=getattr(torch, job.spec.compute_dtype))
    for ranges, arrays in _passes(missing):
        loader = Loader(job.samples, job.spec.model.interpolation, compute.batch_size, workers)
        facts = {array.name.partition("/")[2]: array.name for array in arrays if array.name.startswith(f"{FACTS}/")}
        tokens = [array for array in arrays if array.name not in facts.values()]
        run = Capture(job.model, tokens, job.spec.compute_dtype)
        with SetWriter(target, [array.name for array in arrays], max_bytes=QUEUE_BYTES) as writer:
            current: RangeWriter | None = None
            for batch, values in _forward(loader.batches(ranges), run, job.samples, compute.device, seconds):
                before = time.perf_counter()
                if current is None or current.range != batch.range:
                    current = writer.range(batch.range)
                for name, rows in values.items():
                    current.write(name, rows)
                for name, address in facts.items():
                    current.write(address, batch.facts[name])
                if batch.ends_range:
                    current.commit()
                now = time.perf_counter()
                seconds.write += now - before
                seconds.decode = loader.waited
                rows_done += len(batch.pixels)
                tell(Progress(job.title, rows_done, rows_total, now - begun, seconds.bottleneck))
            before = time.perf_counter()
            writer.close()
            seconds.write += time.perf_counter() - before
            writer.raise_failures()


def recompute(
    job: Job, wanted: dict[RowRange, tuple[ArraySpec, ...]], compute: Compute, workers: int
) -> Iterator[tuple[Batch, dict[str, np.ndarray]]]:
    """Yield the batches of some rows with their arrays as an extraction computes them, and write nothing.

    A span of rows that begins at a batch of its range gives the bytes of the whole range's extraction.
    """
    torch.set_num_threads(compute.threads)
    job.model.module.to(device=compute.device, dtype=getattr(torch, job.spec.compute_dtype))
    for spans, arrays in _passes(wanted):
        loader = Loader(job.samples, job.spec.model.interpolation, compute.batch_size, workers)
        run = Capture(job.model, arrays, job.spec.compute_dtype)
        yield from _forward(loader.batches(spans), run, job.samples, compute.device, StageSeconds())


def _passes(
    missing: dict[RowRange, tuple[ArraySpec, ...]],
) -> Iterator[tuple[list[RowRange], tuple[ArraySpec, ...]]]:
    """Group ranges that lack the same arrays; normally there is one group."""
    groups: dict[tuple[str, ...], tuple[list[RowRange], tuple[ArraySpec, ...]]] = {}
    for row_range, arrays in missing.items():
        key = tuple(array.name for array in arrays)
        groups.setdefault(key, ([], arrays))[0].append(row_range)
    yield from groups.values()


def _forward(
    batches: Iterator[Batch], run: Capture, samples: Samples, device: str, seconds: StageSeconds
) -> Iterator[tuple[Batch, dict[str, np.ndarray]]]:
    """Yield every batch with its arrays on the host; on a GPU one batch behind, so that copies overlap."""
    on_gpu = device.startswith("cuda")
    places = samples.places
    pending: tuple[Batch, dict[str, torch.Tensor], torch.Tensor, Any] | None = None
    for batch in batches:
        if not run.arrays:  # only facts of the view are missing
            yield batch, {}
            continue
        before = time.perf_counter()
        pixels = torch.from_numpy(batch.pixels)
        if on_gpu:
            pixels = pixels.pin_memory().to(device, non_blocking=True)
        stored, sums = run(pixels.float(), places[batch.start : batch.start + len(batch.pixels)])
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
    invalid = samples.invalid(batch.start, batch.start + len(batch.pixels))
    if not bool(torch.isfinite(sums).all()):
        refuse_not_finite(run.model.record.name, arrays, samples, batch.start)
    if invalid.any():
        for array in run.arrays:
            arrays[array.name][invalid] = array.fill
    return batch, arrays
