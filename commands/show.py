"""``patchbank show``: print everything that is recorded about one set."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from commands.terminal.options import JsonOption, StoreOption
from commands.terminal.output import echo, echo_json, print_table
from stores.units import format_bytes

if TYPE_CHECKING:
    from stores import ZarrSet


def show(
    digest: Annotated[str, typer.Argument(help="Digest of a set, or its first characters.")],
    store: StoreOption = "store",
    as_json: JsonOption = False,
) -> None:
    """Show one set: what it was made from, its arrays and its digests."""
    from stores import Store
    from stores.maintenance.describe import card
    from stores.writing.dead_channels import describe_channels

    opened = Store(store).open(digest, from_summary=True)
    found = card(opened) | {"coverage": _coverage(opened)}
    if as_json:
        echo_json(found)
        return
    echo(f"{found['kind']} {found['digest']}")
    done = "" if found["state"] == "sealed" else f", {found['rows_done']:,} of them in every array"
    echo(f"{found['state']}: {found['rows']:,} rows{done}, {found['sealed']} of {len(found['arrays'])} arrays sealed")
    if found["invalid_because"]:
        echo(f"{sum(found['invalid_because'].values()):,} rows are invalid; every analysis leaves them out")
        for reason, count in found["invalid_because"].items():
            echo(f"  {count:,}: {reason}")
    if found["coverage"] is not None and found["coverage"] < 0.9995:
        echo(f"the rows show {found['coverage']:.1%} of the pixels of their images")
    for line in other_machines(found["compute"], found["other_machines"]):
        echo(line)
    for title in ("spec", "layout", "compute", "provenance"):
        echo()
        echo(title)
        for name, value in _flat(found[title]):
            echo(f"  {name:<28} {value}")
    echo()
    lines = [["array", "shape", "axes", "dtype", "state", "size", "content"]]
    lines += [
        [
            name,
            "x".join(map(str, a["shape"])),
            ", ".join(a["axes"]),
            a["dtype"],
            a["state"],
            format_bytes(a["bytes"]),
            a["content"][:12],
        ]
        for name, a in found["arrays"].items()
    ]
    print_table(lines)
    for name, a in found["arrays"].items():
        if a["dead"]:
            echo(f"{name}: {describe_channels(tuple(a['dead']), a['shape'][-1])}")
    echo()
    echo(f"stored digest {found['stored']}")


def _coverage(stored_set: "ZarrSet") -> float | None:
    """Return which share of their images the rows show, 0..1; None under a view, which may move the tiles."""
    from pipeline.rows.frames import shown_pixels

    if stored_set.spec.view.name != "clean":
        return None
    try:
        return shown_pixels(stored_set.spec.frame, stored_set.samples)
    except (KeyError, TypeError, ValueError, ArithmeticError):  # a table that Patchbank did not write
        return None


def other_machines(recorded: dict[str, Any], others: list[dict[str, Any]]) -> list[str]:
    """Return on how many kinds of machine a set may have been computed, and what differs, as lines."""
    from stores.format.machines import differences

    kinds: dict[str, set[int]] = {}
    for other in others:
        changed = differences(recorded, other["compute"])
        changes = ", ".join(f"{name} {here} instead of {before}" for name, (before, here) in changed.items())
        kinds.setdefault(changes, set()).update(number for part in other["made"] for number in part["ranges"])
    if not kinds:
        return []
    head = f"computed on {len(kinds) + 1} kinds of machine, whose last bits may differ"
    return [head, *(f"  {len(ranges):,} ranges or fewer with {changes}" for changes, ranges in kinds.items())]


def _flat(record: dict[str, Any], before: str = "") -> list[tuple[str, str]]:
    """Return a record as lines: keys joined with dots, lists joined with commas."""
    found: list[tuple[str, str]] = []
    for name, value in record.items():
        if isinstance(value, dict):
            found += _flat(value, f"{before}{name}.")
        elif value is not None:
            text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            found.append((f"{before}{name}", text))
    return found
