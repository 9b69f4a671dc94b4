"""Verdicts: conditions on estimates, and what follows from them for a claim.

A condition holds when the whole interval lies on the claimed side of its threshold, fails when it lies on the other,
and is open in between. A claim holds when all its conditions hold and fails when one of them fails. All others, open or
without the rows they need, are not testable by these results. No point value decides anything.

Intervals are not widened for the number of conditions: of true claims with k conditions at most 2.5 % times k fail by
chance, while a false one holds by chance in at most 2.5 %, for every condition must be met.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from evaluate.claims.estimates import Estimate
from evaluate.claims.estimates import MissingEvidenceError as MissingEvidenceError

Verdict = Literal["holds", "fails", "not testable"]


def add_analysis(kind: str, **keys: Any) -> str:
    """Return the advice to add an ``[[analyses]]`` table with these keys, as TOML."""
    with_keys = " and ".join(f"{name} = {json.dumps(value)}" for name, value in keys.items())
    return f'add [[analyses]] kind = "{kind}"' + (f" with {with_keys}" if keys else "")


@dataclass(frozen=True)
class Condition:
    """An estimate and the side of a threshold it must lie on."""

    estimate: Estimate
    side: Literal["above", "below"]
    threshold: float

    @property
    def outcome(self) -> bool | None:
        """True when it holds, False when it fails, None while the interval covers the threshold."""
        low, high = self.estimate.low, self.estimate.high
        if self.side == "above":
            return True if low > self.threshold else False if high <= self.threshold else None
        return True if high < self.threshold else False if low >= self.threshold else None

    def __str__(self) -> str:
        word = {True: "yes", False: "no", None: "open"}[self.outcome]
        return f"{self.estimate}, {self.side} {self.threshold:.3g}: {word}"


def above(estimate: Estimate, threshold: float) -> Condition:
    """Return the condition that an estimate is larger."""
    return Condition(estimate, "above", threshold)


def below(estimate: Estimate, threshold: float) -> Condition:
    """Return the condition that an estimate is smaller."""
    return Condition(estimate, "below", threshold)


@dataclass(frozen=True)
class Decision:
    """The verdict on one claim, with its numbers and reason."""

    claim: int
    sentence: str
    verdict: Verdict
    numbers: tuple[str, ...]
    """The conditions, each with its number, its interval and its threshold."""
    reason: str
    """Why the verdict is not another; for claims that are not testable, what to do."""
    models: tuple[str, ...] = ()
    """Titles of the models it rests on."""
    paper: str = "arXiv 2401.00463"
    """The paper whose finding it is."""
    part: Verdict = "not testable"
    """The verdict on the conditions of the models that are there, where a model or a result is missing."""


def collected(conditions: Iterator[Condition]) -> tuple[list[Condition], str]:
    """Return the conditions before the first that lacks its rows, and what is missing; empty where nothing is."""
    seen: list[Condition] = []
    try:
        for condition in conditions:
            seen.append(condition)  # noqa: PERF402  (what came before a MissingEvidenceError counts)
    except MissingEvidenceError as error:
        return seen, str(error)
    return seen, ""


def verdict_of(conditions: Iterator[Condition]) -> tuple[Verdict, tuple[str, ...], str]:
    """Return the verdict, the numbers and the reason; conditions that are missing do not hide one that fails."""
    seen, missing = collected(conditions)
    numbers = tuple(map(str, seen))
    failed = [condition for condition in seen if condition.outcome is False]
    undecided = [condition for condition in seen if condition.outcome is None]
    if failed:
        return "fails", numbers, f"{failed[0].estimate.name} is not {failed[0].side} {failed[0].threshold:.3g}"
    if missing:
        return "not testable", numbers, missing
    if undecided or not seen:
        what = f"the interval of {undecided[0].estimate.name} covers {undecided[0].threshold:.3g}" if undecided else ""
        return "not testable", numbers, f"{what or 'nothing was compared'}: evaluate more images or videos"
    return "holds", numbers, "every interval lies on the claimed side"
