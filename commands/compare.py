"""``patchbank compare``: put models of several evaluated experiments side by side."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from commands.terminal.options import JsonOption, ResultsOption
from commands.terminal.output import counted, echo, echo_json, print_table, say
from stores.errors import UserError

if TYPE_CHECKING:
    from evaluate.report.comparison import Comparison

_MOST_LINES = 50
"""Of a table; one of an analysis."""
_SIDES = {"True": ", after the final norm", "False": ", before the final norm"}


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
    notes = [str(one) for one in (*compared.refused, *compared.alone)]
    if compared.n_inner:
        notes.append(
            f"{counted(compared.n_inner, 'row')} of layers and points before the last layer are left out: give "
            "--all-layers to compare them"
        )
    if as_json:
        echo_json(
            {
                "models": list(compared.models),
                "rows": len(compared.rows),
                "refused": [str(one) for one in compared.refused],
                "alone": [str(one) for one in compared.alone],
                "measured_for_one_model": compared.n_alone,
                "rows_of_inner_layers": compared.n_inner,
                "notes": notes,
                "csv": str(csv),
                "page": str(page),
            }
        )
        return
    _print_rows(compared, csv)
    for note in notes:
        say(f"note: {note}")
    echo(f"compared  {counted(len(compared.rows), 'row')} of {counted(len(compared.models), 'model')}")
    echo(f"where     {csv} and {page}")


def _folder(name: str, results: Path) -> Path:
    """Return the folder of an evaluated experiment, of which that name or path is given."""
    path = Path(name)
    if path.suffix in (".toml", ".parquet", ".csv", ".html"):
        raise UserError(f"{name} is a file: give the folder of an evaluated experiment, for example results/camvid")
    return path.resolve() if path.is_dir() else results / name


def _print_rows(compared: "Comparison", csv: Path) -> None:
    """Print the numbers of whole models, a table an analysis and side of the norm.

    Curves, single classes and what is too much are counted.
    """
    from evaluate.report.comparison_page import cell, shared_and_varying

    more: dict[str, int] = {}
    for names, rows in compared.rows.groupby([("analysis", ""), ("normed", "")], sort=False):
        analysis, normed = map(str, names)
        of_curve = ~rows["x_name", ""].isin(("", "layer", "depth"))
        shown = rows[(rows["class", ""] == "") & ~of_curve].head(_MOST_LINES)
        if len(rows) > len(shown):
            more[analysis] = more.get(analysis, 0) + len(rows) - len(shown)
        if shown.empty:
            continue
        _, varying = shared_and_varying(compared, shown)
        varying = list(dict.fromkeys(("metric", *varying)))
        lines = [
            [*(str(row[column, ""]) for column in varying), *(cell(row, model) for model in compared.models)]
            for row in shown.to_dict("records")
        ]
        echo(f"{analysis}{_SIDES.get(normed, '')}")
        print_table([[*varying, *compared.models], *lines])
        echo()
    if more:
        parts = ", ".join(f"{n_rows:,} of {name}" for name, n_rows in more.items())
        n_more = sum(more.values())
        echo(f"more      {counted(n_more, 'row')}, curves and single classes among them, in {csv.name}: {parts}")
