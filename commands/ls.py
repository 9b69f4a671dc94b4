"""``patchbank ls``: list the sets of a store."""

from pathlib import Path
from typing import Any

from commands.terminal.options import JsonOption, StoreOption
from commands.terminal.output import counted, echo, echo_json, print_table, say
from stores.errors import DamageError, UserError
from stores.units import format_bytes


def list_sets(store: StoreOption = "store", as_json: JsonOption = False) -> None:
    """List the sets of a store with their state and size."""
    from stores.maintenance.listing import lines
    from stores.storage.opening import open_objects

    if "://" not in store and Path(store).is_file():
        raise UserError(f"--store {store} is a file: give the folder that contains the sets")
    objects = open_objects(store)
    found = list(lines(objects))
    damaged = [one for one in found if one["state"] == "damaged"]
    unread = [one for one in found if one["state"] == "unread"]
    if as_json:
        echo_json(found)
    elif not found:
        echo(f"{objects.url} contains no sets: run `patchbank extract` first")
    else:
        head = [
            "set",
            "kind",
            "data set",
            "model",
            "weights",
            "input",
            "view",
            "state",
            "rows",
            "arrays sealed",
            "size",
            "made",
            "experiment",
        ]
        print_table([head, *(_line(one) for one in found)])
        for one in (*damaged, *unread):
            say(f"{one['digest'][:12]}: {one['problem']}")
    if damaged:
        raise DamageError(f"{counted(len(damaged), 'set')} cannot be read: run `patchbank repair`")
    if unread:
        raise UserError(f"{counted(len(unread), 'set')} could not be read: {unread[0]['problem']}")


def _line(one: dict[str, Any]) -> list[str]:
    state, rows = one["state"], f"{one['rows']:,}"
    if state == "partial":
        rows = f"{one['rows_done']:,} of {rows}"
        state = f"{one['ranges_done']}/{one['ranges']} ranges"
    rows += f" ({one['invalid_rows']:,} invalid)" if one["invalid_rows"] else ""
    return [
        one["digest"][:12],
        one["kind"],
        one["data_set"],
        one["model"],
        one.get("weights", "-"),
        one.get("input", "-"),
        one["view"] if one["level"] is None else f"{one['view']} {one['level']:g}",
        state,
        rows,
        f"{one['sealed']}/{one['arrays']}",
        format_bytes(one["bytes"]),
        one.get("date", "-"),
        one.get("experiment", "-"),
    ]
