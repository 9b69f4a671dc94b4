"""``patchbank plan``: estimate what an extraction would write, and how long it takes."""

import os
from pathlib import Path
from typing import Annotated

import typer

from commands.experiment.address_space import check_address_space
from commands.experiment.painted_world import check_world_is_painted
from commands.experiment.reading import load_experiment, source_choice
from commands.terminal.options import (
    BatchOption,
    DataOption,
    DeviceOption,
    Experiment,
    JsonOption,
    ResultsOption,
    StoreOption,
)
from commands.terminal.output import duration, echo, echo_json, print_table
from stores.units import format_bytes


def plan(
    experiment: Experiment,
    store: StoreOption = "store",
    data: DataOption = Path("data"),
    results: ResultsOption = Path("results"),
    device: DeviceOption = "auto",
    batch_size: BatchOption = None,
    time: Annotated[bool, typer.Option(help="Measure each stage of an extraction to forecast the time.")] = True,
    as_json: JsonOption = False,
) -> None:
    """Estimate an extraction: rows, files, bytes, memory, time, pixels covered. Downloads and keeps nothing.

    Measures for two seconds or so each stage (decode, model, hash, write, read back), and says which one limits the
    extraction and what would help: more cores, another disk, a GPU. Up to 32 MB go to the store's disk, in files that
    have no names or are removed again.

    Ends with exit code 2 where `evaluate` would refuse the experiment, as `extract` does.
    """
    os.environ["HF_HUB_OFFLINE"] = "1"
    check_address_space()
    from pipeline.workspace import Workspace, read_samples
    from stores import Store

    recipe, settings = load_experiment(experiment)
    check_world_is_painted(recipe, data, experiment)
    workspace = Workspace(Store(store), data, experiment.parent)
    choice = source_choice(settings)
    samples = read_samples(recipe, workspace, choice, remember=False)
    # Imported after the images are listed: a long list needs memory while it is made, and torch keeps what it takes.
    from commands.experiment.planned_evaluation import plan_evaluation
    from commands.experiment.planned_time import estimate_time
    from pipeline.extraction.compute import choose_compute
    from pipeline.extraction.plan import labelled_coverage, plan_models, warnings

    evaluation = plan_evaluation(experiment, recipe, settings, workspace, samples, choice)
    if evaluation.tasks and not evaluation.problem:
        estimate_time(evaluation, experiment, recipe, settings, workspace.store, results)
    labelled = labelled_coverage(samples)
    timed = time and not evaluation.problem  # no model runs for what cannot be evaluated
    plans = list(plan_models(recipe, workspace, samples, choose_compute(device, batch_size), timed=timed))
    notes = warnings(plans, samples, labelled, workspace.store.objects.free_bytes())
    if as_json:
        found = {
            "sources": len(samples.sources),
            "rows": len(samples.tiles),
            "tiles": samples.n_tiles,
            "coverage": samples.coverage,
            "labelled_coverage": labelled,
            "evaluate": evaluation.canonical(),
            "models": [one.canonical() for one in plans],
            "notes": notes,
        }
        echo_json(found)
        evaluation.check(experiment)
        return
    covered = f"{samples.coverage:.1%} of the pixels"
    covered += "" if labelled is None else f", {labelled:.1%} of the labelled pixels"
    rows = f"{len(samples.tiles)} rows"
    if len(samples.tiles) < samples.n_tiles:
        rows += f" chosen of {samples.n_tiles:,} tiles ({len(samples.tiles) / samples.n_tiles:.1%})"
    echo(f"{len(samples.sources)} images, {rows}; {'all ' if 'chosen' in rows else ''}tiles cover {covered}")
    lines = [
        ["model", "state", "arrays", "rows to do", "taken over", "objects", "to write", "memory", "write rate", "time"]
    ]
    for one in plans:
        rate = one.bytes / one.rows / one.seconds_per_row if one.seconds_per_row else None
        lines.append(
            [
                one.title,
                one.state,
                str(one.arrays),
                f"{one.rows_missing - one.rows_taken_over:,}",
                f"{one.rows_taken_over:,}",
                f"{one.objects:,}",
                format_bytes(one.bytes_missing),
                format_bytes(one.memory_bytes),
                "-" if rate is None else f"{format_bytes(rate)}/s",
                "-" if one.seconds is None else f"about {duration(one.seconds)}",
            ]
        )
    print_table(lines)
    for one in plans:
        if one.forecast is not None:
            echo(f"limits  {one.title}: {one.forecast.sentence()}")
    for note in [*notes, *evaluation.lines()]:
        echo(f"note: {note}")
    evaluation.check(experiment)
