"""Exceptions with exit codes: user errors, missing things and damage.

Every message is one sentence that says what is wrong, where, and what to do. The command line prints it
without a traceback and leaves with the class's ``exit_code``.
"""

import difflib
from collections.abc import Iterable

MOST_LISTED = 8
"""Names that a message lists in full."""


class PatchbankError(Exception):
    """Base of all errors raised on purpose; on its own it means a bug in Patchbank (exit code 1)."""

    exit_code = 1

    def __init__(self, sentence: str = "") -> None:
        super().__init__(printable(sentence))


def printable(sentence: str) -> str:
    """Return one printable line: names, records and messages of libraries may hold line breaks or terminal codes."""
    if sentence.isprintable():
        return sentence
    line = " ".join(sentence.splitlines())
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in line)


def names_like(wanted: str, names: Iterable[str]) -> str:
    """Return names for a message: all where they are few, otherwise the three most like the wanted one."""
    known = sorted(names)
    if len(known) <= MOST_LISTED:
        return ", ".join(known) or "none yet"
    near = difflib.get_close_matches(wanted, known, n=3, cutoff=0.0)
    return f"{', '.join(near)} and {len(known) - len(near)} more"


class UserError(PatchbankError, ValueError):
    """Something the user can fix: a wrong value, a missing file, a full disk (exit code 2)."""

    exit_code = 2


class MissingError(UserError, FileNotFoundError):
    """A file, folder, set or array that should be there is not (exit code 2)."""

    # FileNotFoundError prints as "[Errno 2] ..." when it holds two arguments; this one holds one sentence.
    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class DamageError(PatchbankError):
    """Stored bytes are not what was committed (exit code 3)."""

    exit_code = 3
