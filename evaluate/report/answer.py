"""What the results say, in the one or two sentences that a page begins with."""

from collections.abc import Sequence

import pandas as pd

from evaluate.claims.roles import ModelInfo
from evaluate.claims.verdicts import Decision
from evaluate.figures.main_scores import main_scores

_UNDECIDED = "not testable"
_MOST_LISTED = 4


def answer(results: pd.DataFrame, models_info: Sequence[ModelInfo], decisions: Sequence[Decision]) -> str:
    """Return who scores highest by how much, whether the weights were trained, and how many claims are decided.

    Args:
        results: the long table.
        models_info: what is known of the models; none in notes of earlier versions.
        decisions: the decisions on the claims.
    """
    sentences = [_score(results) or _extent(results)]
    if models_info and all(info.role == "random" for info in models_info):
        sentences.append("All weights are random: the numbers show the machinery and are no finding about the models.")
    if decided := _claims(decisions):
        sentences.append(decided)
    return " ".join(sentences)


def _score(results: pd.DataFrame) -> str | None:
    """Return the sentence on the first of the main scores; None where there is none."""
    first = next(iter(main_scores(results)), None)
    if first is None:
        return None
    rows = first.rows.drop_duplicates("model").sort_values("value", ascending=False, kind="stable")
    best = rows.iloc[0]
    if len(rows) == 1:
        return f"{first.words}: {best['model']} gets {first.unit} {_number(best)}."
    second = rows.iloc[1]
    overlap = ""
    if rows["low"].notna().all():
        apart = best["low"] > rows["high"].iloc[1:].max()
        overlap = f"; the intervals {'do not overlap' if apart else 'overlap'}"
    next_best = f"{second['model']}{' as the next' if len(rows) > 2 else ''}"
    leading = f"{best['model']} leads with {first.unit} {_number(best)}"
    return f"{first.words}: {leading}, {next_best} gets {_number(second)}{overlap}."


def _number(row: "pd.Series[float]") -> str:
    interval = "" if pd.isna(row["low"]) else f" [{row['low']:.3f}, {row['high']:.3f}]"
    return f"{row['value']:.3f}{interval}"


def _extent(results: pd.DataFrame) -> str:
    """Return how many numbers there are, of which analyses."""
    analyses = list(dict.fromkeys(results["analysis"].dropna()))
    listed = ", ".join(analyses[:_MOST_LISTED])
    more = f" and {len(analyses) - _MOST_LISTED} more" if len(analyses) > _MOST_LISTED else ""
    number = "" if len(results) == 1 else "s"
    return f"{len(results):,} number{number}{f' of {listed}{more}' if listed else ''}."


def _claims(decisions: Sequence[Decision]) -> str:
    """Return how many claims of the papers are decided; nothing where none is, which the claims' section says."""
    holds, fails = (sum(one.verdict == verdict for one in decisions) for verdict in ("holds", "fails"))
    in_part = sum(one.verdict == _UNDECIDED and one.part != _UNDECIDED for one in decisions)
    if not holds + fails + in_part:
        return ""
    said = f"{holds} hold{'s' if holds == 1 else ''}, {fails} fail{'s' if fails == 1 else ''}"
    return (
        f"Of {len(decisions)} claims of the papers {said}, {in_part} {'is' if in_part == 1 else 'are'} decided in part."
    )
