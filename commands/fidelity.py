"""``patchbank fidelity``: recompute some rows and measure how much they differ from the stored ones."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from commands.experiment.address_space import check_address_space
from commands.terminal.options import DataOption, DeviceOption, Experiment, JsonOption, StoreOption
from commands.terminal.output import echo, echo_json, print_table, say

if TYPE_CHECKING:
    from evaluate.scoring.fidelity import Fidelity
    from pipeline.extraction.job import Job
    from pipeline.extraction.recomputing.fidelity import Recomputed
    from stores import ZarrSet


def fidelity(
    experiment: Experiment,
    store: StoreOption = "store",
    data: DataOption = Path("data"),
    device: DeviceOption = "auto",
    samples: Annotated[int, typer.Option(min=2, help="Rows to recompute; each costs a whole batch.")] = 32,
    seed: Annotated[int, typer.Option(min=0, help="Random seed for choosing rows.")] = 0,
    model: Annotated[str | None, typer.Option(help="Only the model with this name or title.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Recompute some rows with today's libraries and device, and print how much they differ from the stored ones."""
    check_address_space()
    from commands.experiment.reading import load_experiment, source_choice
    from pipeline.extraction.compute import choose_compute
    from pipeline.extraction.recomputing.fidelity import recompute_rows
    from pipeline.extraction.run import jobs
    from pipeline.labels.label_set import label_spec
    from pipeline.workspace import Workspace, read_samples
    from stores import Store

    recipe, settings = load_experiment(experiment)
    workspace = Workspace(Store(store), data, experiment.parent)
    sources = read_samples(recipe, workspace, source_choice(settings), remember=False)
    found: dict[str, list[Fidelity]] = {}
    for job in (job for _, shown in jobs(recipe, workspace, sources, model) for _, job in shown):
        spec = label_spec(job.samples)
        labels = workspace.store.open(spec) if workspace.store.has(spec) else None
        again = recompute_rows(job, choose_compute(device, None), samples, seed)
        for note in again.notes:
            say(f"{job.title}: {note}")
        found[job.title] = _compared(job, again, labels)
    if as_json:
        echo_json({title: [one.__dict__ for one in lines] for title, lines in found.items()})
        return
    for title, lines in found.items():
        same = sum(one.equal for one in lines)
        echo(f"{title}: {lines[0].n_rows} rows recomputed, {same} of {len(lines)} arrays bit-identical")
        table = [["array", "largest difference", "relative", "nearest rows changed", "1-NN labels changed"]]
        for one in lines:
            moved = "-" if one.labels_moved is None else f"{one.labels_moved} of {one.n_patches}"
            table.append(
                [
                    one.array,
                    f"{one.largest_absolute:.3g}",
                    f"{one.largest_relative:.3g}",
                    f"{one.neighbours_moved} of {one.n_rows}",
                    moved,
                ]
            )
        print_table(table)


def _compared(job: "Job", again: "Recomputed", labels: "ZarrSet | None") -> list["Fidelity"]:
    import numpy as np

    from evaluate.scoring.fidelity import compare

    assert job.existing is not None
    sources = job.samples.table["source"].to_numpy()[again.rows]
    order = {name: number for number, name in enumerate(sorted(set(sources)))}
    rows, columns = job.model.grid
    grid = f"patches/{rows}x{columns}"
    labelled = labels is not None and labels.sealed(grid)
    patches = labels[grid][again.rows] if labels is not None and labelled else None
    images = np.array([order[name] for name in sources], dtype=np.int64)
    return [
        compare(name, job.existing[name][again.rows], values, images, patches if name.startswith("tokens/") else None)
        for name, values in sorted(again.arrays.items())
    ]
