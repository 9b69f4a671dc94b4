"""Commands that say what there is to work with: models and datasets."""

import difflib
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from commands.options import DataOption, JsonOption
from stores.errors import UserError


def models(
    pattern: Annotated[str, typer.Argument(help="Part of a name; without it the known ones and timm's ViTs.")] = "",
    weights: Annotated[Path, typer.Option(help="Folder in which official files are looked for.")] = Path("weights"),
    as_json: JsonOption = False,
) -> None:
    """List the models of the papers, then timm's with their tags of pretrained weights."""
    import timm

    from pipeline.models.known import KNOWN
    from pipeline.models.presence import find_weights

    known = []
    for row in KNOWN.values():
        if pattern in f"{row.name} {row.architecture} {row.tag}":
            found = find_weights(row, weights)
            known.append({**row.canonical(), "present": None if found is None else str(found)})
    part = pattern or "vit"
    tags = timm.list_models(f"*{part}*", pretrained=True)
    names = timm.list_models(f"*{part}*", pretrained=False)
    listed = {name: [tag.partition(".")[2] for tag in tags if tag.partition(".")[0] == name] for name in names}
    if as_json:
        typer.echo(json.dumps({"known": known, "timm": listed}, indent=2))
        return
    if not known and not listed:
        families = sorted({name.partition("_patch")[0] for name in timm.list_models()})
        near = difflib.get_close_matches(pattern, [*KNOWN, *families], n=3)
        raise UserError(
            f"no model has {pattern!r} in its name: "
            + (f"did you mean {', '.join(near)}?" if near else "leave the pattern out to list all")
        )
    for one in known:
        state = "not here" if one["present"] is None else f"here: {one['present']}"
        typer.echo(
            f"{one['name']:<20} patch {one['patch']:>2}  width {one['width']:>4}  depth {one['depth']:>2}  "
            f"prefix {one['n_prefix']}  {state}"
        )
        typer.echo(f"  {one['trained_on']}; {one['augmentations']}; licence {one['licence']}")
        timms = "" if one["tag"] is None else f', or weights = "pretrained" ({one["tag"]})'
        typer.echo(f"  {one['file']} from {one['source']}{timms}")
    if known and listed:
        typer.echo("")
    for name, its_tags in listed.items():
        typer.echo(f"{name:<44} {', '.join(its_tags) or '(no weights)'}")


def datasets(data: DataOption = Path("data"), as_json: JsonOption = False) -> None:
    """List the data set layouts that can be read, and what is found of each below the data root."""
    from pipeline.datasets import DATASETS, open_dataset

    found = []
    for name, layout in DATASETS.items():
        here = next((data / folder for folder in layout.folders if (data / folder).is_dir()), None)
        if name == "manifest":  # which file it is stands in an experiment file alone
            here = None
        dataset = open_dataset(name, here or data)
        entry: dict[str, Any] = {
            "name": name,
            "folder": None if here is None else str(here),
            "tried": [str(data / folder) for folder in layout.folders],
            "layout": layout.files,
            "licence": dataset.licence,
            "official": dict(layout.official),
            "counted": layout.counted,
            "images": None,
            "notes": [],
        }
        if here is not None:
            try:
                entry["images"] = len(dataset.sources())
                entry["notes"] = list(dataset.notes())
            except UserError as error:
                entry["notes"] = [str(error)]
        found.append(entry)
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    for entry in found:
        count = entry["images"]
        state = "not here" if entry["folder"] is None else "unreadable" if count is None else f"{count:,} images"
        typer.echo(f"{entry['name']:<13} {state:<15} {entry['folder'] or ' or '.join(entry['tried'])}")
        typer.echo(f"  layout: {entry['layout']}")
        if entry["official"]:
            official = ", ".join(f"{split} {number:,}" for split, number in entry["official"].items())
            typer.echo(f"  officially: {official} {entry['counted']}")
        typer.echo(f"  licence: {entry['licence']}")
        for note in entry["notes"]:
            typer.echo(f"  note: {note}")
