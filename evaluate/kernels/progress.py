"""Progress inside a task: long loops report how many steps are done to the callbacks that are registered."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class Step:
    """How far one loop is."""

    what: str
    """What is counted, for example ``blocks of queries``."""
    done: int
    total: int | None = None
    """None where the number of steps is not known before the end."""


Listener = Callable[[Step], None]

_listeners: list[Listener] = []


def report(what: str, done: int, total: int | None = None) -> None:
    """Pass the progress of a loop to all registered callbacks; does nothing where there are none.

    Args:
        what: What is counted.
        done: Steps that are done.
        total: All steps; None where they are not known.
    """
    for listener in _listeners:
        listener(Step(what, done, total))


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Pass what loops report to ``listener`` inside this block."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)
