"""A claim: one finding of a paper with its rule."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from evaluate.claims.evidence import Evidence
from evaluate.claims.gate import Measure, by_probe
from evaluate.claims.verdicts import Condition

PAPER = "arXiv 2401.00463"
"""The main paper."""


class Claim(NamedTuple):
    """One finding with its rule."""

    number: int
    sentence: str
    needs: tuple[str, ...]
    """Roles without which it cannot be tested."""
    joins: tuple[str, ...]
    """Roles that it covers too, where a model has them and passes the gate."""
    rule: Callable[[Evidence], Iterator[Condition]]
    measure: Measure | None = by_probe
    """Score that must beat the baselines, and the baseline that needs no features; None for no gate."""
    paper: str = PAPER
    analyses: tuple[str, ...] = ()
    """Analyses that it rests on, where an experiment beside may have run them in its stead: those of videos, whole
    images and boxes, which data with a class for every pixel lacks."""
