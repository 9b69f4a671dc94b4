"""``patchbank export``: write a set to HDF5 files."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from commands.terminal.options import JsonOption, StoreOption
from commands.terminal.output import counted, echo, echo_json
from stores.errors import UserError
from stores.units import format_bytes

if TYPE_CHECKING:
    from stores import ZarrSet


def export(
    digest: Annotated[str, typer.Argument(help="Digest of a set, or its first characters.")],
    file: Annotated[Path, typer.Argument(help="HDF5 file to write; with --style clam, a folder.")],
    layers: Annotated[
        str | None, typer.Option(help="Only these layers, e.g. 3,11 (counted from 0) or -1 for the last.")
    ] = None,
    arrays: Annotated[str | None, typer.Option(help="Only these arrays, e.g. block.11.norm,prefix/block.11.")] = None,
    dtype: Annotated[
        str | None, typer.Option(help="Convert to float16 or float32; import refuses such a file.")
    ] = None,
    style: Annotated[
        str, typer.Option(help="patchbank: one file; clam: one file per image, with features and coords.")
    ] = "patchbank",
    vector: Annotated[
        str,
        typer.Option(
            help="The features of a tile with --style clam: mean (of its patches), prefix (the first) or patches."
        ),
    ] = "mean",
    store: StoreOption = "store",
    as_json: JsonOption = False,
) -> None:
    """Export a set, or some of its arrays, to one HDF5 file with a data card, or to one file per image for CLAM."""
    from stores import Store
    from stores.maintenance.verify import refuse_lost_seals

    stored_set = Store(store).open(digest)
    if any(not stored_set.sealed(name) for name in stored_set.arrays):
        refuse_lost_seals(stored_set.objects, stored_set.prefix)  # an array without seal would be left out in silence
    numbers = None if layers is None else [_integer(part) for part in layers.split(",")]
    names = None if arrays is None else [part.strip() for part in arrays.split(",")]
    if style == "clam":
        _export_tiles(stored_set, file, numbers, names, dtype, vector, as_json)
        return
    if style != "patchbank":
        raise UserError(f"--style {style!r} is neither patchbank nor clam")
    if vector != "mean":
        raise UserError("--vector belongs to --style clam: --style patchbank writes whole arrays")
    from stores.hdf5.exporting import choose_arrays, export_set

    made = export_set(stored_set, file, choose_arrays(stored_set, numbers, names), dtype)
    if as_json:
        found = {
            "set": stored_set.digest,
            "file": str(made.path),
            "card": str(made.card),
            "bytes": made.n_bytes,
            "reading_only": made.reading_only,
            "arrays": {name: entry.canonical() for name, entry in sorted(made.arrays.items())},
        }
        echo_json(found)
        return
    size = format_bytes(made.n_bytes)
    echo(f"wrote   {counted(len(made.arrays), 'array')} of {stored_set.digest[:12]}, {size}")
    if made.reading_only:
        echo("note    the dtype was changed: for reading only, `patchbank import` refuses this file")
    echo(f"where   {made.path} (described in {made.card})")


def _export_tiles(
    stored_set: "ZarrSet",
    folder: Path,
    layers: list[int] | None,
    arrays: list[str] | None,
    dtype: str | None,
    vector: str,
    as_json: bool,
) -> None:
    from stores.hdf5.clam import choose_tokens, export_tile_files

    kinds: dict[str, Literal["mean", "prefix", "patches"]] = {"mean": "mean", "prefix": "prefix", "patches": "patches"}
    if vector not in kinds:
        raise UserError(f"--vector {vector!r} is none of mean, prefix and patches")
    array = choose_tokens(stored_set, kinds[vector], layers, arrays)
    files = export_tile_files(stored_set, folder, array, kinds[vector], dtype)
    if as_json:
        found = {"set": stored_set.digest, "folder": str(folder), "array": array, "vector": vector, "files": len(files)}
        echo_json(found)
        return
    echo(f"wrote   {counted(len(files), 'file')} with features ({array}, {vector}) and coords")
    echo(f"where   {folder} (listed in slides.csv)")


def _integer(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise UserError(f"--layers takes numbers separated by commas, such as 3,11, not {text!r}") from None
