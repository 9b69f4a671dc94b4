"""What the results say, in the one or two sentences that a page begins with."""

from collections.abc import Mapping, Sequence

import pandas as pd

from evaluate.claims.roles import ModelInfo
from evaluate.claims.verdicts import Decision
from evaluate.figures.main_scores import main_scores
from evaluate.report.headline import mark

_UNDECIDED = "not testable"
_MOST_LISTED = 4


def answer(
    results: pd.DataFrame,
    models_info: Sequence[ModelInfo],
    decisions: Sequence[Decision],
    stored: Mapping[str, str] | None = None,
) -> str:
    """Return who scores highest by how much, whether the weights were trained, and how many claims are decided.

    Args:
        results: the long table.
        models_info: what is known of the models; none in notes of earlier versions.
        decisions: the decisions on the claims.
        stored: state of each model's stored sets by title; a model whose sets are not whole is marked.
    """
    marked = results["model"].map(lambda model: f"{model}{mark(model, stored or {})}", na_action="ignore")
    results = results.assign(model=marked)
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
    """Return how many claims are decided; nothing where none is, which the claims' section says."""
    holds, fails = (sum(one.verdict == verdict for one in decisions) for verdict in ("holds", "fails"))
    in_part = sum(one.verdict == _UNDECIDED and one.part != _UNDECIDED for one in decisions)
    counts = (
        (holds, "holds", "hold"),
        (fails, "fails", "fail"),
        (in_part, "is decided in part", "are decided in part"),
    )
    said = [f"{number} {one if number == 1 else several}" for number, one, several in counts if number]
    return f"Of {len(decisions)} claims {', '.join(said)}." if said else ""
