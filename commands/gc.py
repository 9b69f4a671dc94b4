"""``patchbank gc``: list or delete files that nothing needs."""

import os
import time
from collections.abc import Mapping
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
    apply: Annotated[
        bool, typer.Option("--apply", help="Delete what is chosen. Without it nothing is deleted.")
    ] = False,
    unsealed: Annotated[
        bool, typer.Option("--unsealed", help="Also choose sets that were started and not completed.")
    ] = False,
    uncited: Annotated[
        bool, typer.Option("--uncited", help="Also choose sets from which no result in --results was computed.")
    ] = False,
    older_than: Annotated[
        float, typer.Option(min=0, help="Refuse to delete files written in the last so many hours.")
    ] = 1.0,
    as_json: JsonOption = False,
) -> None:
    """List files of killed commands and sets without results, and delete them on request. Sets with results stay."""
    from evaluate.results.files import partial_files
    from evaluate.results.table import ResultStore
    from stores import Store
    from stores.maintenance.garbage import SMALL, Garbage, check_minimum_age, find_garbage, remove

    opened = Store(store)
    # Without any result every set would count as uncited, most likely because --results is the wrong folder.
    cited = ResultStore(results).cited() or None
    if uncited and cited is None:
        raise UserError(f"{results} contains no results, so every set would count as uncited: check --results")
    found = list(find_garbage(opened, cited))
    kinds = {*SMALL, *(["unsealed set"] if unsealed else []), *(["uncited set"] if uncited else [])}
    chosen = [one for one in found if one.kind in kinds]
    left = partial_files(results)
    if apply:
        check_minimum_age(opened, chosen, older_than * 3600)
        _check_results_age(left, older_than * 3600)
        remove(opened, chosen)
        _remove_results(left)
    of_results = [Garbage("partial file", str(path), status.st_size) for path, status in left.items()]
    found, chosen = [*found, *of_results], [*chosen, *of_results]
    if as_json:
        listed = [{**one.__dict__, "chosen": one in chosen, "removed": apply and one in chosen} for one in found]
        echo_json(listed)
        return
    for one in found:
        flag = {"unsealed set": " (--unsealed)", "uncited set": " (--uncited)"}.get(one.kind, "")
        echo(f"{format_bytes(one.n_bytes):>9}  {one.kind}{'' if one in chosen else flag}  {one.key}")
    size = format_bytes(sum(one.n_bytes for one in chosen))
    if not found:
        echo("nothing to delete")
    elif apply:
        echo(f"deleted {counted(len(chosen), 'item')}, {size}")
    else:
        echo(f"{counted(len(chosen), 'item')}, {size}" + (": add --apply to delete" if chosen else ""))


def _check_results_age(left: Mapping[Path, os.stat_result], seconds: float) -> None:
    for path, status in left.items():
        age = time.time() - status.st_mtime
        if age < seconds:
            raise UserError(
                f"{path} was written {max(0, age) / 60:.0f} minutes ago and its writer may still run: wait, or give "
                "--older-than 0 when no evaluation runs"
            )


def _remove_results(left: Mapping[Path, os.stat_result]) -> None:
    for path in left:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise UserError(f"cannot delete {path}: {error.strerror}; make its folder writable") from error
