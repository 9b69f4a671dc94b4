"""Checks before an extraction whether the analyses of an experiment can be evaluated, and how much memory they need."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from commands.experiment.planned_sets import NotExtractedError, planned_models
from commands.experiment.reading import load_experiment
from commands.experiment.stored_sets import other_experiment
from commands.terminal.output import counted, duration
from stores.errors import MissingError, PatchbankError, UserError
from stores.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from evaluate.inputs.model_sets import ModelSets
    from evaluate.registry import EvaluationSettings
    from evaluate.settings import Selection
    from evaluate.task import Task
    from pipeline.recipe import Recipe
    from pipeline.recorded.complete import CompleteSets
    from pipeline.rows.samples import Samples
    from pipeline.source_choice import SourceChoice
    from pipeline.workspace import Workspace


@dataclass
class EvaluationPlan:
    """What `evaluate` will compute."""

    n_results: int = 0
    peak_bytes: int = 0
    """Estimated memory of the largest task above the idle process."""
    largest: str = ""
    """Analysis of the largest task."""
    problem: str = ""
    """Why `evaluate` would refuse; empty where it would not."""
    notes: list[str] = field(default_factory=list)
    n_stored: int = 0
    """Results that are stored already; they take no time."""
    seconds: float | None = None
    """Estimated time of the others; None where it was not estimated."""
    gflops: float | None = None
    """Measured float32 matrix products, in 10^9 operations a second, from which the time follows."""
    tasks: "list[Task]" = field(default_factory=list)
    """What is computed."""

    def canonical(self) -> dict[str, Any]:
        """Return the plan as plain JSON values."""
        return {name: value for name, value in self.__dict__.items() if name != "tasks"}

    def check(self, experiment: Path) -> None:
        """Raise UserError where `evaluate` would refuse the experiment."""
        if self.problem:
            raise UserError(f"`patchbank evaluate` would refuse {experiment}: {self.problem}")

    def lines(self) -> list[str]:
        """Return the plan in words."""
        if self.problem or not self.n_results:
            return self.notes
        stored = f" ({self.n_stored} of them stored already)" if self.n_stored else ""
        computed = f"evaluate computes {counted(self.n_results, 'result')}{stored} in an estimated "
        computed += f"{format_bytes(self.peak_bytes)} of memory ({self.largest})"
        if self.seconds is not None:
            computed += f", in about {duration(self.seconds)} (computed from the operations; measured rate "
            computed += f"{self.gflops:.0f} GFLOP/s; probes may take several times as long)"
        return [computed, *self.notes]


def plan_evaluation(
    experiment: Path,
    recipe: "Recipe",
    settings: "EvaluationSettings",
    workspace: "Workspace",
    samples: "Samples",
    choice: "SourceChoice",
    complete: "Mapping[str, Sequence[CompleteSets]] | None" = None,
) -> EvaluationPlan:
    """Run the analyses' own checks on the sets that `extract` will make; reads no weights and no stored values.

    Raises UserError for models that cannot be built.

    Args:
        experiment: The experiment file, named in messages.
        recipe: Its extraction settings.
        settings: Its evaluation settings.
        workspace: Store, data and weights on this machine.
        samples: The rows in the clean view.
        choice: Source images that are extracted.
        complete: The sets of models of which nothing is missing, by the model's title; these are not built.
    """
    from evaluate.runner import collect_tasks
    from evaluate.settings import Context

    plan = EvaluationPlan()
    planned = planned_models(experiment, recipe, workspace, samples, choice, complete or {})
    if planned.left_out:
        plan.notes.append(f"analyses of {', '.join(planned.left_out)} are not checked: the clean sets are not planned")
    try:
        others = _other_experiments(experiment, settings, workspace, plan)
    except PatchbankError as error:
        plan.problem = str(error)
        return plan
    analyses = [one for one in settings.analyses if others.keys() >= set(one.other_experiments())]
    if not planned.models:
        return plan
    context = Context(settings.selection, settings.seed, other_experiments=others, decoders=planned.decoders)
    tasks: dict[tuple[str, str], Task] = {}
    unknown: set[str] = set()
    for analysis in analyses:
        try:
            of_analysis, notes = collect_tasks(
                planned.models, settings.model_copy(update={"analyses": (analysis,)}), context
            )
        except NotExtractedError:
            unknown.add(analysis.kind)
            continue
        except PatchbankError as error:
            plan.problem = f"{error}{_hint(samples)}" if "class for every pixel" in str(error) else str(error)
            return plan
        tasks |= {(task.title, task.key.digest): task for task in of_analysis}
        plan.notes += notes
    plan.n_results, plan.tasks = len(tasks), list(tasks.values())
    for task in tasks.values():
        try:
            peak = task.peak_bytes()
        except NotExtractedError:
            unknown.add(task.analysis)
            continue
        if peak > plan.peak_bytes:
            plan.peak_bytes, plan.largest = peak, task.analysis
    if unknown:
        plan.notes.append(f"the memory of {', '.join(sorted(unknown))} depends on stored values and is not estimated")
    return plan


def _other_experiments(
    experiment: Path, settings: "EvaluationSettings", workspace: "Workspace", plan: EvaluationPlan
) -> dict[str, list[tuple["ModelSets", "Selection | None"]]]:
    """Return the sets of the experiments that analyses read too; those not extracted yet are left out, with a note.

    Two experiments may read each other, so that the one is extracted before the other. Raises UserError or MissingError
    for a file that is not there or cannot be read, and for sets that cannot be opened.
    """
    others = {}
    for name in settings.experiments():
        path = experiment.parent / name
        load_experiment(path)  # a file that is missing is an error, sets that are missing are not
        try:
            others[name] = other_experiment(path, workspace.store)
        except MissingError as error:
            kinds = dict.fromkeys(one.kind for one in settings.analyses if name in one.other_experiments())
            plan.notes.append(f"{name} is needed too, for {' and '.join(kinds)} of `patchbank evaluate`: {error}")
    return others


def _hint(samples: "Samples") -> str:
    """Return what the data set says of columns that are not read: one of them may hold the masks."""
    unread = [note for note in samples.dataset.notes() if "are not read" in note]
    return f" ({unread[0].rstrip('.')}; masks stand in the column `mask`)" if unread else ""
