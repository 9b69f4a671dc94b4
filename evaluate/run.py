"""Answering an experiment's questions: what is answered is read, what is missing is computed."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

import pandas as pd

from evaluate import label_maps, patch_classification, variance_spectrum
from evaluate.measured import Measured
from evaluate.questions import LabelMaps, PatchClassification, Questions, VarianceSpectrum, train_rules
from evaluate.results import Answer, Asked, Results, long_table
from evaluate.selections import SelectionRule


@dataclass(frozen=True)
class Cell:
    """One answer to be had: what it is named by and how it is computed."""

    measured: Measured
    array: str
    asked: Asked
    compute: Callable[[], Answer]
    what: str
    """For people: the analysis and what it is about."""


@dataclass
class Evaluation:
    """Everything an experiment's questions came to."""

    table: pd.DataFrame
    answers: dict[str, tuple[Cell, Answer]] = field(default_factory=dict)
    """By result digest."""
    n_computed: int = 0
    n_reused: int = 0


def cells(measured: Measured, questions: Questions, memory_bytes: int) -> Iterator[Cell]:
    """Yield the answers that an experiment asks about one model, in the order of the file."""
    for analysis in questions.analyses:
        if isinstance(analysis, VarianceSpectrum):
            for array in measured.arrays(analysis.layers, analysis.norm):
                yield _variance_cell(measured, array, analysis, questions)
        elif isinstance(analysis, PatchClassification):
            for array in measured.arrays(analysis.layers, analysis.norm):
                yield from _classification_cells(measured, array, analysis, questions, memory_bytes)
        elif isinstance(analysis, LabelMaps):
            for array in measured.arrays((analysis.layer,), analysis.norm):
                yield _map_cell(measured, array, analysis, questions, memory_bytes)


def _variance_cell(measured: Measured, array: str, analysis: VarianceSpectrum, questions: Questions) -> Cell:
    return Cell(
        measured,
        array,
        variance_spectrum.asked(measured, array, analysis, questions),
        lambda: variance_spectrum.answer(measured, array, analysis, questions),
        f"variance of {array}",
    )


def _classification_cells(
    measured: Measured, array: str, analysis: PatchClassification, questions: Questions, memory_bytes: int
) -> Iterator[Cell]:
    rules: list[SelectionRule | None] = [None]
    if questions.selection is not None and analysis.train_per_group is not None:
        rules = [*train_rules(questions.selection.train, analysis.train_per_group)]
    for rule in rules:
        for classifier in analysis.classifiers:
            yield Cell(
                measured,
                array,
                patch_classification.asked(measured, array, classifier, analysis, questions, rule),
                partial(
                    patch_classification.answer, measured, array, classifier, analysis, questions, rule, memory_bytes
                ),
                f"{'k-NN' if classifier == 'knn' else classifier} on {array}",
            )


def _map_cell(measured: Measured, array: str, analysis: LabelMaps, questions: Questions, memory_bytes: int) -> Cell:
    return Cell(
        measured,
        array,
        label_maps.asked(measured, array, analysis, questions),
        lambda: label_maps.answer(measured, array, analysis, questions, memory_bytes),
        f"label maps of {array}",
    )


def evaluate(
    experiment: str,
    models: list[Measured],
    questions: Questions,
    results: Results,
    *,
    memory_bytes: int = 2 << 30,
    tell: Callable[[Cell, bool], None] = lambda cell, reused: None,
) -> Evaluation:
    """Answer all questions and write the experiment's long table.

    ``tell`` is called before each answer with whether it is already there. Raises MissingError when a set lacks an
    array, before anything is computed.
    """
    # Two analyses may share a cell, such as the last layer of a sweep over layers: it is answered once.
    wanted: dict[tuple[str, str], Cell] = {}
    for measured in models:
        for cell in cells(measured, questions, memory_bytes):
            wanted.setdefault((measured.title, cell.asked.digest), cell)
    evaluation = Evaluation(long_table([]))
    rows = []
    for cell in wanted.values():
        reused = results.has(cell.asked)
        tell(cell, reused)
        if reused:
            evaluation.n_reused += 1
        else:
            results.write(cell.asked, _with_names(cell))
            evaluation.n_computed += 1
        found = results.read(cell.asked)
        # Titles are how one experiment calls a model; the answer itself does not depend on them.
        rows += [{**row, "experiment": experiment, "model": cell.measured.title} for row in found.rows]
        evaluation.answers[cell.asked.digest] = (cell, found)
    evaluation.table = long_table(rows)
    results.write_experiment(experiment, evaluation.table)
    return evaluation


def _with_names(cell: Cell) -> Answer:
    found = cell.compute()
    spec = cell.measured.spec
    names = {
        "analysis": cell.asked.analysis,
        "data_set": spec.dataset.name,
        "model": spec.model.name,
        "view": spec.view.name,
        "array": cell.array.partition("/")[2],
        "token": "patch",
    }
    return Answer([{**names, **row} for row in found.rows], found.arrays)
