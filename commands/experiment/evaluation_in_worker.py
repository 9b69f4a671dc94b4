"""Computes the missing tasks of an evaluation in workers, which open the experiment themselves.

A worker is given the names of files and the digest of a result's key, and stores the result; no array is sent. Long
passes of a task come before it, a section at a time; the task merges their sections in order.
"""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from commands.experiment.decoders import decoders
from commands.experiment.reading import load_experiment
from commands.experiment.stored_sets import model_sets, other_experiment
from commands.terminal.output import say
from stores.errors import PatchbankError, UserError

if TYPE_CHECKING:
    from evaluate.results.sections import LongPass
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


@dataclass(frozen=True)
class Section:
    """A section of a long pass of some task."""

    digests: tuple[str, ...]
    """What names the pass."""
    number: int


_OPENED: dict[str, dict[tuple[str, str], "Task"]] = {}
_PASS: dict[tuple[str, ...], "LongPass"] = {}
"""The pass of the last section: what its sections share stays in memory."""


def compute_task(
    order: EvaluationOrder, title: str, digest: str, section: Section | None = None
) -> float | PatchbankError:
    """Compute and store one task, or one section of a pass; return its seconds, or the error that ends all."""
    try:
        task = _tasks(order)[title, digest]
        started = time.perf_counter()
        from evaluate.results.sections import SectionFiles
        from evaluate.results.table import ResultStore

        if section is not None:
            if section.digests not in _PASS:
                _PASS.clear()
                _PASS.update({one.digests: one for one in task.passes()})
            if section.digests in _PASS:  # else another worker has stored meanwhile what it is for
                _PASS[section.digests].compute_missing(section.number, SectionFiles(order.results))
        else:
            _PASS.clear()
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

    from evaluate.results.sections import SectionFiles
    from evaluate.runner import check_memory
    from pipeline.schedule.clusters import connect
    from pipeline.schedule.handing_out import wait_for_workers, watching
    from pipeline.schedule.tasks import run_tasks

    def compute_missing(tasks: Sequence["Task"]) -> dict[str, float]:
        lost = "task that it was computing"
        with connect(scheduler, __name__) as cluster, watching(cluster, say, lost):
            wait_for_workers(cluster, say)
            n_sharing = max(1, cluster.n_here)
            each = memory_bytes // n_sharing
            check_memory(tasks, memory_bytes, n_sharing)
            say(f"evaluating with {cluster.what}")
            mine = replace(order, memory_bytes=each)
            arguments, needs, passes = _in_sections(mine, tasks)
            n_sections = len(arguments) - len(tasks)
            if passes:
                titles = list(dict.fromkeys(one.title for one in passes))
                more = [f"{len(titles) - 3} more"] if len(titles) > 4 else []
                say(f"first {n_sections} sections of {', '.join((titles[:3] if more else titles) + more)}")

            def on_start(number: int) -> None:
                if number >= n_sections:
                    on_progress(tasks[number - n_sections], False)

            seconds = run_tasks(cluster, compute_task, arguments, on_start, needs)
        for one in passes:
            one.remove(SectionFiles(order.results))
        return {task.key.digest: took for task, took in zip(tasks, seconds[n_sections:], strict=True)}

    return compute_missing


def _in_sections(
    order: EvaluationOrder, tasks: Sequence["Task"]
) -> tuple[list[tuple[Any, ...]], dict[int, list[int]], list["LongPass"]]:
    """Return what workers compute, sections of long passes before the tasks, what each needs before it, and the passes.

    A pass that several tasks ask for is made once. Where one task stores what another's pass is for, the other waits.
    """
    from evaluate.results.sections import SectionFiles

    files, asked = SectionFiles(order.results), [(number, one) for number, task in enumerate(tasks)
                                                 for one in task.passes()]  # fmt: skip
    arguments: list[tuple[Any, ...]] = []
    of_pass: dict[tuple[str, ...], tuple[LongPass, list[int], int]] = {}
    of_task: dict[int, list[int]] = {}
    needs: dict[int, list[int]] = {}
    waits: dict[int, list[int]] = {}
    # Those that are part of no other come first.
    distinct = list({one.digests: one for _, one in asked}.values())
    larger = {one.digests: sum(one.is_part_of(other) for other in distinct if other is not one) for one in distinct}
    for number, one in sorted(asked, key=lambda pair: larger[pair[1].digests]):
        others = [(owner, other) for other, _, owner in of_pass.values() if one.is_part_of(other)]
        if others and one.digests not in of_pass:
            waits.setdefault(number, []).append(others[0][0])
            continue
        if one.digests not in of_pass:
            task, first = tasks[number], len(arguments)
            left = list(one.missing(files))
            arguments += [(order, task.title, task.key.digest, Section(one.digests, section)) for section in left]
            of_pass[one.digests] = one, list(range(first, len(arguments))), number
            before = [section for needed in one.needs for section in of_pass[needed.digests][1]]
            needs |= {section: before for section in of_pass[one.digests][1] if before}
        of_task.setdefault(number, []).extend(of_pass[one.digests][1])
    n_sections = len(arguments)
    arguments += [(order, task.title, task.key.digest) for task in tasks]
    needs |= {n_sections + number: some for number, some in of_task.items()}
    for number, owners in waits.items():
        needs.setdefault(n_sections + number, []).extend(n_sections + owner for owner in owners)
    return arguments, needs, [one for one, _, _ in of_pass.values()]
