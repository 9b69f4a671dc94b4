"""Computes the missing tasks of an evaluation in workers, which open the experiment themselves.

A worker is given the names of files and the digest of a result's key, and stores the result; no array is sent.
"""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from commands.experiment.decoders import decoders
from commands.experiment.reading import load_experiment
from commands.experiment.stored_sets import model_sets, other_experiment
from commands.terminal.output import say
from stores.errors import PatchbankError, UserError

if TYPE_CHECKING:
    from evaluate.task import Task


@dataclass(frozen=True)
class EvaluationOrder:
    """What a worker has to know to compute tasks of one evaluation."""

    experiment: str
    store: str
    results: str
    device: str
    memory_bytes: int
    """Memory limit of one task."""
    current: str
    """The folder that relative paths are below."""
    run: str
    """Names the command, so that workers which outlive one look at the store again for the next."""


_OPENED: dict[str, dict[tuple[str, str], "Task"]] = {}


def compute_task(order: EvaluationOrder, title: str, digest: str) -> float | PatchbankError:
    """Compute and store one task; return its seconds, or the error that ends the evaluation."""
    try:
        task = _tasks(order)[title, digest]
        started = time.perf_counter()
        from evaluate.results.table import ResultStore

        task.read_or_compute(ResultStore(order.results))
        return time.perf_counter() - started
    except PatchbankError as error:
        return error
    except KeyError:
        return UserError("the store changed while it was evaluated: run the same command again")


def _tasks(order: EvaluationOrder) -> dict[tuple[str, str], "Task"]:
    if order.run not in _OPENED:
        from evaluate.kernels.probing.cross_entropy import choose_device
        from evaluate.results.table import ResultStore
        from evaluate.runner import collect_tasks
        from evaluate.settings import Context
        from stores import Store

        os.chdir(order.current)
        experiment, store = Path(order.experiment), Store(order.store)
        recipe, settings = load_experiment(experiment)
        models = model_sets(experiment, recipe, settings, store)
        others = {name: other_experiment(experiment.parent / name, store) for name in settings.experiments()}
        context = Context(
            settings.selection,
            settings.seed,
            order.memory_bytes,
            others,
            decoders(experiment, recipe),
            choose_device(order.device),
            ResultStore(order.results),
        )
        tasks, _ = collect_tasks(models, settings, context)
        _OPENED.clear()
        _OPENED[order.run] = {(task.title, task.key.digest): task for task in tasks}
    return _OPENED[order.run]


def in_workers(
    scheduler: str, order: EvaluationOrder, memory_bytes: int, on_progress: Callable[["Task", bool], None]
) -> Callable[[Sequence["Task"]], Mapping[str, float]]:
    """Return what computes missing tasks in the workers that ``--scheduler`` names, see `evaluate.runner.evaluate`.

    Args:
        scheduler: What ``--scheduler`` says.
        order: What workers have to know; its memory is shared out among those on this machine.
        memory_bytes: Memory limit of all tasks on this machine together.
        on_progress: Called with each task that is handed out, and False.
    """
    from dataclasses import replace

    from evaluate.runner import check_memory
    from pipeline.schedule.clusters import connect
    from pipeline.schedule.handing_out import watching
    from pipeline.schedule.tasks import run_tasks

    def compute_missing(tasks: Sequence["Task"]) -> dict[str, float]:
        with connect(scheduler, __name__) as cluster, watching(cluster, say):
            each = memory_bytes // max(1, cluster.n_here)
            check_memory(tasks, each)
            say(f"evaluating with {cluster.what}")
            mine = replace(order, memory_bytes=each)
            arguments = [(mine, task.title, task.key.digest) for task in tasks]
            seconds = run_tasks(cluster, compute_task, arguments, lambda number: on_progress(tasks[number], False))
        return {task.key.digest: took for task, took in zip(tasks, seconds, strict=True)}

    return compute_missing
