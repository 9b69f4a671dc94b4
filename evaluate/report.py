"""The report: one self-contained HTML page with figures and tables, and the figures as SVG and PDF beside it."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import pandas as pd

from evaluate.answering import Evaluation
from evaluate.claims import decide_all
from evaluate.claims.paper_numbers import compare
from evaluate.claims.roles import Subject
from evaluate.figures import FIGURES
from evaluate.figures.style import cells, n_train, save, smallest_k
from evaluate.report_claims import claims_section, paper_section, write_claims
from evaluate.report_page import Number, drawing, escape, filter_field, page, table
from evaluate.reported import NOTE, Reported, read_reported
from evaluate.results import Results, write_file
from evaluate.stored_sets import WHOLE
from stores.errors import MissingError

SHOWN = (
    *("model", "classifier", "metric", "value", "low", "high", "m", "k", "view", "level", "outcome", "reference"),
    *("x_name", "x_value", "train", "array", "analysis"),
)
"""Columns of the long table that the page shows; results.parquet holds all."""

_NAMES = ("model", "class", "array", "view", "classifier")
"""Columns whose text comes from outside and enters figures."""


def write_report(
    results: Results,
    experiment: str,
    evaluation: Evaluation,
    about: list[dict[str, str]],
    *,
    subjects: Sequence[Subject] = (),
    beside: Sequence[str] = (),
    stored: Mapping[str, str] | None = None,
) -> Path:
    """Write the page, the figures and the claims of an evaluation; return the page's path.

    ``stored`` says by title what became of each model's sets (`evaluate.stored_sets`), None that nobody looked.
    """
    note = {
        "about": about,
        "answers": [[cell.title, digest] for digest, (cell, _) in evaluation.answers.items()],
        "models": [subject.model_dump(mode="json") for subject in subjects],
        "beside": list(beside),
    }
    write_file(results.root / experiment / NOTE, (json.dumps(note, indent=2) + "\n").encode())
    answers = {digest: (cell.title, answer) for digest, (cell, answer) in evaluation.answers.items()}
    reported = Reported(evaluation.table, about, answers, tuple(subjects), tuple(beside))
    return _write(results, experiment, reported, stored)


def rewrite_report(
    results: Results, experiment: str, look: Callable[[Reported], Mapping[str, str] | None] = lambda reported: None
) -> Path:
    """Write the page again from the results folder alone; ``look`` returns what became of the stored sets.

    Raises as `read_reported` does.
    """
    reported = read_reported(results, experiment)
    return _write(results, experiment, reported, look(reported))


def _write(results: Results, experiment: str, reported: Reported, stored: Mapping[str, str] | None) -> Path:
    folder = results.root / experiment
    found, about = reported.table, reported.about
    sections = [("What was measured on what", _about(about, stored)), ("At a glance", headline(found, stored or {}))]
    others = []
    for name in reported.beside:
        try:
            others.append(read_reported(results, name).evidence())
        except MissingError:  # not evaluated yet: the claims say what they lack
            continue
    decisions = decide_all(reported.evidence(others))
    write_claims(folder, decisions)
    sections.append(("What the paper found, and whether it holds here", claims_section(decisions, stored or {})))
    if compared := compare(found, reported.subjects):
        sections.append(("The paper's numbers beside ours", paper_section(compared)))
    plain = found.assign(**{name: found[name].map(_no_formula, na_action="ignore") for name in _NAMES})
    drawable = [(_no_formula(model), answer) for model, answer in reported.answers.values()]
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


def _no_formula(name: str) -> str:
    """Return a name that figures show as it is; between dollars matplotlib would read TeX."""
    return name.replace("$", r"\$")


def _about(about: list[dict[str, str]], stored: Mapping[str, str] | None) -> str:
    if not about:
        return "<p>Nothing is known about the sets.</p>"
    rows = []
    for entry in about:
        line: list[str | Number | None] = []
        for value in entry.values():
            is_digest = len(value) == 64 and set(value) <= set("0123456789abcdef")
            short = f'<code title="{value}">{value[:12]}</code>' if is_digest else escape(value)
            line.append(short)
        state = "not checked" if stored is None else stored.get(entry.get("model", ""), "not checked")
        line.append(escape(state) if state in (WHOLE, "not checked") else f"<strong>{escape(state)}</strong>")
        rows.append(line)
    explained = (
        "<p>Stored sets were looked at when this page was written: <em>whole</em> means that every record, seal and "
        "size is right (bytes are hashed by <code>patchbank verify</code> alone); <em>not checked</em> that no store "
        "was there to look into.</p>"
    )
    return explained + table([*about[0], "stored sets"], rows, raw=True)


def headline(found: pd.DataFrame, stored: Mapping[str, str] = MappingProxyType({})) -> str:
    """Return one line a model: nearest neighbours with and without the leading features, the probe, the variance."""
    lines: list[list[str | Number | None]] = []
    for model in dict.fromkeys(found["model"].dropna()):
        of_model = found[found["model"] == model]
        knn, probe = (_last(cells(of_model, "patch_miou", name)) for name in ("knn", "probe"))
        line: list[str | Number | None] = [f"{model}{_mark(model, stored)}"]
        for part, m in ((knn, 0), (knn, None), (probe, 0), (probe, None)):
            if part.empty:
                line.append(None)
                continue
            chosen = part[part["m"] == (part["m"].max() if m is None else m)]
            line.append(_with_interval(chosen, show_m=m is None))
        share = cells(of_model, "share_of_variance")
        share = share[share["value"].notna()]  # features that do not vary have no share
        share = share[share["m"] == share["m"].max()] if not share.empty else share
        line.append(None if share.empty else f"{float(share['value'].iloc[0]):.3f} (top {int(share['m'].iloc[0])})")
        lines.append(line)
    head = [
        "model",
        "k-NN mIoU, all features",
        "k-NN mIoU, most removed",
        "probe mIoU, all features",
        "probe mIoU, most removed",
        "share of variance",
    ]
    explained = (
        "<p>mIoU of validation patches over the classes that occur, last layer asked for, largest training set; "
        "in brackets the 95 % bootstrap interval over images where there are at least ten.</p>"
    )
    return explained + table(head, lines)


def _last(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the cells of the last layer, the largest training set and the smallest k."""
    if rows.empty:
        return rows
    rows = rows[rows["x_value"] == rows["x_value"].max()]
    rows = rows[n_train(rows) == n_train(rows).max()]
    return smallest_k(rows)


def _with_interval(rows: pd.DataFrame, *, show_m: bool) -> str | None:
    if rows.empty or pd.isna(rows["value"].iloc[0]):
        return None
    row = rows.iloc[0]
    text = f"{row['value']:.3f}"
    if not pd.isna(row["low"]):
        text += f" [{row['low']:.3f}, {row['high']:.3f}]"
    return f"{text}, m = {int(row['m'])}" if show_m else text


def _mark(model: object, stored: Mapping[str, str]) -> str:
    """Return what is said beside the numbers of a model whose sets are not whole."""
    state = stored.get(str(model), WHOLE)
    return "" if state == WHOLE else f" ({state})"


def _numbers(found: pd.DataFrame, stored: Mapping[str, str]) -> str:
    # Marked in the model's own column, so that filtering and sorting keep the mark.
    found = found.assign(model=found["model"].map(lambda model: f"{model}{_mark(model, stored)}", na_action="ignore"))
    plain = found[found["class"].isna() & ~found["metric"].isin(["variance"])]
    classes = found[found["class"].notna()]
    parts = [
        filter_field("numbers", "Filter by words"),
        table(SHOWN, _lines(plain, SHOWN), "numbers"),
    ]
    if not classes.empty:
        columns = ("model", "classifier", "metric", "class", "value", "m", "k", "train", "array")
        inner = table(columns, _lines(classes, columns), "class-numbers")
        parts.append(
            f"<details><summary>IoU of every class</summary>{filter_field('class-numbers', 'Filter by words')}{inner}"
            "</details>"
        )
    return "\n".join(parts)


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
