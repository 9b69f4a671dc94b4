"""``patchbank report``: write the HTML page again from stored results."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from commands.terminal.options import JsonOption, ResultsOption, StoreOption
from commands.terminal.output import say
from stores.errors import PatchbankError


def report(
    experiment: Annotated[str, typer.Argument(help="Name of the experiment: the file's name without .toml.")],
    results: ResultsOption = Path("results"),
    store: StoreOption = "store",
    as_json: JsonOption = False,
) -> None:
    """Write the HTML page, claims and figures again from stored results, and check that their sets are intact."""
    from evaluate.report.reading import StoredResults
    from evaluate.report.store_state import states
    from evaluate.report.writing import rewrite_report
    from evaluate.results.table import ResultStore
    from stores import Store

    def check(stored_results: StoredResults) -> Mapping[str, str] | None:
        try:
            return states(Store(store), stored_results.models_info, stored_results.table)
        except PatchbankError as error:  # the page needs no store
            say(f"the stored sets were not checked: {error}")
            return None

    page = rewrite_report(ResultStore(results), Path(experiment).name.removesuffix(".toml"), check)
    typer.echo(json.dumps({"report": str(page)}, indent=2) if as_json else f"where   {page}")
