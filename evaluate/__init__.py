"""Measures stored sets; never runs a backbone.

``evaluate.run(function, sets)`` asks stored sets a question of your own and returns a pandas table;
``evaluate.read(results, experiment)`` returns what an experiment came to: its table, and its figures to draw.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evaluate.own_question import run
    from evaluate.reported import read

__all__ = ["read", "run"]

_WHERE = {"read": "evaluate.reported", "run": "evaluate.own_question"}


def __getattr__(name: str) -> Any:
    # Importing the package costs nothing; pandas and numpy come with the first question.
    if name in _WHERE:
        return getattr(importlib.import_module(_WHERE[name]), name)
    raise AttributeError(f"module 'evaluate' has no attribute {name!r}")
