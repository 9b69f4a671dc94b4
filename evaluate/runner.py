"""Run an experiment's analyses: stored results are reused, missing ones are computed."""

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import pandas as pd

from evaluate.decoder import PatchDecoder
from evaluate.inputs.counterparts import unmatched_notes
from evaluate.inputs.limits import fit_removals
from evaluate.inputs.model_sets import ModelSets
from evaluate.kernels.probing.cross_entropy import CPU, Device
from evaluate.registry import ANALYSES, EvaluationSettings
from evaluate.results.metrics import INVALID_ROWS
from evaluate.results.runs import append_run
from evaluate.results.table import Result, ResultStore, long_table
from evaluate.settings import Context, Selection
from evaluate.task import Task
from stores.errors import UserError
from stores.units import format_bytes


@dataclass
class Evaluation:
    """The results of an experiment."""

    table: pd.DataFrame
    """The long table."""
    results: dict[str, tuple[str, Result]] = field(default_factory=dict)
    """Model title and result, by result digest."""
    n_computed: int = 0
    n_reused: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    """Duration of each computed task, by result digest."""
    notes: list[str] = field(default_factory=list)
    """Sentences on what the settings ask for and some models lack."""


def evaluate(
    experiment: str,
    models: list[ModelSets],
    settings: EvaluationSettings,
    results: ResultStore,
    *,
    memory_bytes: int = 2 << 30,
    other_experiments: Mapping[str, Sequence[tuple[ModelSets, Selection | None]]] = MappingProxyType({}),
    decoders: Mapping[str, Callable[[], PatchDecoder]] = MappingProxyType({}),
    device: Device = CPU,
    on_start: Callable[[int], None] = lambda n_tasks: None,
    on_progress: Callable[[Task, bool], None] = lambda task, reused: None,
    compute_missing: Callable[[Sequence[Task]], Mapping[str, float]] = lambda tasks: {},
) -> Evaluation:
    """Compute the missing results of an experiment and write its long table.

    Raises, before anything is computed, MissingError when a set lacks an array, and UserError when the settings cannot
    be met: more features to remove than any model has, no model in common with another experiment, a missing task
    whose estimated memory is above ``memory_bytes``.

    Args:
        experiment: name of the experiment, the folder of its table in the results.
        models: the experiment's models with their sets.
        settings: selection, analyses and seed.
        results: where results are stored.
        memory_bytes: memory limit of one task above the idle process.
        other_experiments: models and selections of the experiments that ``settings.experiments()`` names.
        decoders: builds a model's decoder, by the model's title, for the analyses that need one.
        device: where neighbours are searched and probes are trained (`choose_device`).
        on_start: called with the number of tasks to compute, before the first.
        on_progress: called before each task with whether its result is reused.
        compute_missing: computes and stores missing tasks in other processes, and returns the seconds of each by the
            digest of its key; by default none, and this process computes them one after another.
    """
    context = Context(settings.selection, settings.seed, memory_bytes, other_experiments, decoders, device, results)
    tasks, notes = collect_tasks(models, settings, context)
    evaluation = Evaluation(long_table([]), notes=notes)
    missing = [task for task in tasks if not task.is_stored(results)]
    check_memory(missing, memory_bytes)
    on_start(len(missing))
    in_workers_took = compute_missing(missing) if missing else {}
    rows = []
    seen: set[tuple[str, str]] = set()
    for task in tasks:
        is_stored, seconds = task.is_stored(results), in_workers_took.get(task.key.digest)
        if seconds is None or not is_stored:
            on_progress(task, is_stored)
        started = time.perf_counter()
        parts = task.read_or_compute(results)
        if seconds is None and is_stored:
            evaluation.n_reused += 1
        else:
            evaluation.n_computed += 1
            took = seconds if seconds is not None and is_stored else time.perf_counter() - started
            evaluation.seconds[task.key.digest] = round(took, 3)
        for key, result in parts:
            if (task.title, key.digest) in seen:  # two analyses ask for it
                continue
            seen.add((task.title, key.digest))
            # Titles are how one experiment calls a model; the result does not depend on them.
            rows += [{**row, "experiment": experiment, "model": task.title} for row in result.rows]
            evaluation.results[key.digest] = (task.title, result)
    evaluation.table = long_table(rows + _invalid_rows(experiment, models, tasks))
    folder = results.write_experiment(experiment, evaluation.table)
    append_run(
        folder / "runs.jsonl",
        {"made": evaluation.n_computed, "reused": evaluation.n_reused, "seconds": evaluation.seconds},
    )
    return evaluation


def collect_tasks(
    models: Sequence[ModelSets], settings: EvaluationSettings, context: Context
) -> tuple[list[Task], list[str]]:
    """Return the tasks of an experiment, each once, and notes for people; raises what their checks raise.

    No stored value is read, so that sets which are not extracted yet can be checked as well.
    """
    # Two analyses may share a task, such as the last layer of a sweep over layers: it is computed once.
    tasks: dict[tuple[str, str], Task] = {}
    notes: list[str] = []
    for analysis in settings.analyses:
        notes += unmatched_notes(models, analysis, context)
        for fitted, some, note in fit_removals(analysis, models):
            notes += [note] if note else []
            notes += ANALYSES[type(analysis)].notes(some, fitted)
            for stored in ANALYSES[type(analysis)].tasks(some, fitted, context):
                for task in stored.variants():
                    task.check()
                    tasks.setdefault((task.title, task.key.digest), task)
    return list(tasks.values()), notes


def check_memory(tasks: Sequence[Task], memory_bytes: int, n_workers: int = 1) -> None:
    """Raise UserError when a task is estimated to need more memory than it may use; the largest one is named.

    Args:
        tasks: What is to be computed.
        memory_bytes: Memory of all workers together, in bytes.
        n_workers: Workers that share it out, each with one task at a time.
    """
    peak, largest = max(((task.peak_bytes(), task) for task in tasks), key=lambda pair: pair[0], default=(0, None))
    if largest is None or peak <= memory_bytes // n_workers:
        return
    data_set = largest.columns.get("data_set", "")
    limit, fewer = format_bytes(memory_bytes // n_workers), ""
    if n_workers > 1:
        limit = f"{limit} for each of {n_workers} workers, which share {format_bytes(memory_bytes)}"
        fewer = "use fewer workers, "
    gigabytes = math.ceil(n_workers * peak / 1e7) / 100
    raise UserError(
        f"{largest.analysis} needs an estimated {format_bytes(peak)} and the limit is {limit} "
        f"({data_set}, {largest.title}: {largest.description}): run with --memory {gigabytes:g}, {fewer}or choose "
        "fewer images (per_group in [selection])"
    )


def _invalid_rows(experiment: str, models: Sequence[ModelSets], tasks: Iterable[Task]) -> list[dict[str, Any]]:
    """Return one row an analysis and model that left rows out, with their number; none where all rows are valid."""
    return [
        {
            "experiment": experiment,
            "analysis": analysis,
            "data_set": model.spec.dataset.name,
            "model": model.title,
            "metric": INVALID_ROWS,
            "value": sum(model.invalid.values()),
            "unit": "row",
            "n_units": len(model.samples),
        }
        for analysis in dict.fromkeys(task.analysis for task in tasks)
        for model in models
        if model.invalid
    ]
