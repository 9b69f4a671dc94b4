"""Checks before an extraction whether the analyses of an experiment can be evaluated, and how much memory they need."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from commands.experiment.planned_sets import NotExtractedError, planned_models
from commands.terminal.output import counted
from stores.errors import PatchbankError
from stores.units import format_bytes

if TYPE_CHECKING:
    from evaluate.registry import EvaluationSettings
    from evaluate.task import Task
    from pipeline.extraction.run import Workspace
    from pipeline.recipe import Recipe
    from pipeline.rows.samples import Samples
    from pipeline.source_choice import SourceChoice


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

    def canonical(self) -> dict[str, Any]:
        """Return the plan as plain JSON values."""
        return dict(self.__dict__)

    def lines(self) -> list[str]:
        """Return the plan in words."""
        if self.problem:
            return [f"`patchbank extract` will not start, for `patchbank evaluate` would refuse: {self.problem}"]
        if not self.n_results:
            return self.notes
        return [
            f"evaluate computes {counted(self.n_results, 'result')} in an estimated {format_bytes(self.peak_bytes)} of "
            f"memory ({self.largest}); its time depends on the stored values and is not estimated",
            *self.notes,
        ]


def plan_evaluation(
    experiment: Path,
    recipe: "Recipe",
    settings: "EvaluationSettings",
    workspace: "Workspace",
    samples: "Samples",
    choice: "SourceChoice",
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
    """
    from evaluate.runner import collect_tasks
    from evaluate.settings import Context

    plan = EvaluationPlan()
    planned = planned_models(experiment, recipe, workspace, samples, choice)
    if planned.left_out:
        plan.notes.append(f"analyses of {', '.join(planned.left_out)} are not checked: the clean sets are not planned")
    alone = tuple(one for one in settings.analyses if not one.other_experiments())
    if len(alone) < len(settings.analyses):
        plan.notes.append("analyses that read other `experiments` are checked by `patchbank evaluate` only")
    if not alone or not planned.models:
        return plan
    context = Context(settings.selection, settings.seed, decoders=planned.decoders)
    tasks: dict[tuple[str, str], Task] = {}
    unknown: set[str] = set()
    for analysis in alone:
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
    plan.n_results = len(tasks)
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


def _hint(samples: "Samples") -> str:
    """Return what the data set says of columns that are not read: one of them may hold the masks."""
    unread = [note for note in samples.dataset.notes() if "are not read" in note]
    return f" ({unread[0].rstrip('.')}; masks stand in the column `mask`)" if unread else ""
