"""The report: one self-contained HTML page with figures and tables, and the figures as SVG and PDF beside it."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from evaluate.claims import decide_all
from evaluate.claims.paper_numbers import compare
from evaluate.claims.roles import ModelInfo
from evaluate.figures import FIGURES, PICTURES
from evaluate.figures.style import has_colour_maps, interval_marks, save
from evaluate.report.answer import answer
from evaluate.report.claims import claims_section, paper_section, write_claims
from evaluate.report.headline import headline, mark
from evaluate.report.page import (
    Drawing,
    Number,
    contents,
    drawing,
    drawings,
    escape,
    filter_field,
    page,
    prose,
    table,
)
from evaluate.report.reading import NOTE, StoredResults, read_stored_results
from evaluate.report.store_state import WHOLE
from evaluate.results.files import remove_partials, write_file
from evaluate.results.metrics import LOG_SINGULAR_VALUE, VARIANCE
from evaluate.results.preferred import untreated
from evaluate.results.table import ResultStore
from evaluate.runner import Evaluation
from stores.errors import MissingError

_SHOWN = (
    *(
        "model",
        "classifier",
        "metric",
        "class",
        "value",
        "low",
        "high",
        "m",
        "treatment",
        "k",
        "token",
        "view",
        "level",
        "outcome",
    ),
    *("reference", "x_name", "x_value", "train", "array", "distance", "analysis"),
)
"""Columns of the long table that the page shows; results.parquet holds all."""

_NUMERIC = {"m", "k", "value", "low", "high", "level", "x_value"}

_LONG = {VARIANCE, LOG_SINGULAR_VALUE}
"""Metrics with hundreds of numbers a layer, which figures show."""

UNSEEN = "not checked"
"""State of stored sets where there was no store to check."""


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

    Args:
        results: folder of results.
        experiment: name of the experiment.
        evaluation: its results.
        about: facts about each model's sets, all with the same keys.
        models_info: what claims need to know about each model.
        beside: other evaluated experiments that claims compare with.
        stored: state of each model's stored sets by title (`evaluate.report.store_state`), None where not checked.
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
    check: Callable[[StoredResults], Mapping[str, str] | None] = lambda stored_results: None,
) -> Path:
    """Write the page again from the results folder alone; ``check`` returns the state of the stored sets.

    Raises as `read_stored_results` does.
    """
    stored_results = read_stored_results(results, experiment)
    remove_partials(results.root)
    return _write(results, experiment, stored_results, check(stored_results))


def _write(results: ResultStore, experiment: str, read: StoredResults, stored: Mapping[str, str] | None) -> Path:
    folder, states = results.root / experiment, stored or {}
    others = []
    for name in read.beside:
        try:
            others.append(read_stored_results(results, name).evidence())
        except MissingError:  # not evaluated yet: the claims say what they lack
            continue
    decisions = decide_all(read.evidence(others))
    write_claims(folder, decisions)
    plain = untreated(read.table)
    drawn = _draw(folder, read, states)
    top, pictures, figures = _in_order(drawn)
    numbers = headline(plain, states) or ""
    sections = [("Summary", f"{drawings(top) if top else ''}{numbers}")] if top or numbers else []
    sections.append(("Claims of the papers", claims_section(decisions, states)))
    if compared := compare(plain, read.models_info):
        sections.append(("Numbers of the paper beside ours", paper_section(compared)))
    if pictures:
        sections.append(("Pictures", contents(pictures) + drawings(pictures)))
    if figures:
        sections.append(("Figures", contents(figures) + drawings(figures)))
    sections.append(("What was measured on what", _about(read.about, stored)))
    sections.append(("All numbers", _numbers(read.table, states)))
    n_models, data_sets = len(read.about), ", ".join(dict.fromkeys(entry["data set"] for entry in read.about))
    counts = {entry.get("images", "") for entry in read.about} - {""}
    images = f" of {'1 image' if counts == {'1'} else f'{min(counts)} images'}" if len(counts) == 1 else ""
    lead = (
        f"{n_models} model{'s' if n_models != 1 else ''} on {data_sets}. Every number was computed from stored "
        f"features{images}; the same numbers are in results.parquet and results.csv beside this page."
    )
    said = answer(plain, read.models_info, decisions, states)
    write_file(folder / "report.html", page(experiment, lead, sections, said).encode())
    return folder / "report.html"


def _draw(folder: Path, read: StoredResults, states: Mapping[str, str]) -> list[Drawing]:
    """Write every figure that there are numbers for, and return them for the page, in the order of `FIGURES`."""
    table, drawable = read.drawable()
    marks = [f"{title} ({state})" for title, state in states.items() if state != WHOLE]
    damaged = f" Stored sets that are not whole: {', '.join(marks)}." if marks else ""
    found = []
    for entry in FIGURES:
        figure = entry.draw(table, drawable)
        if figure is not None:
            svg = save(figure, "svg")
            write_file(folder / "figures" / f"{entry.name}.svg", svg)
            write_file(folder / "figures" / f"{entry.name}.pdf", save(figure, "pdf"))
            marked = interval_marks(figure)
            caption = f"{entry.caption}{entry.interval.format(marks=marked) if marked else ''}{damaged}"
            coloured = entry.name in PICTURES or has_colour_maps(figure)
            found.append(drawing(entry.name, svg.decode(), entry.title, caption, coloured=coloured))
        elif entry.absent and (read.table["analysis"] == entry.analysis).any():
            found.append(Drawing(entry.name, entry.title, f"<p>{prose(entry.absent)}</p>"))
    return found


def _in_order(drawn: Sequence[Drawing]) -> tuple[list[Drawing], list[Drawing], list[Drawing]]:
    """Return the figure and the pictures that the page begins with, the other pictures, and the other figures."""
    by_name = {one.name: one for one in drawn}
    pictures = [by_name[name] for name in PICTURES if name in by_name]
    # The main scores where there are some; else what was measured first.
    others = [one for one in drawn if one.name not in PICTURES]
    firsts = [next((one for one in some if one.width), None) for some in (others, pictures)]
    top = [one for one in firsts if one is not None]
    return top, [one for one in pictures if one not in top], [one for one in others if one not in top]


def _about(about: list[dict[str, str]], stored: Mapping[str, str] | None) -> str:
    """Return the facts that all models share as a list, and the others as a table."""
    if not about:
        return "<p>There are no facts about the sets.</p>"
    columns = {name: [_value(entry[name]) for entry in about] for name in about[0]}
    columns["stored sets"] = [_state((stored or {}).get(entry.get("model", ""), UNSEEN)) for entry in about]
    shared = {name: cells[0] for name, cells in columns.items() if len(set(cells)) == 1}
    listed = "".join(f"<div><dt>{escape(name)}</dt><dd>{cell}</dd></div>" for name, cell in shared.items())
    apart = {name: cells for name, cells in columns.items() if name not in shared}
    explained = (
        "<p>Stored sets were checked when this page was written: <em>whole</em> means that every record, seal and "
        "size is right (only <code>patchbank verify</code> hashes the bytes); <em>not checked</em> that there was no "
        "store.</p>"
    )
    differing = table(list(apart), list(zip(*apart.values(), strict=True)), raw=True, fit=True) if apart else ""
    return f"{differing}<dl>{listed}</dl>{explained}"


def _value(value: str) -> str:
    """Return a value as HTML, digests short."""
    is_digest = len(value) == 64 and set(value) <= set("0123456789abcdef")
    return f'<code title="{value}">{value[:12]}</code>' if is_digest else prose(value)


def _state(state: str) -> str:
    """Return the state of a model's stored sets as HTML, strong where they are not whole."""
    return escape(state) if state in (WHOLE, UNSEEN) else f"<strong>{escape(state)}</strong>"


def _numbers(results: pd.DataFrame, states: Mapping[str, str]) -> str:
    # Marked in the model's own column, so that filtering and sorting keep the mark.
    marked = results["model"].map(lambda model: f"{model}{mark(model, states)}", na_action="ignore")
    results = results.assign(model=marked)
    of_layers = (results["x_name"] == "reference_depth").fillna(False)
    plain = results[results["class"].isna() & ~results["metric"].isin(_LONG) & ~of_layers]
    classes = results[results["class"].notna()]
    parts = [
        '<p class="printed">All of them are in results.parquet and results.csv, beside this page.</p>',
        '<div class="screen">',
        _sortable(plain, "numbers"),
    ]
    if not classes.empty:
        inner = _sortable(classes, "class-numbers")
        parts.append(f"<details><summary>Numbers of single classes</summary>{inner}</details>")
    if of_layers.any():
        inner = _sortable(results[of_layers], "layer-numbers")
        parts.append(f"<details><summary>Numbers of pairs of layers</summary>{inner}</details>")
    return "\n".join([*parts, "</div>"])


def _sortable(rows: pd.DataFrame, name: str) -> str:
    """Return rows of the long table to sort and filter, without the columns that are empty throughout."""
    columns = [column for column in _SHOWN if rows[column].notna().any()]

    lines = [
        [None if pd.isna(value) else Number(value) if name in _NUMERIC else str(value) for name, value in row.items()]
        for row in rows[columns].to_dict("records")
    ]
    return filter_field(name, "Filter by words") + table(columns, lines, name)
