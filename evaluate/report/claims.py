"""The report's sections on the papers: decisions on claims, and the paper's numbers beside ours."""

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from functools import partial
from pathlib import Path

from evaluate.claims.alternatives import NO_PAPER
from evaluate.claims.paper_numbers import Compared
from evaluate.claims.verdicts import Decision
from evaluate.report.page import Number, TableCell, escape, prose, table
from evaluate.report.store_state import WHOLE
from evaluate.results.files import without_formula, write_file

UNDECIDED = "not testable"
SHOWN = 2
"""Conditions of a claim that are shown; more are folded."""
MET, UNMET = ": yes", ": no"
"""Ends of conditions that are met, and of those that are not."""
_ARXIV = re.compile(r"arXiv (\d{4}\.\d{4,5})")
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
    """Return the claims: decided ones, those decided in part, and the others folded into one line.

    ``stored`` is the state of each model's stored sets, by title.
    """
    counts = [sum(one.verdict == verdict for one in decisions) for verdict in SIGNS]
    decided = [one for one in decisions if one.verdict != UNDECIDED]
    in_part = [one for one in decisions if one.verdict == UNDECIDED and one.part != UNDECIDED]
    others = [one for one in decisions if one.verdict == UNDECIDED and one.part == UNDECIDED]
    papers = list(dict.fromkeys(one.paper for one in decisions))
    lines = partial(_table, stored=stored, several_papers=len(papers) > 1)
    counted = (
        f"<p>Holds: {counts[0]}. Fails: {counts[1]}. Not testable as a whole: {counts[2]}, of which "
        f"{len(in_part)} {'is' if len(in_part) == 1 else 'are'} decided in part.</p>"
    )
    rules = (
        f'<p class="lead">Findings of {_linked(_listed(papers))} as rules: a number is followed by its 95 % interval '
        "in brackets and decides only where the whole interval lies on one side of the threshold. A claim holds only "
        "if all of its conditions do; intervals are not widened for their number, so that of true claims with many "
        "conditions some fail by chance. A claim is tested only where its models beat the most common class and random "
        "weights. A part is what the models that are there decide without those that are not. The same is in "
        "claims.csv and claims.json.</p>"
    )
    parts = [counted] if decided or in_part else []
    if decided:
        parts.append(f"<details open><summary>Decided ({len(decided)})</summary>{lines(decided)}</details>")
    if in_part:
        parts.append(f"<details open><summary>Decided in part ({len(in_part)})</summary>{lines(in_part)}</details>")
    if parts:
        parts.append(rules)
    if others:
        # Where little is decided, twenty lines would stand between a reader and the figures.
        rest = lines(others) if parts else f"{counted}{rules}{lines(others)}"
        parts.append(f"<p>{_why_not(others, len(decisions))}</p>")
        parts.append(f"<details><summary>Claims that cannot be tested ({len(others)})</summary>{rest}</details>")
    return "".join(parts)


def _listed(papers: Sequence[str]) -> str:
    published = [paper for paper in papers if paper != NO_PAPER]
    return " and ".join(published + ["questions beside them"] * (NO_PAPER in papers))


def _linked(text: str) -> str:
    """Return text as HTML, with every arXiv number a link to the paper."""
    return _ARXIV.sub(r'<a href="https://arxiv.org/abs/\1">arXiv \1</a>', escape(text))


def _table(decisions: Sequence[Decision], stored: Mapping[str, str], several_papers: bool) -> str:
    """Return a table of claims with their verdicts, reasons and numbers."""
    rows: list[list[TableCell]] = []
    for decision in decisions:
        damaged = [title for title in decision.models if stored.get(title, WHOLE) != WHOLE]
        marks = "".join(f"<br><strong>The stored set of {escape(title)} is not whole.</strong>" for title in damaged)
        plural = "" if len(decision.numbers) == 1 else "s"
        tested = f"<br><small>{len(decision.numbers)} condition{plural}</small>" if decision.numbers else ""
        in_part = decision.verdict == UNDECIDED and decision.part != UNDECIDED
        sign = f"in part {SIGNS[decision.part]}" if in_part else SIGNS[decision.verdict]
        verdict = f"<strong>{sign}</strong>{tested}"
        source = f"<br><small>{_linked(decision.paper)}</small>" if several_papers else ""
        why = f"<br><small>{prose(decision.reason)}</small>{source}{marks}"
        rows.append([str(decision.claim), verdict, escape(decision.sentence) + why, _conditions(decision.numbers)])
    head = ["no.", "verdict", "claim, and why", "rests on"]
    if not any(decision.numbers for decision in decisions):
        head, rows = head[:-1], [row[:-1] for row in rows]
    return f'<div class="prose">{table(head, rows, raw=True)}</div>'


def _conditions(numbers: Sequence[str]) -> str | None:
    """Return the conditions as a list, those that are not met first, and folded what is beyond `SHOWN`."""
    unmet_first = sorted(numbers, key=lambda line: (not line.endswith(UNMET), line.endswith(MET)))
    listed = [f"<li>{escape(line)}</li>" for line in unmet_first]
    if not listed:
        return None
    shown, folded = ("".join(some) for some in (listed[:SHOWN], listed[SHOWN:]))
    more = f"<details><summary>{len(listed) - SHOWN} more</summary><ul>{folded}</ul></details>" if folded else ""
    return f"<ul>{shown}</ul>{more}"


def _why_not(others: Sequence[Decision], n_claims: int) -> str:
    """Return one sentence on why claims are not decided: the three most frequent reasons without their advice."""
    reasons = Counter(decision.reason.partition(": ")[0] for decision in others if decision.reason)
    listed = [f"{prose(reason)} ({n} claim{'s' if n > 1 else ''})" for reason, n in reasons.most_common(3)]
    more = len(reasons) - len(listed)
    also = f"; and {more} more reason{'s' if more > 1 else ''}" if more else ""
    none = "None of the papers' claims can be tested by these results"
    some = f"{len(others)} claim{'' if len(others) == 1 else 's'} cannot be tested by these results"
    which = none if len(others) == n_claims else some
    return f"{which}: {'; '.join(listed)}{also}."


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
