"""``patchbank compare``: put models of several evaluated experiments side by side."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from commands.terminal.options import JsonOption, ResultsOption
from commands.terminal.output import counted, echo, echo_json, print_table, say
from stores.errors import UserError

if TYPE_CHECKING:
    from evaluate.report.comparison import Comparison

_MOST_LINES = 40


def compare(
    experiments: Annotated[
        list[str],
        typer.Argument(help="Evaluated experiments: folders such as results/camvid, or their names in --results."),
    ],
    results: ResultsOption = Path("results"),
    all_layers: Annotated[
        bool, typer.Option("--all-layers", help="Compare layers of equal number, not the last one of every model.")
    ] = False,
    allow: Annotated[
        list[str] | None,
        typer.Option(help='A field that may differ, for example "patch grid" or resamples; give it once for each.'),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(show_default=False, help="Folder for the table and the page. Default: comparison in --results."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Put models of several experiments side by side where they were measured in the same way; refuse other rows."""
    from evaluate.report.comparison import compare as compare_results
    from evaluate.report.comparison_page import comparison_page
    from evaluate.report.reading import read as read_results
    from evaluate.results.files import write_file

    folders = [_folder(name, results) for name in experiments]
    once = {folder.resolve(): folder for folder in folders}.values()  # however often one is named
    read = [read_results(folder.parent, folder.name) for folder in once]
    compared = compare_results(read, layers="all" if all_layers else "last", allow=tuple(dict.fromkeys(allow or ())))
    folder = out or results / "comparison"
    csv, page = folder / "comparison.csv", folder / "comparison.html"
    write_file(csv, compared.csv())
    write_file(page, comparison_page(compared, [one.experiment for one in read]).encode())
    if as_json:
        echo_json(
            {
                "models": list(compared.models),
                "rows": len(compared.rows),
                "refused": [str(one) for one in compared.refused],
                "measured_for_one_model": compared.n_alone,
                "csv": str(csv),
                "page": str(page),
            }
        )
        return
    _print_rows(compared)
    for one in compared.refused:
        say(f"note: {one}")
    if compared.n_alone:
        say(f"note: {counted(compared.n_alone, 'row')} of measurements that one model alone has are left out")
    echo(f"compared  {counted(len(compared.rows), 'row')} of {counted(len(compared.models), 'model')}")
    echo(f"where     {csv} and {page}")


def _folder(name: str, results: Path) -> Path:
    """Return the folder of an evaluated experiment, of which that name or path is given."""
    path = Path(name)
    if path.suffix in (".toml", ".parquet", ".csv", ".html"):
        raise UserError(f"{name} is a file: give the folder of an evaluated experiment, for example results/camvid")
    return path.resolve() if path.is_dir() else results / name


def _print_rows(compared: "Comparison") -> None:
    """Print the numbers of whole models: without curves and single classes."""
    from evaluate.report.comparison_page import cell, shared_and_varying

    rows = compared.rows
    rows = rows[(rows["class", ""] == "") & (rows["x_name", ""] == "")]
    if rows.empty:
        return
    _, varying = shared_and_varying(compared, rows)
    lines = [
        [
            *(str(row[name, ""]) for name in varying),
            *(cell(row, model) for model in compared.models),
        ]
        for row in rows.head(_MOST_LINES).to_dict("records")
    ]
    print_table([[*varying, *compared.models], *lines])
    if len(rows) > _MOST_LINES:
        echo(f"and {counted(len(rows) - _MOST_LINES, 'row')} more in the files")
