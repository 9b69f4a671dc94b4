"""The report: one self-contained HTML page with figures and tables, and the figures as SVG and PDF beside it."""

import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from evaluate.figures import FIGURES
from evaluate.figures.style import cells, n_train, save, smallest_k
from evaluate.report_page import Number, drawing, escape, filter_field, page, table
from evaluate.results import Answer, Results, write_file
from evaluate.run import Evaluation
from stores.errors import MissingError, UserError

NOTE = "report.json"
"""What the page needs beside the long table: the models' sets and which answers hold arrays for figures."""

SHOWN = ("model", "classifier", "metric", "value", "low", "high", "m", "k", "train", "array", "analysis")
"""Columns of the long table that the page shows; results.parquet holds all."""


def write_report(results: Results, experiment: str, evaluation: Evaluation, about: list[dict[str, str]]) -> Path:
    """Write the page and the figures of an evaluation; return the page's path."""
    note = {
        "about": about,
        "answers": [[cell.measured.title, digest] for digest, (cell, _) in evaluation.answers.items()],
    }
    folder = results.root / experiment
    write_file(folder / NOTE, (json.dumps(note, indent=2) + "\n").encode())
    answers = [(cell.measured.title, answer) for cell, answer in evaluation.answers.values()]
    return _write(folder, experiment, evaluation.table, about, answers)


def rewrite_report(results: Results, experiment: str) -> Path:
    """Write the page again from the results folder alone.

    Raises MissingError when the experiment was not evaluated there, UserError when what is there is not readable.
    """
    folder = results.root / experiment
    try:
        note = json.loads((folder / NOTE).read_text())
        found = pd.read_parquet(folder / "results.parquet")
        answers = [(str(model), results.read_digest(str(digest))) for model, digest in note["answers"]]
        about = [{str(key): str(value) for key, value in entry.items()} for entry in note["about"]]
    except FileNotFoundError:
        raise MissingError(
            f"{folder} holds no evaluated experiment {experiment!r}: run `patchbank evaluate` on its file first"
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{folder} is not readable ({error}): run `patchbank evaluate` again") from error
    return _write(folder, experiment, found, about, answers)


def _write(
    folder: Path, experiment: str, found: pd.DataFrame, about: list[dict[str, str]], answers: list[tuple[str, Answer]]
) -> Path:
    sections = [("What was measured on what", _about(about)), ("At a glance", headline(found))]
    for place, entry in enumerate(FIGURES):
        drawn = entry.draw(found, answers)
        if drawn is None:
            continue
        svg = save(drawn, "svg")
        write_file(folder / "figures" / f"{entry.name}.svg", svg)
        write_file(folder / "figures" / f"{entry.name}.pdf", save(drawn, "pdf"))
        sections.append((entry.title, drawing(svg.decode(), entry.title, entry.caption, place)))
    sections.append(("Every number", _numbers(found)))
    data_sets = ", ".join(dict.fromkeys(entry["data set"] for entry in about))
    lead = (
        f"{len(about)} model{'s' if len(about) != 1 else ''} on {data_sets}. Every number was computed from stored "
        "features; the same numbers are in results.parquet and results.csv beside this page."
    )
    path = folder / "report.html"
    write_file(path, page(experiment, lead, sections).encode())
    return path


def _about(about: list[dict[str, str]]) -> str:
    if not about:
        return "<p>Nothing is known about the sets.</p>"
    rows = []
    for entry in about:
        line: list[str | Number | None] = []
        for value in entry.values():
            is_digest = len(value) == 64 and set(value) <= set("0123456789abcdef")
            short = f'<code title="{value}">{value[:12]}</code>' if is_digest else escape(value)
            line.append(short)
        rows.append(line)
    return table(list(about[0]), rows, raw=True)


def headline(found: pd.DataFrame) -> str:
    """Return one line a model: nearest neighbours with and without the leading features, the probe, the variance."""
    lines: list[list[str | Number | None]] = []
    for model in dict.fromkeys(found["model"].dropna()):
        of_model = found[found["model"] == model]
        knn, probe = (_last(cells(of_model, "patch_miou", name)) for name in ("knn", "probe"))
        line: list[str | Number | None] = [str(model)]
        for part, m in ((knn, 0), (knn, None), (probe, 0), (probe, None)):
            if part.empty:
                line.append(None)
                continue
            chosen = part[part["m"] == (part["m"].max() if m is None else m)]
            line.append(_with_interval(chosen, show_m=m is None))
        share = cells(of_model, "share_of_variance")
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


def _numbers(found: pd.DataFrame) -> str:
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
    numeric = {"m", "k", "value", "low", "high"}
    lines: list[list[str | Number | None]] = []
    for record in rows[list(columns)].to_dict("records"):
        line: list[str | Number | None] = []
        for name in columns:
            value = record[name]
            line.append(None if pd.isna(value) else Number(value) if name in numeric else str(value))
        lines.append(line)
    return lines
