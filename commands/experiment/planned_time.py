"""Estimates how long an evaluation takes: the operations of the results that are missing, over this machine's speed."""

from pathlib import Path
from typing import TYPE_CHECKING

from commands.experiment.planned_evaluation import EvaluationPlan
from commands.experiment.planned_sets import NotExtractedError
from commands.experiment.stored_sets import model_sets
from stores.errors import PatchbankError

if TYPE_CHECKING:
    from evaluate.registry import EvaluationSettings
    from evaluate.task import Task
    from pipeline.recipe import Recipe
    from stores import Store


def estimate_time(
    plan: EvaluationPlan,
    experiment: Path,
    recipe: "Recipe",
    settings: "EvaluationSettings",
    store: "Store",
    results: Path,
) -> None:
    """Enter into a plan how many of its results are stored, and how long the others take.

    Args:
        plan: The plan, with its tasks.
        experiment: The experiment file.
        recipe: Its extraction settings.
        settings: Its evaluation settings.
        store: Where sets are stored; results are known by what is stored there.
        results: The results folder.
    """
    from evaluate.inputs.work import measure_speed, total
    from evaluate.results.table import ResultStore

    known, works, unknown = ResultStore(results), [], set()
    for task in _stored_tasks(plan, experiment, recipe, settings, store):
        if task.is_stored(known):
            plan.n_stored += 1
            continue
        try:
            work = task.work()
        except NotExtractedError:
            work = None
        if work is None:
            unknown.add(task.analysis)
        else:
            works.append(work)
    if unknown:
        plan.notes.append(f"the time of {', '.join(sorted(unknown))} is not estimated")
    speed = measure_speed()
    plan.seconds, plan.gflops = round(speed.seconds(total(works)), 4), round(speed.products / 1e9, 1)


def _stored_tasks(
    plan: EvaluationPlan, experiment: Path, recipe: "Recipe", settings: "EvaluationSettings", store: "Store"
) -> "list[Task]":
    """Return the plan's tasks, on the sets of the store where all of them are there: these alone name results."""
    from evaluate.runner import collect_tasks
    from evaluate.settings import Context

    planned = {task.analysis for task in plan.tasks}
    try:
        models = model_sets(experiment, recipe, settings, store)
        context = Context(settings.selection, settings.seed)
        analyses = tuple(
            one
            for one in settings.analyses
            if one.kind in planned and one.kind != "reconstruction" and not one.other_experiments()
        )
        stored, _ = collect_tasks(models, settings.model_copy(update={"analyses": analyses}), context)
    except PatchbankError:
        return plan.tasks
    found = {(task.title, task.analysis) for task in stored}
    return [*stored, *(task for task in plan.tasks if (task.title, task.analysis) not in found)]
