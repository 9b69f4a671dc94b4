"""The report's sections on the papers: decisions on claims, and the paper's numbers beside ours."""

import csv
import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path

from evaluate.claims.paper_numbers import Compared
from evaluate.claims.verdicts import Decision
from evaluate.report.page import Number, TableCell, escape, prose, table
from evaluate.report.store_state import WHOLE
from evaluate.results.files import without_formula, write_file

SIGNS = {"holds": "✓ holds", "fails": "✗ fails", "not testable": "– not testable"}


def write_claims(folder: Path, decisions: Sequence[Decision]) -> None:
    """Write the decisions beside the results, as claims.csv and claims.json."""
    entries = [asdict(decision) for decision in decisions]
    write_file(folder / "claims.json", (json.dumps(entries, indent=2) + "\n").encode())
    sink = io.StringIO()
    names = [field.name for field in fields(Decision)]
    names.insert(names.index("numbers"), "conditions")
    writer = csv.DictWriter(sink, names, lineterminator="\n")
    writer.writeheader()
    for entry in entries:
        joined = {name: "; ".join(entry[name]) for name in ("numbers", "models")}
        cells = {**entry, **joined, "conditions": len(entry["numbers"])}
        writer.writerow(
            {name: without_formula(cell) if isinstance(cell, str) else cell for name, cell in cells.items()}
        )
    write_file(folder / "claims.csv", sink.getvalue().encode())


def claims_section(decisions: Sequence[Decision], stored: Mapping[str, str]) -> str:
    """Return the table of claims; ``stored`` is the state of each model's stored sets, by title."""
    papers = list(dict.fromkeys(one.paper for one in decisions))
    counts = [sum(one.verdict == verdict for one in decisions) for verdict in SIGNS]
    rows: list[list[TableCell]] = []
    for decision in decisions:
        listed = "".join(f"<li>{escape(line)}</li>" for line in decision.numbers)
        numbers = f"<ul>{listed}</ul>" if listed else None
        damaged = [title for title in decision.models if stored.get(title, WHOLE) != WHOLE]
        marks = "".join(f"<br><strong>The stored set of {escape(title)} is not whole.</strong>" for title in damaged)
        plural = "" if len(decision.numbers) == 1 else "s"
        tested = f"<br><small>{len(decision.numbers)} condition{plural}</small>" if decision.numbers else ""
        verdict = f"<strong>{SIGNS[decision.verdict]}</strong>{tested}"
        source = f"<br><small>{escape(decision.paper)}</small>" if len(papers) > 1 else ""
        sentence = escape(decision.sentence) + source
        rows.append([str(decision.claim), sentence, verdict, numbers, prose(decision.reason) + marks])
    explained = (
        f"<p>Holds: {counts[0]}. Fails: {counts[1]}. Not testable by these results: {counts[2]}. Findings of "
        f"{escape(' and '.join(papers))} as rules: a number is followed by its 95 % interval in brackets and decides "
        "only where the whole interval lies on one side of the threshold. A claim holds only if all of its conditions "
        "do; intervals are not widened for their number, so that of true claims with many conditions some fail by "
        "chance. A claim is tested only where its models beat the most common class and random weights. The same is in "
        "claims.csv and claims.json.</p>"
    )
    head = ["no.", "claim", "verdict", "rests on", "why"]
    body = f'<div class="prose">{table(head, rows, raw=True)}</div>'
    if counts[0] + counts[1]:
        return f"{explained}<details open><summary>Every claim</summary>{body}</details>"
    # Where none is decided, twenty lines would stand between a reader and the figures.
    return f"<p>{_why_none(decisions)}</p><details><summary>Every claim</summary>{explained}{body}</details>"


def _why_none(decisions: Sequence[Decision]) -> str:
    """Return one sentence on why no claim is decided: the three most frequent reasons without their advice."""
    reasons = Counter(decision.reason.partition(": ")[0] for decision in decisions if decision.reason)
    listed = [f"{prose(reason)} ({n} claim{'s' if n > 1 else ''})" for reason, n in reasons.most_common(3)]
    more = len(reasons) - len(listed)
    others = f"; and {more} more reason{'s' if more > 1 else ''}" if more else ""
    return f"None of the papers' claims can be tested by these results: {'; '.join(listed)}{others}."


def paper_section(compared: Sequence[Compared]) -> str:
    """Return the paper's numbers beside ours."""
    rows: list[list[TableCell]] = []
    for one in compared:
        interval = lies = None
        if one.low is not None and one.high is not None:
            interval = f"[{one.low:.3f}, {one.high:.3f}]"
            lies = "within" if one.low <= one.paper <= one.high else "below" if one.paper < one.low else "above"
        rows.append([one.model, one.what, Number(one.ours), interval, Number(one.paper), lies, one.source])
    explained = (
        "<p>Numbers printed in arXiv 2401.00463 whose data, sizes, frame, model and stated parameters are those of "
        "this experiment. Which images the paper chose is not published, nor the optimiser of its linear layer, so "
        "that linear numbers may differ for that reason alone. The last but one column says where the paper's number "
        "lies against our interval.</p>"
    )
    return explained + table(["model", "what", "ours", "95 % interval", "paper", "it lies", "source"], rows)
