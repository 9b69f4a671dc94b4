"""What runs in a worker: shares of ranges, made by a model that stays built from one share to the next.

A task is an `Order` and numbers of ranges: no pixel and no feature passes through the scheduler. The rows of the data
set, which the first process has listed and hashed, are written to the store once, where workers read them.
"""

import asyncio
import contextlib
import os
import platform
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

from distributed import WorkerPlugin, get_worker

from pipeline.extraction.compute import Compute
from pipeline.extraction.extract import extract, start_extraction
from pipeline.extraction.job import Job, prepare
from pipeline.extraction.options import ExtractOptions
from pipeline.extraction.progress import Progress, StageSeconds
from pipeline.extraction.run import ViewModels
from pipeline.labels.label_set import label_spec, write_labels
from pipeline.recipe import Recipe
from pipeline.rows.samples import Samples
from pipeline.rows.under_view import for_view
from pipeline.schedule.worker_calls import from_worker
from pipeline.schedule.written_rows import WrittenRows, read_rows
from pipeline.views import CLEAN
from pipeline.workspace import Workspace
from stores import Store, ZarrSet
from stores.errors import PatchbankError, UserError
from stores.format.paths import COMMITS
from stores.writing.read_back import CheckedChunks, read_back_of

TOPIC = "patchbank-progress"
"""Topic of the events that workers send while they make a share."""
TOLD_EVERY = 0.5
"""Seconds between two events of a worker."""
GRACE = 20.0
"""Seconds that a worker which is told to end has for what it is writing."""

_STOPPING = threading.Event()
_RUNNING = threading.Lock()
"""Held while a share is made: a model runs once at a time, however many threads a worker of others has."""
_SENT: dict[str, "SentSamples"] = {}


@dataclass(frozen=True)
class Order:
    """What a worker has to know to make ranges of one model under one view."""

    recipe: Recipe
    model: str
    """Name in figures and tables."""
    view: int
    """Number of the view, as `Recipe.all_views` counts."""
    store: str
    data: str
    folder: str
    """The experiment file's folder."""
    current: str
    """The folder that relative paths are below."""
    samples: str
    """Names the rows that were written."""
    run: str
    """Names the command, so that workers which outlive one look at the store again for the next."""
    compute: Compute
    options: ExtractOptions

    @property
    def key(self) -> tuple[str, str, str]:
        """What tells the set from others: command, model and view."""
        return self.run, self.model, str(self.view)


class Trial(NamedTuple):
    """What a first batch tells: settings that fit the device, and the compute record of a set made with them."""

    compute: Compute
    record: dict[str, Any]
    notes: list[str]


@dataclass
class Share:
    """What became of one share."""

    worker: str
    host: str
    seconds: float = 0.0
    rows_made: int = 0
    rows_taken: dict[str, int] = field(default_factory=dict)
    stages: StageSeconds = field(default_factory=StageSeconds)
    notes: list[str] = field(default_factory=list)
    stopped: bool = False
    """Whether the worker was told to end before all ranges were made."""
    error: PatchbankError | None = None
    checked: CheckedChunks | None = None
    """The chunks that it wrote and read back: sealing reads them no second time."""
    trial: Trial | None = None
    """What its first batch tells, if it was one that writes nothing."""


class StoppedError(PatchbankError):
    """Raised between two batches in a worker that was told to end."""


class SentSamples(WorkerPlugin):  # type: ignore[misc]
    """Where the rows of a data set are read, sent once to each worker, also to those that come later.

    Args:
        written: The rows as they were written.
        store: Location of the store that they were written to.
    """

    def __init__(self, written: WrittenRows, store: str) -> None:
        self.written, self.store, self.key = written, store, written.digest
        self.name = f"patchbank-samples-{self.key[:12]}"
        self.samples: Samples | None = None

    def setup(self, worker: Any) -> None:
        """Remember where the rows are, and end in order at the signals of a batch system."""
        _SENT[self.key] = self
        _STOPPING.clear()
        _end_in_order()

    def read(self) -> Samples:
        """Return the rows; raises UserError as `read_rows` does."""
        if self.samples is None:
            self.samples = read_rows(self.written, Store(self.store).objects)
        return self.samples


def make_ranges(order: Order, numbers: tuple[int, ...]) -> Share:
    """Make what is missing of some ranges of the feature set; its set exists, and nothing is sealed."""
    with _share() as share:
        job = _job(order)
        assert job.existing is not None
        _look(job.existing, numbers)
        options = replace(order.options, ranges=frozenset(numbers), seals=False, on_progress=_Events(order))
        outcome = extract(job, Store(order.store), order.compute, options)
        share.rows_made, share.rows_taken = outcome.rows_made, outcome.rows_taken
        share.stages, share.notes = outcome.seconds, outcome.notes
        share.checked = read_back_of(outcome.set).taken_out()
    return share


def make_label_ranges(order: Order, arrays: tuple[str, ...], numbers: tuple[int, ...]) -> Share:
    """Make what is missing of some ranges of declared arrays of the label set."""
    with _share() as share:
        samples = _samples(order)
        label_set = Store(order.store).open(label_spec(samples))
        wanted = [label_set.arrays[name] for name in arrays]
        share.rows_made = write_labels(label_set, wanted, samples, wanted=frozenset(numbers))
        share.checked = read_back_of(label_set).taken_out()
    return share


def try_first_batch(order: Order) -> Share:
    """Compute the first batch and write nothing, so that a model that cannot run leaves nothing in the store."""
    with _share() as share, start_extraction(_job(order), order.compute, order.options) as work:
        share.trial = Trial(work.compute, work.compute.record(work.job.precision), work.notes)
    return share


async def stop() -> None:
    """Give up the running share after what is being written, take no other, and return when nothing is written."""
    _STOPPING.set()
    ends = time.monotonic() + GRACE
    while _RUNNING.locked() and time.monotonic() < ends:
        await asyncio.sleep(0.05)


@contextlib.contextmanager
def _share() -> Iterator[Share]:
    share = Share(str(get_worker().name), platform.node())
    with _RUNNING:
        started = time.perf_counter()
        try:
            if _STOPPING.is_set():
                raise StoppedError
            yield share
        except StoppedError:
            share.stopped = True
        except PatchbankError as error:
            share.error = from_worker(error, share.worker, share.host)
        share.seconds = time.perf_counter() - started


class _Events:
    """Tells the scheduler how far a share is.

    Args:
        order: What it is a share of.
    """

    def __init__(self, order: Order) -> None:
        self.of, self.last = "/".join(order.key), 0.0

    def __call__(self, progress: Progress) -> None:
        if _STOPPING.is_set():
            raise StoppedError
        now = time.monotonic()
        if now - self.last >= TOLD_EVERY:
            self.last = now
            worker = get_worker()
            event = {"name": str(worker.name), "of": self.of, "rows": progress.rows_done}
            worker.log_event(TOPIC, event | {"seconds": progress.seconds, "stage": progress.bottleneck})


_JOBS: dict[tuple[str, ...], Job] = {}
"""The job of the last order, and that of the one before if its model is the same."""
_MODELS: dict[tuple[str, ...], ViewModels] = {}
"""The model of the last order, which stays built for the next view; one model is in memory at a time."""
_VIEWS: dict[tuple[str, ...], Samples] = {}


def _job(order: Order) -> Job:
    key = order.key
    if key not in _JOBS:
        os.chdir(order.current)
        recipe, store = order.recipe, Store(order.store)
        (model_recipe,) = (one for one in recipe.models if one.display == order.model)
        if key[:2] not in _MODELS:
            _MODELS.clear()
            workspace = Workspace(store, Path(order.data), Path(order.folder))
            _MODELS[key[:2]] = ViewModels(recipe, model_recipe, workspace)
        models = _MODELS[key[:2]]
        view, features = list(recipe.all_views(model_recipe))[order.view]
        size = view.input or recipe.frame.input
        before = [one for one, job in _JOBS.items() if one[:2] == key[:2] and job.samples.frame.input == size][-1:]
        for other in _JOBS.keys() - before:
            del _JOBS[other]
        models.keep_for(view)
        shown, clean = models.of(view)
        # The view's own samples are made by `prepare`.
        _JOBS[key] = prepare(recipe, model_recipe, shown, _sent(order.samples), store, view, features, clean)
    job = _JOBS[key]
    if job.existing is None:  # perhaps created since the first batch
        store = Store(order.store)
        if store.has(job.spec):
            created = store.open(job.spec)
            job = _JOBS[key] = replace(job, existing=created, layout=created.layout)
    return job


def _samples(order: Order) -> Samples:
    key = order.key
    if key not in _VIEWS:
        _VIEWS.clear()
        os.chdir(order.current)
        (model_recipe,) = (one for one in order.recipe.models if one.display == order.model)
        view = [view for view, _ in order.recipe.all_views(model_recipe)][order.view]
        clean = _sent(order.samples)
        _VIEWS[key] = clean if view is CLEAN else for_view(clean, view)
    return _VIEWS[key]


def _sent(key: str) -> Samples:
    if key not in _SENT:
        raise UserError("a worker was not sent the rows of the data set: run the same command again")
    return _SENT[key].read()


def _look(target: ZarrSet, numbers: Iterable[int]) -> None:
    """Read the set's commit records again where one of these ranges has some, as after the death of a worker."""
    committed = {name[:8] for name in target.objects.children(f"{target.prefix}/{COMMITS}")}
    if any(f"{number:08d}" in committed for number in numbers):
        target.refresh()


def _end_in_order() -> None:
    """Leave Ctrl-C to the first process, and give up the share at the signals with which batch systems end a job."""
    if threading.current_thread() is not threading.main_thread():
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGUSR1):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _end)


def _end(number: int, frame: FrameType | None) -> None:
    _STOPPING.set()
    threading.Thread(target=_leave, args=(number,), daemon=True).start()


def _leave(number: int) -> None:
    if _RUNNING.acquire(timeout=GRACE):
        time.sleep(0.5)  # the scheduler is told of the share that was given up
    os._exit(128 + number)
