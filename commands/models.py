"""``patchbank models``: list known models and timm's."""

import difflib
from pathlib import Path
from typing import Annotated

import typer

from commands.terminal.options import JsonOption
from commands.terminal.output import echo, echo_json
from stores.errors import UserError


def models(
    pattern: Annotated[str, typer.Argument(help="Part of a name. Default: the known models and timm's ViTs.")] = "",
    weights: Annotated[Path, typer.Option(help="Folder to search for official weight files.")] = Path("weights"),
    as_json: JsonOption = False,
) -> None:
    """List the models known by a short name, then timm's models with their pretrained tags."""
    import timm

    from pipeline.models.known import KNOWN
    from pipeline.models.loading.presence import find_weights

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
        echo_json({"known": known, "timm": listed})
        return
    if not known and not listed:
        families = sorted({name.partition("_patch")[0] for name in timm.list_models()})
        near = difflib.get_close_matches(pattern, [*KNOWN, *families], n=3)
        raise UserError(
            f"no model has {pattern!r} in its name: "
            + (f"did you mean {', '.join(near)}?" if near else "leave out the pattern to list all")
        )
    for one in known:
        state = "shipped" if one["shipped"] else "not found" if one["present"] is None else f"found: {one['present']}"
        echo(
            f"{one['name']:<20} patch {one['patch']:>2}  width {one['width']:>4}  depth {one['depth']:>2}  "
            f"prefix {one['n_prefix']}  {state}"
        )
        echo(f"  {one['trained_on']}; {one['augmentations']}; licence {one['licence']}")
        if one["shipped"]:
            echo('  weights = "shipped"; trained by demo/backbones')
            continue
        timms = "" if one["tag"] is None else f', or weights = "pretrained" ({one["tag"]})'
        echo(f"  {one['file']} from {one['source']}{timms}")
    if known and listed:
        echo("")
    for name, its_tags in listed.items():
        echo(f"{name:<44} {', '.join(its_tags) or '(no weights)'}")
