"""What can go wrong, in words a user can act on.

Every message is one sentence that says what is wrong, where, and what to do. The command line prints it
without a traceback and leaves with the class's ``exit_code``.
"""


class PatchbankError(Exception):
    """Base of all errors raised on purpose; on its own it means a fault of ours (exit code 1)."""

    exit_code = 1

    def __init__(self, sentence: str = "") -> None:
        super().__init__(_printable(sentence))


def _printable(sentence: str) -> str:
    """Return one line: names and libraries' remarks from outside must not break it or command the terminal."""
    if sentence.isprintable():
        return sentence
    line = " ".join(sentence.splitlines())
    return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in line)


class UserError(PatchbankError, ValueError):
    """Something the user can fix: a wrong value, a missing file, a full disk (exit code 2)."""

    exit_code = 2


class MissingError(UserError, FileNotFoundError):
    """A file, folder, set or array that should be there is not (exit code 2)."""

    # FileNotFoundError prints as "[Errno 2] ..." when it holds two arguments; ours holds one sentence.
    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class DamageError(PatchbankError):
    """Stored bytes are not what was committed (exit code 3)."""

    exit_code = 3
