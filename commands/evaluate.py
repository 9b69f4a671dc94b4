"""``patchbank evaluate``: run the analyses whose results are missing."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from commands.experiment.decoders import decoders
from commands.experiment.free_memory import free_memory
from commands.experiment.reading import load_experiment, recorded_sets
from commands.terminal.evaluation_progress import EvaluationProgress
from commands.terminal.options import Experiment, JsonOption, MemoryOption, ResultsOption, StoreOption
from commands.terminal.output import counted, say
from stores.errors import UserError

if TYPE_CHECKING:
    from evaluate.inputs.model_sets import ModelSets
    from evaluate.registry import EvaluationSettings
    from evaluate.settings import Selection
    from pipeline.recipe import Recipe
    from stores import Store


def evaluate(
    experiment: Experiment,
    store: StoreOption = "store",
    results: ResultsOption = Path("results"),
    memory: MemoryOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run the analyses whose results are missing. Reads stored sets only; needs no images and runs no backbone."""
    from evaluate.claims.roles import model_info
    from evaluate.progress import listening
    from evaluate.report.store_state import states
    from evaluate.report.unchanged import PAGE, check_folder, inputs_digest, is_unchanged, remember
    from evaluate.results.table import ResultStore
    from evaluate.runner import evaluate as answer_all
    from stores import Store

    recipe, settings = load_experiment(experiment)
    if not settings.analyses:
        raise UserError(f"{experiment} asks nothing: add an [[analyses]] table")
    opened = Store(store)
    models = _model_sets(experiment, recipe, settings, opened)
    other_experiments = {name: _other_experiment(experiment.parent / name, opened) for name in settings.experiments()}

    check_folder(results / experiment.stem, experiment)
    kept = ResultStore(results)
    progress = EvaluationProgress()
    with listening(progress.step):
        found = answer_all(
            experiment.stem,
            models,
            settings,
            kept,
            memory_bytes=int(memory * 1e9) if memory else free_memory() // 2,
            other_experiments=other_experiments,
            decoders=decoders(experiment, recipe),
            on_start=progress.start,
            on_progress=progress.task,
        )
    progress.close()
    for note in found.notes:
        say(f"note: {note}")
    models_info = [model_info(one) for one in models]
    about, beside = _about(models), settings.claims.beside
    stored = states(opened, models_info, found.table)
    facts = {
        "about": about,
        "models": [info.model_dump(mode="json") for info in models_info],
        "results": [[title, digest] for digest, (title, _) in found.results.items()],
        "stored": stored,
    }
    made_from = inputs_digest(results, experiment.stem, beside, facts)
    page = results / experiment.stem / PAGE
    if not is_unchanged(page.parent, made_from):
        from evaluate.report.writing import write_report  # matplotlib, which takes a while to load

        page = write_report(kept, experiment.stem, found, about, models_info=models_info, beside=beside, stored=stored)
        remember(page.parent, made_from, experiment)
    if as_json:
        typer.echo(json.dumps({"made": found.n_computed, "reused": found.n_reused, "report": str(page)}, indent=2))
        return
    for one in models:
        if one.invalid:
            say(f"{one.title}: {sum(one.invalid.values())} of {len(one.samples)} rows are invalid and left out")
    typer.echo(f"made    {counted(found.n_computed, 'result')}")
    typer.echo(f"reused  {counted(found.n_reused, 'result')}")
    typer.echo(f"where   {results / experiment.stem} (open {page})")


def _model_sets(
    experiment: Path, recipe: "Recipe", settings: "EvaluationSettings", store: "Store"
) -> list["ModelSets"]:
    """Return every model's clean sets with those of its views; raises MissingError for what was not extracted."""
    from evaluate.inputs.model_sets import ModelSets, ViewSets
    from evaluate.inputs.views import check_rows
    from pipeline.views import CLEAN

    command = f"patchbank extract {experiment}"
    recorded = recorded_sets(experiment, recipe, settings, store, clean=True)
    models = []
    for model in recipe.models:
        mine = [one for one in recorded if one.model is model]
        clean = next(one for one in mine if one.view is CLEAN)
        views = [
            ViewSets(one.view.name, one.view.level or 0.0, store.open(one.features), store.open(one.labels))
            for one in mine
            if one is not clean
        ]
        measured = ModelSets(
            title=model.display,
            features=store.open(clean.features),
            labels=store.open(clean.labels),
            probe_batchnorm=model.standardised_probe,
            extract_command=command,
            views={(view.name, view.level): view for view in views},
            role=model.effective_role,
        )
        for viewed in measured.views.values():
            check_rows(measured, viewed)
        models.append(measured)
    return models


def _other_experiment(experiment: Path, store: "Store") -> list[tuple["ModelSets", "Selection | None"]]:
    """Return the models of another experiment with its selection; raises MissingError for what was not extracted."""
    recipe, settings = load_experiment(experiment)
    return [(one, settings.selection) for one in _model_sets(experiment, recipe, settings, store)]


def _left_out(measured: "ModelSets") -> str:
    """Return how many rows are invalid and why, the first three reasons in words."""
    if not measured.invalid:
        return "none"
    reasons = list(measured.invalid)
    more = f"; and {len(reasons) - 3} more" if len(reasons) > 3 else ""
    n_rows = f"{sum(measured.invalid.values())} of {len(measured.samples)}"
    return f"{n_rows}: {'; '.join(reasons[:3])}{more}"


def _about(models: list["ModelSets"]) -> list[dict[str, str]]:
    """Return what the report says about each model's sets."""
    return [
        {
            "model": one.title,
            "architecture": one.spec.model.name,
            "data set": one.spec.dataset.name,
            "images": str(one.spec.dataset.n_sources),
            **({"rows left out as invalid": _left_out(one)} if any(other.invalid for other in models) else {}),
            "features": one.features.digest,
            "labels": one.labels.digest,
            "weights": one.spec.model.weights,
            "licence of weights": str(one.features.provenance.get("licence_of_weights", "not stated")),
            "licence of data": str(one.features.provenance.get("licence_of_data", "not stated")),
            "computed with": ", ".join(
                f"{name} {one.features.compute.get(name)}" for name in ("torch", "timm", "device", "compute_dtype")
            ),
        }
        for one in models
    ]
