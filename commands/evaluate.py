"""``patchbank evaluate``: run the analyses whose results are missing."""

import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from commands.experiment.address_space import check_address_space
from commands.experiment.decoders import decoders
from commands.experiment.evaluation_in_worker import EvaluationOrder, in_workers
from commands.experiment.free_memory import free_memory
from commands.experiment.reading import load_experiment
from commands.experiment.stored_sets import model_sets, naming_lost_seals, other_experiment
from commands.terminal.evaluation_progress import EvaluationProgress
from commands.terminal.options import (
    EvaluationDeviceOption,
    EvaluationSchedulerOption,
    Experiment,
    JsonOption,
    MemoryOption,
    ResultsOption,
    StoreOption,
)
from commands.terminal.output import counted, echo, echo_json, say
from stores.errors import UserError

if TYPE_CHECKING:
    from evaluate.inputs.model_sets import ModelSets
    from pipeline.dataset_recipe import DatasetRecipe


def evaluate(
    experiment: Experiment,
    store: StoreOption = "store",
    results: ResultsOption = Path("results"),
    memory: MemoryOption = None,
    device: EvaluationDeviceOption = "cpu",
    scheduler: EvaluationSchedulerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run the analyses whose results are missing. Reads stored sets only; needs no images and runs no backbone."""
    from evaluate.claims.roles import model_info
    from evaluate.kernels.probing.cross_entropy import choose_device
    from evaluate.kernels.progress import listening
    from evaluate.report.reading import NOTE
    from evaluate.report.store_state import states
    from evaluate.report.unchanged import PAGE, check_folder, inputs_digest, is_unchanged, remember
    from evaluate.results.table import ResultStore
    from evaluate.runner import evaluate as run_analyses
    from pipeline.schedule.clusters import check_scheduler
    from stores import Store

    if scheduler is not None:
        check_scheduler(scheduler, store)
    recipe, settings = load_experiment(experiment)
    if not settings.analyses:
        raise UserError(f"{experiment} lists no analyses: add an [[analyses]] table")
    chosen = choose_device(device)
    opened = Store(store)
    models = model_sets(experiment, recipe, settings, opened)
    other_experiments = {name: other_experiment(experiment.parent / name, opened) for name in settings.experiments()}

    check_folder(results / experiment.stem, experiment)
    if experiment.stem in settings.claims.beside:
        raise UserError(f"{experiment} names itself in [claims] beside: name other experiments there")
    stored_results = ResultStore(results)
    progress = EvaluationProgress()

    def start(n_tasks: int) -> None:
        if n_tasks:
            check_address_space()
        progress.start(n_tasks)

    memory_bytes = int(memory * 1e9) if memory else free_memory() // 2
    order = EvaluationOrder(
        *(str(experiment), opened.location, str(results.absolute()), device),
        *(memory_bytes, str(Path.cwd()), secrets.token_hex(8)),
    )
    by_workers = (
        {} if scheduler is None else {"compute_missing": in_workers(scheduler, order, memory_bytes, progress.task)}
    )
    read = [*models, *(model for others in other_experiments.values() for model, _ in others)]
    with naming_lost_seals(read), listening(progress.step):
        evaluation = run_analyses(
            experiment.stem,
            models,
            settings,
            stored_results,
            memory_bytes=memory_bytes,
            other_experiments=other_experiments,
            decoders=decoders(experiment, recipe),
            device=chosen,
            on_start=start,
            on_progress=progress.task,
            **by_workers,
        )
    progress.close()
    for note in evaluation.notes:
        say(f"note: {note}")
    models_info = [model_info(model, settings.selection) for model in models]
    about, beside = _about(models, recipe.dataset), settings.claims.beside
    stored = states(opened, models_info, evaluation.table)
    shown = {
        "about": about,
        "models": [info.model_dump(mode="json") for info in models_info],
        "results": [[title, digest] for digest, (title, _) in evaluation.results.items()],
        "stored": stored,
    }
    for name in beside:
        if not (results / name / NOTE).is_file():
            say(
                f"note: {name}, named in [claims] beside, has no results in {results}: claims that need it stay open "
                "until it is evaluated there and this command is repeated"
            )
    made_from = inputs_digest(results, experiment.stem, beside, shown)
    page = results / experiment.stem / PAGE
    if not is_unchanged(page.parent, made_from):
        from evaluate.report.writing import write_report  # matplotlib, which takes a while to load

        page = write_report(
            stored_results, experiment.stem, evaluation, about, models_info=models_info, beside=beside, stored=stored
        )
        remember(page.parent, made_from, experiment)
    made, reused = evaluation.n_computed, evaluation.n_reused
    if as_json:
        echo_json({"made": made, "reused": reused, "report": str(page)})
        return
    for model in models:
        if model.invalid:
            say(f"{model.title}: {sum(model.invalid.values())} of {len(model.samples)} rows are invalid and left out")
    echo(f"made    {counted(made, 'result')}")
    echo(f"reused  {counted(reused, 'result')}")
    echo(f"where   {results / experiment.stem} (open {page})")


def _left_out(model: "ModelSets") -> str:
    """Return how many rows are invalid and why, the first three reasons in words."""
    if not model.invalid:
        return "none"
    reasons = list(model.invalid)
    more = f"; and {len(reasons) - 3} more" if len(reasons) > 3 else ""
    n_rows = f"{sum(model.invalid.values())} of {len(model.samples)}"
    return f"{n_rows}: {'; '.join(reasons[:3])}{more}"


def _data_title(dataset: "DatasetRecipe") -> str:
    """Return the data set's name; for layouts of your own data and painted worlds the file or folder."""
    from demo.worlds import WORLDS

    own = dataset.name in ("folder", "image-folder", "manifest", "mot")
    if dataset.folder in WORLDS:
        return f"{dataset.folder} (painted{'' if own else f', in the layout of {dataset.name}'})"
    return Path(dataset.file or dataset.folder or dataset.name).name if own else dataset.name


def _about(models: list["ModelSets"], dataset: "DatasetRecipe") -> list[dict[str, str]]:
    """Return the facts about each model's sets that the report lists."""
    return [
        {
            "model": model.title,
            "architecture": model.spec.model.name,
            "data set": _data_title(dataset),
            "images": str(model.spec.dataset.n_sources),
            **({"rows left out as invalid": _left_out(model)} if any(other.invalid for other in models) else {}),
            "features": model.features.digest,
            "labels": model.labels.digest,
            "weights": model.spec.model.weights,
            "licence of weights": str(model.features.provenance.get("licence_of_weights", "not stated")),
            "licence of data": str(model.features.provenance.get("licence_of_data", "not stated")),
            "computed with": ", ".join(
                f"{name} {model.features.compute.get(name)}" for name in ("torch", "timm", "device", "compute_dtype")
            ),
        }
        for model in models
    ]
