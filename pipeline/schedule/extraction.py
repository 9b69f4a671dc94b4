"""Makes the sets of a recipe in the workers of a cluster; this process lists the sources, creates the sets and seals.

The order is that of an extraction in one process: a first batch that writes nothing, the label set, the feature set.
"""

import os
import secrets
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.extraction.compute import Compute, choose_compute
from pipeline.extraction.extract import create_set, seal_complete
from pipeline.extraction.job import Job
from pipeline.extraction.options import ExtractOptions, nothing_is_told
from pipeline.extraction.progress import Outcome
from pipeline.extraction.run import Made, make_labels_of
from pipeline.labels.label_set import Ready, write_labels
from pipeline.recipe import ModelRecipe, Recipe
from pipeline.rows.samples import Samples
from pipeline.schedule.clusters import Cluster
from pipeline.schedule.handing_out import ScheduledProgress, Watch, hand_out
from pipeline.schedule.in_worker import (
    Order,
    SentSamples,
    Share,
    Trial,
    make_label_ranges,
    make_ranges,
    try_first_batch,
)
from pipeline.schedule.share_sizes import COMPILED_SECONDS, SECONDS, ShareSizes
from pipeline.schedule.written_rows import remove_rows, write_rows
from pipeline.workspace import Workspace
from stores import Store, ZarrSet
from stores.errors import PatchbankError, UserError
from stores.specs import ArraySpec
from stores.units import format_bytes
from stores.writing.read_back import read_back_of


def compute_of(cluster: Cluster, device: str | None, batch_size: int | None) -> Compute:
    """Return the settings that workers compute with, as one of them chooses them; raises UserError as it does.

    Args:
        cluster: The workers.
        device: What ``--device`` says.
        batch_size: What ``--batch-size`` says.
    """
    chosen: Compute = cluster.client.submit(choose_compute, device, batch_size, pure=False).result()
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

    def __call__(
        self,
        model_recipe: ModelRecipe,
        view: int,
        job: Job,
        compute: Compute,
        options: ExtractOptions,
        store: Store,
    ) -> Made:
        """Make what is missing of one model under one view; raises as `extraction.extract.extract` does.

        Args:
            model_recipe: The model as the recipe names it.
            view: Number of the view, as `Recipe.all_views` counts.
            job: The feature set.
            compute: Device, batch size and threads of a worker.
            options: How the extraction runs.
            store: The store.
        """
        order = self._order(model_recipe, view, compute, options)
        self._check_memory(job, compute)
        numbers = [row_range.number for row_range in job.missing() if options.makes(row_range.number)]
        notes: list[str] = []
        record: dict[str, Any] = {}
        if job.existing is None:
            trial = self._trial(order)
            record, notes = trial.record, trial.notes
            order = replace(order, compute=trial.compute)
        labels, n_made = make_labels_of(job, store, options, self._label_writer(order))
        target = job.existing or create_set(job, record, options, store)
        job = replace(job, existing=target, layout=target.layout)
        target.add_arrays(job.arrays)
        rows = {row_range.number: row_range.stop - row_range.start for row_range in job.layout.ranges()}
        numbers = [number for number in numbers if number in rows]
        outcome = Outcome(job.title, target, notes=notes)
        outcome.rows_reused = job.layout.n_rows - _missing_rows(job)
        progress = ScheduledProgress(job.title, sum(rows[one] for one in numbers), self.watch, options.on_progress)

        def on_share(share: Share, made: tuple[int, ...]) -> None:
            _add(outcome, share)
            _add_checked(target, share)
            progress.add(share, sum(rows[number] for number in made))

        sizes = ShareSizes(COMPILED_SECONDS if order.compute.compiled else SECONDS)
        self._hand_out(lambda share: (make_ranges, order, share), numbers, sizes, on_share, progress.show)
        target.refresh()
        _add_uncounted(outcome, job.layout.n_rows - outcome.rows_reused - _missing_rows(job))
        if options.seals:
            seal_complete(job, target, outcome)
        return Made(labels, n_made, outcome)

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
            self.cluster.client.register_plugin(self._sent, name=self._sent.name)
        return self._sent.key

    @property
    def _location(self) -> str:
        location = self.workspace.store.location
        return location if "://" in location else str(Path(location).absolute())

    def _order(self, model_recipe: ModelRecipe, view: int, compute: Compute, options: ExtractOptions) -> Order:
        return Order(
            recipe=self.recipe,
            model=model_recipe.display,
            view=view,
            store=self._location,
            data=str(self.workspace.data),
            folder=str(self.workspace.folder),
            current=str(Path.cwd()),
            samples=self._send(),
            run=self.run,
            compute=compute,
            options=replace(options, on_progress=nothing_is_told, ranges=None, shard=(0, 1)),
        )

    def _check_memory(self, job: Job, compute: Compute) -> None:
        """Raise UserError where the buffers of all workers on this machine do not fit its memory."""
        needed = self.cluster.n_here * job.buffer_bytes(compute.batch_size, compute.on_gpu)
        if self.memory_bytes is not None and job.missing() and needed > self.memory_bytes:
            raise UserError(
                f"the buffers of {self.cluster.what} take {format_bytes(needed)} for {job.title} and "
                f"{format_bytes(self.memory_bytes)} are free: use fewer workers, or keep fewer layers in [features]"
            )

    def _trial(self, order: Order) -> Trial:
        found = self.cluster.client.submit(try_first_batch, order, pure=False).result()
        if isinstance(found, PatchbankError):
            with self.samples.noticing_changes():
                raise found
        return found

    def _label_writer(self, order: Order) -> Callable[[ZarrSet, Sequence[ArraySpec], Samples, Ready], int]:
        def write(label_set: ZarrSet, arrays: Sequence[ArraySpec], samples: Samples, ready: Ready) -> int:
            known = {number for _, number in ready}
            n_made = write_labels(label_set, arrays, samples, ready, known) if known else 0
            names = tuple(array.name for array in arrays)
            done = [label_set.committed(name) for name in names]
            left = [number for number in range(label_set.layout.n_ranges) if any(number not in one for one in done)]
            shares: list[Share] = []

            def on_share(share: Share, numbers: tuple[int, ...]) -> None:
                shares.append(share)
                _add_checked(label_set, share)

            self._hand_out(lambda share: (make_label_ranges, order, names, share), left, ShareSizes(), on_share)
            label_set.refresh()
            return n_made + sum(share.rows_made for share in shares)

        return write

    def _hand_out(self, *arguments: Any) -> None:
        with self.samples.noticing_changes():
            hand_out(self.cluster, *arguments)


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
