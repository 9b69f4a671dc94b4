"""``patchbank gc``."""

from pathlib import Path
from typing import Annotated

import typer

from commands.terminal.options import JsonOption, ResultsOption, StoreOption
from commands.terminal.output import counted, echo, echo_json
from stores.errors import UserError
from stores.units import format_bytes


def gc(
    store: StoreOption = "store",
    results: ResultsOption = Path("results"),
    apply: Annotated[bool, typer.Option("--apply", help="Remove what is listed; without it nothing is.")] = False,
    unsealed: Annotated[bool, typer.Option("--unsealed", help="Sets that were begun and not completed too.")] = False,
    uncited: Annotated[bool, typer.Option("--uncited", help="Sets that no result cites too.")] = False,
    older_than: Annotated[float, typer.Option(min=0, help="Hours since the last write, below which it refuses.")] = 1.0,
    as_json: JsonOption = False,
) -> None:
    """List what nothing needs: files of killed writers, sets no result cites. Never removes what a result cites."""
    from evaluate.results.table import ResultStore
    from stores import Store
    from stores.maintenance.garbage import SMALL, check_minimum_age, find_garbage, remove

    opened = Store(store)
    # Without any answer every set would count as uncited, most likely because --results is the wrong folder.
    cited = ResultStore(results).cited() or None
    if uncited and cited is None:
        raise UserError(f"{results} holds no answers, so every set would count as uncited: give the right --results")
    found = list(find_garbage(opened, cited))
    asked = {*SMALL, *(["unsealed set"] if unsealed else []), *(["uncited set"] if uncited else [])}
    chosen = [one for one in found if one.kind in asked]
    if apply:
        check_minimum_age(opened, chosen, older_than * 3600)
        remove(opened, chosen)
    if as_json:
        listed = [{**one.__dict__, "chosen": one in chosen, "removed": apply and one in chosen} for one in found]
        echo_json(listed)
        return
    for one in found:
        flag = {"unsealed set": " (--unsealed)", "uncited set": " (--uncited)"}.get(one.kind, "")
        echo(f"{format_bytes(one.n_bytes):>9}  {one.kind}{'' if one in chosen else flag}  {one.key}")
    size = format_bytes(sum(one.n_bytes for one in chosen))
    if not found:
        echo("nothing is left over")
    elif apply:
        echo(f"removed {counted(len(chosen), 'leftover')}, {size}")
    else:
        echo(f"{counted(len(chosen), 'leftover')}, {size}" + (": --apply removes them" if chosen else ""))
