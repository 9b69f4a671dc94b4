"""``patchbank import``: read an exported HDF5 file into a store."""

from pathlib import Path
from typing import Annotated

import typer

from commands.terminal.options import JsonOption, StoreOption
from commands.terminal.output import counted, echo, echo_json


def import_set(
    file: Annotated[Path, typer.Argument(help="A file that `patchbank export` wrote.")],
    store: StoreOption = "store",
    allow_mixed: Annotated[
        bool, typer.Option(help="Complete a set that was computed on another kind of device.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Import the arrays of an exported file that the store lacks. Digests are checked before anything is written."""
    from stores import Store
    from stores.hdf5.importing import import_set as read_into
    from stores.hdf5.reader import HDF5Set

    opened = Store(store)
    with HDF5Set(file) as source:
        done = read_into(source, opened, allow_mixed=allow_mixed)
    if as_json:
        found = {"set": done.set.digest, "store": opened.location, "added": done.added, "there": done.there}
        echo_json(found)
        return
    echo(f"added   {counted(len(done.added), 'array')} of {done.set.digest[:12]}")
    echo(f"kept    {counted(len(done.there), 'array')} that the store already has")
    echo(f"where   {opened.location}")
