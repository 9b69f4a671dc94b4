"""``patchbank preview``: draw what models will see."""

import re
from pathlib import Path
from typing import Annotated

import typer

from commands.experiment.painted_world import check_world_is_painted
from commands.experiment.reading import load_experiment, source_choice
from commands.terminal.options import DataOption, Experiment, JsonOption
from commands.terminal.output import echo, echo_json
from stores.errors import UserError


def preview(
    experiment: Experiment,
    out: Annotated[Path | None, typer.Option(help="PNG file to write. Default: <experiment>-preview.png.")] = None,
    data: DataOption = Path("data"),
    samples: Annotated[int, typer.Option(min=1, max=50, help="Number of tiles to draw.")] = 2,
    seed: Annotated[int, typer.Option(min=0, help="Random seed for choosing tiles.")] = 0,
    patch: Annotated[
        int | None, typer.Option(min=1, help="Patch size of the drawn grid, in pixels. Default: the first model's.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Draw some tiles under every view, with labels, objects and patch borders, into one PNG. Runs no model."""
    import tempfile

    from pipeline.rows.preview import choose_rows, contact_sheet
    from pipeline.workspace import Workspace, read_samples
    from stores import Store

    target = out or Path(f"{experiment.stem}-preview.png")
    if target.suffix.lower() != ".png":
        raise UserError(f"--out {target} is not a PNG file: let its name end in .png")
    recipe, settings = load_experiment(experiment)
    check_world_is_painted(recipe, data, experiment)
    with tempfile.TemporaryDirectory() as nowhere:
        workspace = Workspace(Store(nowhere), data, experiment.parent)
        listed = read_samples(recipe, workspace, source_choice(settings), remember=False)
    size = recipe.frame.input
    if patch is not None and (size.height % patch or size.width % patch):
        raise UserError(f"--patch {patch} does not divide the input of {size} pixels: choose the model's patch size")
    named = re.search(r"patch(\d+)", recipe.models[0].name)
    side = patch or (int(named[1]) if named else 16)
    rows = choose_rows(listed, samples, seed)
    shown = [view for view, _ in recipe.all_views()]
    # Where no filter is set it is the model's own, and no model is built here.
    sheet = contact_sheet(listed, shown, rows, side, recipe.models[0].interpolation or "bicubic")
    partial = target.with_name(f"{target.name}.partial")
    try:
        sheet.save(partial, format="PNG")
        partial.replace(target)
    except OSError as error:
        raise UserError(f"{target} cannot be written ({error.strerror}): choose another --out") from error
    drawn = [str(listed.table["sample"].iloc[row]) for row in rows]
    if as_json:
        echo_json({"shown": drawn, "file": str(target)})
        return
    echo(f"shown   {', '.join(drawn)}")
    echo(f"where   {target}")
