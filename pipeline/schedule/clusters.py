"""Worker processes by name: ``local:N``, ``gpus``, ``tcp://HOST:PORT`` of a running scheduler, ``slurm:N``.

Workers have one thread for tasks, because a model runs once at a time, and no memory limit of Dask's, which would end
a worker that reads through the page cache. Each process sees its own GPU alone, so that none takes memory on another.
"""

import contextlib
import importlib
import logging
import multiprocessing.resource_tracker
import os
import re
import signal
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from stores.errors import UserError
from stores.storage.cores import available_cores

FORMS = "local:N, gpus, tcp://HOST:PORT or slurm:N, with N from 1"
"""What ``--scheduler`` takes."""
IN_WORKER = "pipeline.schedule.in_worker"
"""Loaded by workers while they start, all at once, torch with it: a first task would not be alone in waiting for it."""
UNWATCHED = {"distributed.worker.profile.enabled": False, "distributed.admin.system-monitor.gil.enabled": False}
"""Dask's own profiler stops the thread that runs the model a hundred times a second."""
LOST_SECONDS = 600
"""How long a worker that died may take to come back: it loads torch, from a disk that may be cold or far away. Dask
closes it for good after 15 seconds otherwise."""
CONNECT_SECONDS = 30.0
"""Time in which a scheduler has to answer."""
CLOSE_SECONDS = 8.0
"""Time that workers get to end."""


@dataclass(frozen=True)
class Cluster:
    """Worker processes that take tasks."""

    client: Any
    """The `distributed.Client`."""
    what: str
    """What they are, for a line on the terminal."""
    threads: int | None = None
    """Threads that a worker computes with on a CPU; None where its own machine decides."""
    decoders: int | None = None
    """Threads that decode images in a worker; None where its own machine decides."""
    n_here: int = 0
    """Workers that share the memory of this machine."""
    known: dict[str, str] = field(default_factory=dict)
    """Names of workers by address, also of those that are gone."""
    refused: list[str] = field(default_factory=list)
    """What is to be said of workers that have come without Patchbank; one ends the command."""
    is_ending: threading.Event = field(default_factory=threading.Event)
    """Set when all work is given up: workers that end are no news then."""
    nannies: tuple[Any, ...] = ()
    """What watches the workers that were started here."""
    advice: str = "start one"
    """What to do while there is no worker."""

    def end(self) -> None:
        """Start no worker again that ends from now on."""
        self.is_ending.set()
        for nanny in self.nannies:
            nanny.auto_restart = False

    def worker_names(self) -> dict[str, str]:
        """Return the name of every worker that is there, by its address."""
        found = self.client.scheduler_info(n_workers=-1)["workers"]
        names = {address: str(worker["name"]) for address, worker in found.items()}
        self.known.update(names)
        return names


def check_scheduler(text: str, store: str) -> None:
    """Raise UserError for a text that ``--scheduler`` does not take, and for a store that workers cannot see.

    Args:
        text: What ``--scheduler`` says.
        store: Where the store is.
    """
    if store.startswith("memory:"):
        raise UserError(f"--store {store} is the memory of one process: leave --scheduler out, or name another store")
    if re.fullmatch(r"local:[1-9]\d*|gpus|slurm:[1-9]\d*|tcp://.+:\d+", text) is None:
        raise UserError(f"--scheduler {text!r} is not known: write {FORMS}")


def load_dask(text: str) -> None:
    """Load the packages that `connect` needs; call it before a thread calls that while another loads modules.

    Parts of Dask import each other: two threads that load them at once find modules that are half loaded.

    Args:
        text: One of the forms that ``--scheduler`` takes.
    """
    importlib.import_module("distributed")
    if text.startswith("slurm:"):
        with contextlib.suppress(ImportError):  # `connect` says what to install
            _load_jobqueue()


@contextlib.contextmanager
def connect(text: str, preload: str = IN_WORKER) -> Iterator[Cluster]:
    """Start the workers that a text names, or connect to them; those that were started end with the context.

    Raises UserError for other texts, and when a scheduler does not answer.

    Args:
        text: One of the forms that ``--scheduler`` takes.
        preload: Module that workers here load while they start.
    """
    check_scheduler(text, "")
    kind, _, rest = text.partition(":")
    if kind == "local":
        with local_workers([{}] * int(rest), preload) as cluster:
            yield cluster
    elif kind == "gpus":
        devices = visible_devices()
        if not devices:
            raise UserError("--scheduler gpus finds no NVIDIA GPU: try --scheduler local:2 or --device cpu")
        with local_workers([{"CUDA_VISIBLE_DEVICES": device} for device in devices], preload) as cluster:
            yield cluster
    elif kind == "slurm":
        with _slurm_workers(int(rest)) as cluster:
            yield cluster
    else:
        with _client(text, text) as client:
            advice = f"start one with `dask worker {text} --nthreads 1`"
            yield Cluster(client, f"the workers of {text}", advice=advice)


def visible_devices() -> tuple[str, ...]:
    """Return the GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    listed = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return tuple((listed.split(",") if listed else [str(number) for number in range(count)])[:count])


@contextlib.contextmanager
def local_workers(environments: Sequence[dict[str, str]], preload: str = IN_WORKER) -> Iterator[Cluster]:
    """Start a process of its own for every environment, and share the cores out among them.

    Args:
        environments: Variables that each worker has beside those of this process.
        preload: Module that they load while they start.
    """
    import dask.config
    from distributed import Client, Nanny, Scheduler, SpecCluster

    cores = available_cores()
    threads = max(1, cores // len(environments))
    before_start = {
        **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), threads),  # unless they are set
        "DASK_LOGGING__DISTRIBUTED": "critical",
    }
    on_gpus = any("CUDA_VISIBLE_DEVICES" in one for one in environments)
    with _blocked_warnings():
        multiprocessing.resource_tracker.ensure_running()
    with (
        _quiet(),
        tempfile.TemporaryDirectory(prefix="patchbank-workers-") as folder,
        dask.config.set(
            {
                "distributed.nanny.pre-spawn-environ": before_start,
                "distributed.deploy.lost-worker-timeout": f"{LOST_SECONDS}s",
            }
        ),
    ):
        workers = {
            number: {
                "cls": Nanny,
                "options": {
                    "name": number,
                    "nthreads": 1,
                    "memory_limit": None,
                    "env": one,
                    "preload": [preload],
                    "config": UNWATCHED,
                    "dashboard": False,
                    "local_directory": folder,
                    "host": "127.0.0.1",
                },
            }
            for number, one in enumerate(environments)
        }
        loopback = {"host": "127.0.0.1", "port": 0, "dashboard": False, "dashboard_address": "127.0.0.1:0"}
        scheduler = {"cls": Scheduler, "options": loopback}
        started = SpecCluster(workers=workers, scheduler=scheduler, silence_logs=logging.CRITICAL)
        nannies = tuple(started.workers.values())
        what = f"{len(workers)} {'processes, one a GPU' if on_gpus else 'processes'}"
        decoders = max(1, threads - (2 if on_gpus else 1))
        try:
            with Client(started, set_as_default=False) as client:
                cluster = Cluster(client, what, threads, decoders, len(workers), nannies=nannies)
                try:
                    yield cluster
                finally:
                    cluster.end()
        finally:
            _close(started, nannies)


def _close(started: Any, nannies: Sequence[Any]) -> None:
    """End workers that were started here, those that do not answer by SIGKILL: what they committed is safe."""
    try:
        started.close(timeout=CLOSE_SECONDS)
    except TimeoutError:
        for nanny in nannies:
            with contextlib.suppress(ProcessLookupError, AttributeError, TypeError):
                os.kill(nanny.pid, signal.SIGKILL)


@contextlib.contextmanager
def _blocked_warnings() -> Iterator[None]:
    """Let what is started here ignore SIGUSR1: Python's resource tracker would die of it where Slurm warns all."""
    mask = {signal.SIGUSR1} if hasattr(signal, "SIGUSR1") else set()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, mask)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _load_jobqueue() -> Any:
    """Load dask-jobqueue, and take back Ctrl-C, which it turns into `sys.exit` as soon as it is imported."""
    before = signal.getsignal(signal.SIGINT)
    try:
        return importlib.import_module("dask_jobqueue")
    finally:
        if signal.getsignal(signal.SIGINT) is not before:
            signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def _slurm_workers(n_workers: int) -> Iterator[Cluster]:
    """Let dask-jobqueue submit jobs, each with one worker; what a job asks for stands in Dask's own configuration."""
    try:
        jobqueue = _load_jobqueue()
    except ImportError:
        raise UserError("--scheduler slurm:N needs dask-jobqueue: install patchbank[slurm]") from None
    import dask.config

    with _quiet(), dask.config.set({"distributed.deploy.lost-worker-timeout": f"{LOST_SECONDS}s"}):
        try:
            # Dask would pause a worker that comes near the job's memory, without a word: Slurm's own limit holds.
            more = [*(dask.config.get("jobqueue.slurm.worker-extra-args", None) or []), "--memory-limit", "0"]
            cluster = jobqueue.SLURMCluster(processes=1, n_workers=n_workers, worker_extra_args=more)
        except (ValueError, TypeError) as error:
            raise UserError(
                f"--scheduler slurm:N takes cores, memory and queue from jobqueue.slurm in ~/.config/dask: {error}"
            ) from error
        except (OSError, RuntimeError) as error:
            raise UserError(f"--scheduler slurm:N cannot submit its jobs: {error}") from error
        try:
            with _client(cluster, "slurm") as client:
                advice = "`squeue --me` shows why the jobs wait"
                yield Cluster(client, f"{n_workers} Slurm jobs", advice=advice)
        finally:
            cluster.close(timeout=CLOSE_SECONDS)


@contextlib.contextmanager
def _client(address: Any, name: str) -> Iterator[Any]:
    from distributed import Client

    with _quiet():
        try:
            client = Client(address, set_as_default=False, timeout=CONNECT_SECONDS)
        except (OSError, TimeoutError, ValueError) as error:
            raise UserError(f"the scheduler {name} does not answer: start it, or correct --scheduler") from error
        with client:
            yield client


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep Dask's own log lines off the terminal: what matters of them is said in a line of ours."""
    import distributed  # sets levels of its own when it is loaded

    known = [name for name in logging.root.manager.loggerDict if name.split(".")[0] == distributed.__name__]
    before = {name: logging.getLogger(name).level for name in known}
    for name in known:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)
