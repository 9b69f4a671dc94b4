"""Answering an experiment's questions: what is answered is read, what is missing is computed."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import pandas as pd

from evaluate.inputs.counterparts import unmatched_notes
from evaluate.inputs.decoder import PatchDecoder
from evaluate.inputs.model_sets import ModelSets
from evaluate.inputs.widths import fit_removals
from evaluate.kernels.memory import refuse
from evaluate.registry import ANALYSES, EvaluationSettings
from evaluate.results.runs import append_run
from evaluate.results.table import Result, ResultStore, long_table
from evaluate.settings import Context, Selection
from evaluate.task import Task


@dataclass
class Evaluation:
    """Everything an experiment's questions came to."""

    table: pd.DataFrame
    answers: dict[str, tuple[Task, Result]] = field(default_factory=dict)
    """By result digest."""
    n_computed: int = 0
    n_reused: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    """What each computed answer took, by result digest."""
    notes: list[str] = field(default_factory=list)
    """What was asked and cannot be had of some models, for people."""


def evaluate(
    experiment: str,
    models: list[ModelSets],
    settings: EvaluationSettings,
    results: ResultStore,
    *,
    memory_bytes: int = 2 << 30,
    other_experiments: Mapping[str, Sequence[tuple[ModelSets, Selection | None]]] = MappingProxyType({}),
    decoders: Mapping[str, Callable[[], PatchDecoder]] = MappingProxyType({}),
    on_progress: Callable[[Task, bool], None] = lambda cell, reused: None,
) -> Evaluation:
    """Answer all questions and write the experiment's long table.

    ``elsewhere`` are the models of the other experiments that `EvaluationSettings.experiments` names.
    ``decoders`` make the decoders of models, by title, for the analyses that ask for one.
    ``tell`` is called before each answer with whether it is already there. Raises MissingError when a set lacks an
    array, and UserError when more features are to be removed than any model has or another experiment has no model in
    common, before anything is computed; so when an answer that is missing holds more than ``memory_bytes``.
    """
    # Two analyses may share a cell, such as the last layer of a sweep over layers: it is answered once.
    wanted: dict[tuple[str, str], Task] = {}
    context = Context(settings.selection, settings.seed, memory_bytes, other_experiments, decoders)
    evaluation = Evaluation(long_table([]))
    for analysis in settings.analyses:
        evaluation.notes += unmatched_notes(models, analysis, context)
        for asked, some, note in fit_removals(analysis, models):
            evaluation.notes += [note] if note else []
            for cell in ANALYSES[type(analysis)](some, asked, context):
                wanted.setdefault((cell.title, cell.asked.digest), cell)
    refuse((cell for cell in wanted.values() if not results.has(cell.asked)), memory_bytes)
    rows = []
    for cell in wanted.values():
        reused = results.has(cell.asked)
        on_progress(cell, reused)
        if reused:
            evaluation.n_reused += 1
        else:
            before = time.perf_counter()
            results.write(cell.asked, cell.answer())
            evaluation.seconds[cell.asked.digest] = round(time.perf_counter() - before, 3)
            evaluation.n_computed += 1
        found = results.read(cell.asked)
        # Titles are how one experiment calls a model; the answer itself does not depend on them.
        rows += [{**row, "experiment": experiment, "model": cell.title} for row in found.rows]
        evaluation.answers[cell.asked.digest] = (cell, found)
    evaluation.table = long_table(rows + _invalid_rows(experiment, models, wanted.values()))
    folder = results.write_experiment(experiment, evaluation.table)
    append_run(
        folder / "runs.jsonl",
        {"made": evaluation.n_computed, "reused": evaluation.n_reused, "seconds": evaluation.seconds},
    )
    return evaluation


def _invalid_rows(experiment: str, models: Sequence[ModelSets], answered: Iterable[Task]) -> list[dict[str, Any]]:
    """Return one row an analysis and model that left rows out, with their number; none where all rows are valid."""
    return [
        {
            "experiment": experiment,
            "analysis": analysis,
            "data_set": one.spec.dataset.name,
            "model": one.title,
            "metric": "invalid_rows",
            "value": sum(one.invalid.values()),
            "unit": "row",
            "n_units": len(one.samples),
        }
        for analysis in dict.fromkeys(cell.asked.analysis for cell in answered)
        for one in models
        if one.invalid
    ]
