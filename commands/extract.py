"""``patchbank extract``: compute the features and labels that the store lacks."""

import contextlib
import os
import re
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from commands.experiment.address_space import check_address_space
from commands.experiment.painted_world import paint_missing_world
from commands.experiment.reading import load_experiment, source_choice
from commands.experiment.slurm_share import find_share, unused_variables
from commands.experiment.workers import choose_workers, start_workers
from commands.terminal.options import (
    BatchOption,
    DataOption,
    DeviceOption,
    Experiment,
    JsonOption,
    SchedulerOption,
    StoreOption,
    WorkersOption,
)
from commands.terminal.output import duration, echo, echo_json, progress, say
from stores.errors import UserError

if TYPE_CHECKING:
    from pipeline.extraction.compute import Compute


def extract(
    experiment: Experiment,
    store: StoreOption = "store",
    data: DataOption = Path("data"),
    device: DeviceOption = "auto",
    batch_size: BatchOption = None,
    workers: WorkersOption = None,
    shard: Annotated[
        str | None,
        typer.Option(
            show_default=False,
            help="i/N: extract every N-th range of rows, starting at the i-th (from 0). Default: all; tasks of a Slurm "
            "array, or of srun, share out what is missing.",
        ),
    ] = None,
    model: Annotated[str | None, typer.Option(help="Only the model with this name or title.")] = None,
    allow_mixed: Annotated[
        bool, typer.Option(help="Complete a set that was started on another kind of device.")
    ] = False,
    scheduler: SchedulerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Extract what is missing, in one pass per model and view. Safe to repeat, to interrupt and to run in parallel.

    Ctrl-C, SIGTERM and SIGUSR1 end it in order within 25 seconds (exit code 130, 143, 138): nothing committed is lost.
    """
    check_address_space()
    from commands.experiment.planned_evaluation import plan_evaluation
    from pipeline.extraction.progress import Report
    from pipeline.recipe import OWN
    from pipeline.recorded.complete import CompleteNotes, are_noted
    from pipeline.schedule.clusters import check_scheduler
    from pipeline.workspace import Workspace, read_samples
    from stores import Store

    if scheduler is not None:
        check_scheduler(scheduler, store)
        if shard is not None:
            raise UserError("--shard and --scheduler both share out the work: leave one of them out")
    recipe, settings = load_experiment(experiment)
    share = find_share(shard, os.environ)
    if note := unused_variables(shard, os.environ):
        say(note)
    paint_missing_world(recipe, data)
    workspace = Workspace(Store(store), data, experiment.parent)
    choice = source_choice(settings)
    models = recipe.chosen_models(model)
    # torch takes seconds to load, and nothing below needs it where all is there.
    is_known = re.fullmatch(r"auto|cpu|cuda(:\d+)?", device) and are_noted(recipe, models, workspace.store, choice)
    compute = None
    if not is_known:
        device, scheduler = choose_workers(device, scheduler, share.local_index)
        compute = None if scheduler else _compute(device, batch_size)
    samples = read_samples(recipe, workspace, choice)
    for own in models:
        if own.weights == OWN:
            workspace.model(own, recipe.frame.input)  # says that it is extracted from Python
    # What could not be evaluated is refused before any model runs.
    notes = CompleteNotes(recipe, workspace, samples, choice)
    known = ((one.display, notes.complete_sets(one)) for one in recipe.models)
    complete = {title: sets for title, sets in known if sets is not None}
    plan_evaluation(experiment, recipe, settings, workspace, samples, choice, complete).check(experiment)
    if all(one.display in complete for one in models):
        report = Report.of(samples)
        for one in models:
            report.add_complete(complete[one.display])
    else:
        with progress() as on_progress, contextlib.ExitStack() as stack:
            device, scheduler = choose_workers(device, scheduler, share.local_index)
            started = None
            if scheduler:
                started = start_workers(stack, scheduler, device, batch_size, recipe, workspace, samples)
            from pipeline.extraction.loading import default_workers
            from pipeline.extraction.options import ExtractOptions
            from pipeline.extraction.run import extract_recipe, make_here

            options = ExtractOptions(
                workers=workers or (started and started.decoders) or default_workers(),
                shard=(share.index, share.total),
                batch_job=share.batch_job,
                allow_mixed=allow_mixed,
                provenance={**provenance(), "experiment": experiment.stem},
                on_progress=on_progress,
            )
            compute = started.compute if started else compute or _compute(device, batch_size)
            make_sets = started.sets if started else make_here
            report = extract_recipe(
                recipe, workspace, compute, options, choice=choice, only=model, samples=samples, make_sets=make_sets
            )
    for note in report.notes:
        say(note)
    for outcome in report.outcomes:
        for note in outcome.notes:
            say(f"{outcome.title}: {note}")
        if outcome.missing:
            ranges = sorted({number for numbers in outcome.missing.values() for number in numbers})
            why = "others make them" if share.total > 1 else "their stored bytes were damaged, run it again"
            say(f"{outcome.title}: {len(ranges)} of {outcome.set.layout.n_ranges} ranges are still missing: {why}")
    if report.labels is not None and (invalid := report.labels.provenance.get("invalid_rows")):
        say(f"{invalid} rows are invalid and left out by every analysis: `patchbank show {report.labels.digest[:12]}`")
    if report.left_out:
        first = next(iter(report.left_out.values()))
        say(f"{len(report.left_out)} images are left out of the few-shot choice, the first: {first}")
    made = sum(outcome.rows_made for outcome in report.outcomes)
    reused = sum(outcome.rows_reused for outcome in report.outcomes)
    taken: Counter[str] = Counter()
    made_by: Counter[str] = Counter()
    for outcome in report.outcomes:
        taken.update(outcome.rows_taken)
        made_by.update(outcome.made_by)
    if as_json:
        found = {
            "made": made,
            "taken_over": dict(taken),
            **({"made_by": dict(made_by)} if made_by else {}),
            "reused": reused,
            "store": workspace.store.location,
            "labels": report.labels.digest if report.labels else None,
            "left_out_of_choice": report.left_out,
            "sets": {outcome.title: outcome.set.digest for outcome in report.outcomes},
            "seconds": {outcome.title: outcome.seconds.__dict__ for outcome in report.outcomes},
        }
        echo_json(found)
        return
    for outcome in report.outcomes:
        if outcome.rows_made:
            seconds = outcome.seconds
            say(
                f"{outcome.title}: model {duration(seconds.model)}, decode {duration(seconds.decode)}, "
                f"write {duration(seconds.write)}, seal {duration(seconds.seal)}; bottleneck: {seconds.bottleneck}"
            )
    echo(f"made    {made:,} rows of features, {report.label_rows_made:,} of labels")
    for worker, count in sorted(made_by.items()):
        echo(f"worker  {worker}: {count:,} rows")
    for digest, count in taken.items():
        echo(f"taken   {count:,} rows of features over from {digest[:12]}")
    echo(f"reused  {reused:,} rows of features")
    echo(f"where   {workspace.store.location}")


def _compute(device: str, batch_size: int | None) -> "Compute":
    from pipeline.extraction.compute import choose_compute

    return choose_compute(device, batch_size)


def provenance() -> dict[str, Any]:
    """Return the provenance written beside a new set: command, date, versions."""
    import datetime
    import importlib.metadata

    return {
        "command": " ".join(["patchbank", *sys.argv[1:]]),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "patchbank": importlib.metadata.version("patchbank"),
        "python": sys.version.split()[0],
    }
