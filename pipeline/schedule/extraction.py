"""Makes the sets of a recipe in the workers of a cluster; this process lists the sources, creates the sets and seals.

The order is that of an extraction in one process: a first batch that writes nothing, the label set, the feature set.
The next set, of another view or model, begins while workers make the last shares of the one before.
"""

import os
import secrets
from collections.abc import Generator, Hashable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.extraction.compute import Compute, choose_compute
from pipeline.extraction.extract import create_set, seal_complete
from pipeline.extraction.job import Job
from pipeline.extraction.options import nothing_is_told
from pipeline.extraction.progress import Outcome
from pipeline.extraction.run import Made, Wanted, start_labels_of
from pipeline.labels.label_set import write_labels
from pipeline.labels.making_labels import StartedLabels, finish_labels
from pipeline.recipe import Recipe
from pipeline.rows.samples import Samples
from pipeline.schedule.clusters import Cluster
from pipeline.schedule.handing_out import ScheduledProgress, Watch, result_of, submit
from pipeline.schedule.in_worker import (
    Order,
    SentSamples,
    Share,
    Trial,
    make_label_ranges,
    make_ranges,
    try_first_batch,
)
from pipeline.schedule.open_sets import Steps, Work, hand_out
from pipeline.schedule.same_code import explain
from pipeline.schedule.share_sizes import COMPILED_SECONDS, SECONDS, ShareSizes
from pipeline.schedule.worker_calls import without_patchbank
from pipeline.schedule.written_rows import remove_rows, write_rows
from pipeline.workspace import Workspace
from stores import Store, ZarrSet
from stores.errors import UserError
from stores.units import format_bytes
from stores.writing.read_back import read_back_of


def compute_of(cluster: Cluster, device: str | None, batch_size: int | None) -> Compute:
    """Return the settings that workers compute with, as one of them chooses them; raises as `handing_out.result_of`.

    Args:
        cluster: The workers.
        device: What ``--device`` says.
        batch_size: What ``--batch-size`` says.
    """
    chosen: Compute = result_of(cluster, submit(cluster, choose_compute, device, batch_size))
    if chosen.on_gpu or cluster.threads is None:
        return chosen
    return replace(chosen, threads=int(os.environ.get("OMP_NUM_THREADS") or cluster.threads))


class ScheduledSets:
    """Makes what is missing of one set after another in workers: an `extraction.run.MakeSets`.

    Args:
        cluster: The workers.
        watch: What they tell.
        recipe: The experiment's extraction settings.
        workspace: Store, data and weights, where every worker finds them too.
        samples: The rows in the clean view.
        memory_bytes: Memory that workers on this machine share, in bytes; None does not look.
    """

    def __init__(
        self,
        cluster: Cluster,
        watch: Watch,
        recipe: Recipe,
        workspace: Workspace,
        samples: Samples,
        memory_bytes: int | None = None,
    ) -> None:
        if workspace.own:
            raise UserError("a model that is passed in from Python is extracted by one process: leave out --scheduler")
        self.cluster, self.watch, self.recipe = cluster, watch, recipe
        self.workspace, self.samples, self.memory_bytes = workspace, samples, memory_bytes
        self.run = secrets.token_hex(8)
        self._sent: SentSamples | None = None

    def __call__(self, wanted: Iterable[Wanted], compute: Compute, store: Store) -> Generator[Made]:
        """Make what is missing of some sets; raises as `extraction.extract.extract` does.

        The next set begins while workers hold the last shares of the one before. What builds its model here does so
        meanwhile, and forgets the weights: workers have their own.

        Args:
            wanted: The feature sets.
            compute: Device, batch size and threads of a worker.
            store: The store.
        """
        with self.samples.noticing_changes():
            yield from hand_out(self.cluster, (self._steps(one, compute, store) for one in wanted))

    def _steps(self, wanted: Wanted, compute: Compute, store: Store) -> Steps[Made]:
        """Make one set: a first batch that writes nothing, the label set, the feature set.

        Args:
            wanted: The feature set.
            compute: Device, batch size and threads of a worker.
            store: The store.
        """
        job, options = wanted.job, wanted.options
        job.model.module.to("meta")
        order, built = self._order(wanted, compute), (wanted.model.display, job.samples.frame.input)
        self._check_memory(job, compute)
        numbers = [row_range.number for row_range in job.missing() if options.makes(row_range.number)]
        notes: list[str] = []
        record: dict[str, Any] = {}
        if job.existing is None:
            trial = yield from _trial_steps(order, built)
            order, record, notes = replace(order, compute=trial.compute), trial.record, trial.notes
        started = start_labels_of(job, store, options)
        n_made = yield from self._label_steps(started, order, job.samples)
        labels = finish_labels(started)
        target = job.existing or create_set(job, record, options, store)
        job = replace(job, existing=target, layout=target.layout)
        target.add_arrays(job.arrays)
        rows = {row_range.number: row_range.stop - row_range.start for row_range in job.layout.ranges()}
        numbers = [number for number in numbers if number in rows]
        outcome = Outcome(job.title, target, notes=notes)
        outcome.rows_reused = job.layout.n_rows - _missing_rows(job)
        n_rows = sum(rows[one] for one in numbers)
        progress = ScheduledProgress(job.title, "/".join(order.key), n_rows, self.watch, options.on_progress)

        def on_share(share: Share, made: tuple[int, ...]) -> None:
            _add(outcome, share)
            _add_checked(target, share)
            progress.add(share, sum(rows[number] for number in made))

        yield Work(
            lambda share: (make_ranges, order, share),
            numbers,
            on_share,
            ShareSizes(COMPILED_SECONDS if order.compute.compiled else SECONDS),
            progress.show,
            built=built,
            is_last=True,
            is_alike=wanted.is_alike,
        )
        target.refresh()
        _add_uncounted(outcome, job.layout.n_rows - outcome.rows_reused - _missing_rows(job))
        if options.seals:
            seal_complete(job, target, outcome)
        return Made(wanted, labels, n_made, outcome)

    def _label_steps(self, started: StartedLabels, order: Order, samples: Samples) -> Steps[int]:
        """Write what is missing of a label set; return the number of rows that were made.

        Args:
            started: The label set.
            order: What workers have to know of its samples.
            samples: The rows under their view.
        """
        label_set = started.set
        if not started.missing:
            return 0
        known = {number for _, number in started.ready}
        n_made = write_labels(label_set, started.missing, samples, started.ready, known) if known else 0
        names = tuple(array.name for array in started.missing)
        done = [label_set.committed(name) for name in names]
        left = [number for number in range(label_set.layout.n_ranges) if any(number not in one for one in done)]
        shares: list[Share] = []

        def on_share(share: Share, numbers: tuple[int, ...]) -> None:
            shares.append(share)
            _add_checked(label_set, share)

        yield Work(lambda share: (make_label_ranges, order, names, share), left, on_share)
        label_set.refresh()
        return n_made + sum(share.rows_made for share in shares)

    def close(self) -> None:
        """Remove the rows that were written for workers; call it when no worker makes anything any more."""
        if self._sent is not None:
            remove_rows(self._sent.written, self.workspace.store.objects)
            self._sent = None

    def _send(self) -> str:
        """Write the rows of the data set for workers, once, and return what names them."""
        if self._sent is None:
            written = write_rows(self.samples, self.workspace.store.objects, self.run)
            self._sent = SentSamples(written, self._location)
            try:
                self.cluster.client.register_plugin(without_patchbank(self._sent), name=self._sent.name)
            except (ImportError, AttributeError) as error:
                explain(self.cluster, error)  # a worker that has come since all were asked
                raise
        return self._sent.key

    @property
    def _location(self) -> str:
        location = self.workspace.store.location
        return location if "://" in location else str(Path(location).absolute())

    def _order(self, wanted: Wanted, compute: Compute) -> Order:
        return Order(
            recipe=self.recipe,
            model=wanted.model.display,
            view=wanted.number,
            store=self._location,
            data=str(self.workspace.data),
            folder=str(self.workspace.folder),
            current=str(Path.cwd()),
            samples=self._send(),
            run=self.run,
            compute=compute,
            options=replace(wanted.options, on_progress=nothing_is_told, ranges=None, shard=(0, 1)),
        )

    def _check_memory(self, job: Job, compute: Compute) -> None:
        """Raise UserError where the buffers of all workers on this machine do not fit its memory."""
        needed = self.cluster.n_here * job.buffer_bytes(compute.batch_size, compute.on_gpu)
        if self.memory_bytes is not None and job.missing() and needed > self.memory_bytes:
            raise UserError(
                f"the buffers of {self.cluster.what} take {format_bytes(needed)} for {job.title} and "
                f"{format_bytes(self.memory_bytes)} are free: use fewer workers, or keep fewer layers in [features]"
            )


def _trial_steps(order: Order, built: Hashable) -> Steps[Trial]:
    """Let a worker build the model and compute the first batch of a set, and write nothing; return what it tells."""
    tried: list[Share] = []
    yield Work(lambda numbers: (try_first_batch, order), [0], lambda share, numbers: tried.append(share), built=built)
    (share,) = tried
    assert share.trial is not None
    return share.trial


def _missing_rows(job: Job) -> int:
    return sum(row_range.stop - row_range.start for row_range in job.missing())


def _add_uncounted(outcome: Outcome, n_rows: int) -> None:
    """Add rows that were committed meanwhile by workers that did not live to say so, or by other commands."""
    uncounted = n_rows - sum(outcome.made_by.values())
    if uncounted > 0:
        outcome.rows_made += uncounted
        outcome.made_by["(died, or another command)"] = uncounted


def _add_checked(target: ZarrSet, share: Share) -> None:
    """Keep what a worker has read back of a set, for sealing it."""
    if share.checked is not None:
        read_back_of(target).add(target.arrays, share.checked)


def _add(outcome: Outcome, share: Share) -> None:
    """Add what became of a share to the outcome of its set."""
    outcome.rows_made += share.rows_made
    worker = f"{share.worker} on {share.host}"
    outcome.made_by[worker] = outcome.made_by.get(worker, 0) + share.rows_made + sum(share.rows_taken.values())
    for digest, n_rows in share.rows_taken.items():
        outcome.rows_taken[digest] = outcome.rows_taken.get(digest, 0) + n_rows
    for name, value in share.stages.__dict__.items():
        setattr(outcome.seconds, name, getattr(outcome.seconds, name) + value)
    outcome.notes += [note for note in share.notes if note not in outcome.notes]
