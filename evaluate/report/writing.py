"""The report: one self-contained HTML page with figures and tables, and the figures as SVG and PDF beside it."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from evaluate.claims import decide_all
from evaluate.claims.paper_numbers import compare
from evaluate.claims.roles import ModelInfo
from evaluate.figures import FIGURES
from evaluate.figures.style import save
from evaluate.report.claims import claims_section, paper_section, write_claims
from evaluate.report.headline import headline, mark
from evaluate.report.page import Number, drawing, escape, filter_field, page, table
from evaluate.report.reading import NOTE, StoredResults, read_stored_results
from evaluate.report.store_state import WHOLE
from evaluate.results.table import ResultStore, write_file
from evaluate.runner import Evaluation
from stores.errors import MissingError

_SHOWN = (
    *("model", "classifier", "metric", "class", "value", "low", "high", "m", "k", "view", "level", "outcome"),
    *("reference", "x_name", "x_value", "train", "array", "analysis"),
)
"""Columns of the long table that the page shows; results.parquet holds all."""


UNSEEN = "not checked"
"""What is said of stored sets when nobody could look."""


def write_report(
    results: ResultStore,
    experiment: str,
    evaluation: Evaluation,
    about: list[dict[str, str]],
    *,
    models_info: Sequence[ModelInfo] = (),
    beside: Sequence[str] = (),
    stored: Mapping[str, str] | None = None,
) -> Path:
    """Write the page, the figures and the claims of an evaluation; return the page's path.

    ``stored`` says by title what became of each model's sets (`evaluate.report.store_state`), None that nobody looked.
    """
    note = {
        "about": about,
        "answers": [[title, digest] for digest, (title, _) in evaluation.results.items()],
        "models": [info.model_dump(mode="json") for info in models_info],
        "beside": list(beside),
    }
    write_file(results.root / experiment / NOTE, (json.dumps(note, indent=2) + "\n").encode())
    reported = StoredResults(evaluation.table, about, evaluation.results, tuple(models_info), tuple(beside))
    return _write(results, experiment, reported, stored)


def rewrite_report(
    results: ResultStore,
    experiment: str,
    look: Callable[[StoredResults], Mapping[str, str] | None] = lambda reported: None,
) -> Path:
    """Write the page again from the results folder alone; ``look`` returns what became of the stored sets.

    Raises as `read_stored_results` does.
    """
    reported = read_stored_results(results, experiment)
    return _write(results, experiment, reported, look(reported))


def _write(results: ResultStore, experiment: str, reported: StoredResults, stored: Mapping[str, str] | None) -> Path:
    folder = results.root / experiment
    found, about = reported.table, reported.about
    sections = [("What was measured on what", _about(about, stored))]
    if glance := headline(found, stored or {}):
        sections.append(("At a glance", glance))
    others = []
    for name in reported.beside:
        try:
            others.append(read_stored_results(results, name).evidence())
        except MissingError:  # not evaluated yet: the claims say what they lack
            continue
    decisions = decide_all(reported.evidence(others))
    write_claims(folder, decisions)
    sections.append(("What the paper found, and whether it holds here", claims_section(decisions, stored or {})))
    if compared := compare(found, reported.models_info):
        sections.append(("The paper's numbers beside ours", paper_section(compared)))
    plain, drawable = reported.drawable()
    marks = [f"{title} ({state})" for title, state in (stored or {}).items() if state != WHOLE]
    damaged = f" Stored sets that are not whole: {', '.join(marks)}." if marks else ""
    for place, entry in enumerate(FIGURES):
        drawn = entry.draw(plain, drawable)
        if drawn is None:
            if entry.absent and (found["analysis"] == entry.analysis).any():
                sections.append((entry.title, f"<p>{escape(entry.absent)}</p>"))
            continue
        svg = save(drawn, "svg")
        write_file(folder / "figures" / f"{entry.name}.svg", svg)
        write_file(folder / "figures" / f"{entry.name}.pdf", save(drawn, "pdf"))
        sections.append((entry.title, drawing(svg.decode(), entry.title, f"{entry.caption}{damaged}", place)))
    sections.append(("Every number", _numbers(found, stored or {})))
    data_sets = ", ".join(dict.fromkeys(entry["data set"] for entry in about))
    lead = (
        f"{len(about)} model{'s' if len(about) != 1 else ''} on {data_sets}. Every number was computed from stored "
        "features; the same numbers are in results.parquet and results.csv beside this page."
    )
    path = folder / "report.html"
    write_file(path, page(experiment, lead, sections).encode())
    return path


def _about(about: list[dict[str, str]], stored: Mapping[str, str] | None) -> str:
    """Return what all models share as a list, and a table of what tells them apart."""
    if not about:
        return "<p>Nothing is known about the sets.</p>"
    columns = {name: [_value(entry[name]) for entry in about] for name in about[0]}
    columns["stored sets"] = [_state((stored or {}).get(entry.get("model", ""), UNSEEN)) for entry in about]
    shared = {name: cells[0] for name, cells in columns.items() if len(set(cells)) == 1}
    listed = "".join(f"<div><dt>{escape(name)}</dt><dd>{cell}</dd></div>" for name, cell in shared.items())
    apart = [name for name in columns if name not in shared]
    rows: list[list[str | Number | None]] = [[columns[name][place] for name in apart] for place in range(len(about))]
    explained = (
        "<p>Stored sets were looked at when this page was written: <em>whole</em> means that every record, seal and "
        "size is right (bytes are hashed by <code>patchbank verify</code> alone); <em>not checked</em> that no store "
        "was there to look into.</p>"
    )
    told_apart = table(apart, rows, raw=True, fit=True) if apart else ""
    return f"{told_apart}<dl>{listed}</dl>{explained}"


def _value(value: str) -> str:
    """Return a value as HTML, digests short."""
    is_digest = len(value) == 64 and set(value) <= set("0123456789abcdef")
    return f'<code title="{value}">{value[:12]}</code>' if is_digest else escape(value)


def _state(state: str) -> str:
    """Return as HTML what became of a model's stored sets, strong where it is bad."""
    return escape(state) if state in (WHOLE, UNSEEN) else f"<strong>{escape(state)}</strong>"


def _numbers(found: pd.DataFrame, stored: Mapping[str, str]) -> str:
    # Marked in the model's own column, so that filtering and sorting keep the mark.
    found = found.assign(model=found["model"].map(lambda model: f"{model}{mark(model, stored)}", na_action="ignore"))
    plain = found[found["class"].isna() & ~found["metric"].isin(["variance"])]
    classes = found[found["class"].notna()]
    parts = [
        '<p class="printed">All of them are in results.parquet and results.csv, beside this page.</p>',
        '<div class="screen">',
        _sortable(plain, "numbers"),
    ]
    if not classes.empty:
        inner = _sortable(classes, "class-numbers")
        parts.append(f"<details><summary>Numbers of single classes</summary>{inner}</details>")
    return "\n".join([*parts, "</div>"])


def _sortable(rows: pd.DataFrame, name: str) -> str:
    """Return rows of the long table to sort and filter, without the columns that are empty throughout."""
    filled = [column for column in _SHOWN if rows[column].notna().any()]
    return filter_field(name, "Filter by words") + table(filled, _lines(rows, filled), name)


def _lines(rows: pd.DataFrame, columns: Sequence[str]) -> list[list[str | Number | None]]:
    numeric = {"m", "k", "value", "low", "high", "level", "x_value"}
    lines: list[list[str | Number | None]] = []
    for record in rows[list(columns)].to_dict("records"):
        line: list[str | Number | None] = []
        for name in columns:
            value = record[name]
            line.append(None if pd.isna(value) else Number(value) if name in numeric else str(value))
        lines.append(line)
    return lines
