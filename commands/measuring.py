"""Commands that measure stored sets: evaluate and report."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from commands.decoders import decoders
from commands.experiment import load_experiment, recorded_sets
from commands.free_memory import free_memory
from commands.options import Experiment, JsonOption, MemoryOption, ResultsOption, StoreOption
from commands.printing import counted, say
from stores.errors import PatchbankError, UserError

if TYPE_CHECKING:
    from evaluate.asking import Selection
    from evaluate.measured import Measured
    from evaluate.questions import Questions
    from pipeline.recipe import Recipe
    from stores import Store


def evaluate(
    experiment: Experiment,
    store: StoreOption = "store",
    results: ResultsOption = Path("results"),
    memory: MemoryOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run the analyses whose results are missing. Reads stored sets only: no images, no backbone is run."""
    from evaluate.answering import evaluate as answer_all
    from evaluate.cells import Cell
    from evaluate.claims.roles import subject_of
    from evaluate.report import write_report
    from evaluate.results import Results
    from evaluate.stored_sets import states
    from stores import Store

    recipe, questions = load_experiment(experiment)
    if not questions.analyses:
        raise UserError(f"{experiment} asks nothing: add an [[analyses]] table")
    opened = Store(store)
    models = _measured(experiment, recipe, questions, opened)
    elsewhere = {name: _elsewhere(experiment.parent / name, opened) for name in questions.experiments()}

    def tell(cell: Cell, reused: bool) -> None:
        if not reused:
            say(f"{cell.title}: {cell.what}")

    kept = Results(results)
    found = answer_all(
        experiment.stem,
        models,
        questions,
        kept,
        memory_bytes=int(memory * 1e9) if memory else free_memory() // 2,
        elsewhere=elsewhere,
        decoders=decoders(experiment, recipe),
        tell=tell,
    )
    for note in found.notes:
        say(f"note: {note}")
    subjects = [subject_of(one) for one in models]
    page = write_report(
        kept,
        experiment.stem,
        found,
        _about(models),
        subjects=subjects,
        beside=questions.claims.beside,
        stored=states(opened, subjects, found.table),
    )
    if as_json:
        typer.echo(json.dumps({"made": found.n_computed, "reused": found.n_reused, "report": str(page)}, indent=2))
        return
    for one in models:
        if one.invalid:
            say(f"{one.title}: {sum(one.invalid.values())} of {len(one.samples)} rows are invalid and left out")
    typer.echo(f"made    {counted(found.n_computed, 'result')}")
    typer.echo(f"reused  {counted(found.n_reused, 'result')}")
    typer.echo(f"where   {results / experiment.stem} (open {page})")


def report(
    experiment: Annotated[str, typer.Argument(help="Name of the experiment: the file's name without .toml.")],
    results: ResultsOption = Path("results"),
    store: StoreOption = "store",
    as_json: JsonOption = False,
) -> None:
    """Write the HTML page, the claims and the figures again from results alone, and say which sets are still whole."""
    from evaluate.report import rewrite_report
    from evaluate.reported import Reported
    from evaluate.results import Results
    from evaluate.stored_sets import states
    from stores import Store

    def look(reported: Reported) -> Mapping[str, str] | None:
        try:
            return states(Store(store), reported.subjects, reported.table)
        except PatchbankError as error:  # the page needs no store
            say(f"the stored sets were not checked: {error}")
            return None

    page = rewrite_report(Results(results), Path(experiment).stem, look)
    typer.echo(json.dumps({"report": str(page)}, indent=2) if as_json else f"where   {page}")


def _measured(experiment: Path, recipe: "Recipe", questions: "Questions", store: "Store") -> list["Measured"]:
    """Return every model's clean sets with those of its views; raises MissingError for what was not extracted."""
    from evaluate.measured import Measured, Viewed
    from evaluate.viewed import check_rows
    from pipeline.views import CLEAN

    command = f"patchbank extract {experiment}"
    recorded = recorded_sets(experiment, recipe, questions, store, clean=True)
    models = []
    for model in recipe.models:
        mine = [one for one in recorded if one.model is model]
        clean = next(one for one in mine if one.view is CLEAN)
        views = [
            Viewed(one.view.name, one.view.level or 0.0, store.open(one.features), store.open(one.labels))
            for one in mine
            if one is not clean
        ]
        measured = Measured(
            title=model.display,
            features=store.open(clean.features),
            labels=store.open(clean.labels),
            probe_batchnorm=model.standardised_probe,
            extract_command=command,
            views={(view.name, view.level): view for view in views},
            role=model.played,
        )
        for viewed in measured.views.values():
            check_rows(measured, viewed)
        models.append(measured)
    return models


def _elsewhere(experiment: Path, store: "Store") -> list[tuple["Measured", "Selection | None"]]:
    """Return the models of another experiment with its selection; raises MissingError for what was not extracted."""
    recipe, questions = load_experiment(experiment)
    return [(one, questions.selection) for one in _measured(experiment, recipe, questions, store)]


def _left_out(measured: "Measured") -> str:
    """Return how many rows are invalid and why, the first three reasons in words."""
    if not measured.invalid:
        return "none"
    reasons = list(measured.invalid)
    more = f"; and {len(reasons) - 3} more" if len(reasons) > 3 else ""
    n_rows = f"{sum(measured.invalid.values())} of {len(measured.samples)}"
    return f"{n_rows}: {'; '.join(reasons[:3])}{more}"


def _about(models: list["Measured"]) -> list[dict[str, str]]:
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
