"""Measures stored sets; never runs a backbone.

``evaluate.run(function, sets)`` asks stored sets a question of your own and returns a pandas table;
``evaluate.read(results, experiment)`` returns what an experiment came to: its table, and its figures to draw.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evaluate.custom import run
    from evaluate.report.reading import read

__all__ = ["read", "run"]

_WHERE = {"read": "evaluate.report.reading", "run": "evaluate.custom"}


def __getattr__(name: str) -> Any:
    # Importing the package costs nothing; pandas and numpy come with the first question.
    if name in _WHERE:
        return getattr(importlib.import_module(_WHERE[name]), name)
    raise AttributeError(f"module 'evaluate' has no attribute {name!r}")
