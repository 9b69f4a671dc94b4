"""Evaluation of stored sets; never runs a backbone.

``patchbank.run(function, sets)`` runs an analysis of your own on stored sets and returns a pandas table;
``patchbank.read_results(results, experiment)`` returns the results of an experiment: its table, and its figures to
draw.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evaluate.custom import run
    from evaluate.report.reading import read

__all__ = ["read", "run"]

_WHERE = {"read": "evaluate.report.reading", "run": "evaluate.custom"}


def __getattr__(name: str) -> Any:
    # Importing the package costs nothing; pandas and numpy are imported with the first use.
    if name in _WHERE:
        return getattr(importlib.import_module(_WHERE[name]), name)
    raise AttributeError(f"module 'evaluate' has no attribute {name!r}")
