"""The ``patchbank`` command line: parses arguments, runs a command, prints errors.

Nothing is imported at the top but what the first lines of `main` need, so that Ctrl-C is answered from the start and
``--help`` at once: `main` imports the commands, and every command what it needs.
"""

import contextlib
import errno
import os
import signal
import sys
import threading
from types import FrameType
from typing import Any, NoReturn


def __getattr__(name: str) -> Any:
    if name not in ("COMMANDS", "app"):
        raise AttributeError(f"module 'cli' has no attribute {name!r}")
    from commands import app

    return getattr(app, name)


OUTPUT_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF)
"""What writing to a standard stream may fail with; the help text is not printed by `commands.terminal.output`."""

NO_MEMORY = ("bad_alloc", "can't allocate memory", "can't start new thread")
"""Words of a RuntimeError that stands for a MemoryError: of C++ code, of torch on a CPU, and of Python's threads."""


GRACE = 25.0
"""Seconds in which a command ends after SIGTERM or SIGUSR1; batch systems kill 30 seconds after SIGTERM by default."""

_ENDING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGUSR1") if hasattr(signal, name))
"""What batch systems send before they kill: at the end of the time, or earlier where a job asks for it."""


class Stopped(BaseException):
    """Raised at Ctrl-C and at the signals of batch systems; not a KeyboardInterrupt, which typer catches silently."""

    def __init__(self, number: int = signal.SIGINT) -> None:
        super().__init__(number)
        self.number = number
        self.timer: threading.Timer | None = None
        """Ends the process after the grace."""


def _stop(number: int, frame: FrameType | None) -> None:
    """Exit in order at the first signal, and immediately at the second."""
    signal.signal(number, _leave)
    stopped = Stopped(number)
    again = "press Ctrl-C again to abort"
    if number != signal.SIGINT:
        again = f"{signal.Signals(number).name} was received, {GRACE:.0f} s are left"
        stopped.timer = threading.Timer(GRACE, _leave, (number, None))
        stopped.timer.daemon = True
        stopped.timer.start()
    with contextlib.suppress(OSError):
        os.write(2, f"finishing the current write; {again}\n".encode())
    raise stopped


def _leave(number: int, frame: FrameType | None) -> None:
    # Threads may wait for a disk that never answers; committed data is safe whatever happens to them.
    with contextlib.suppress(OSError):
        os.write(2, b"aborted; committed data is kept, run the same command to continue\n")
    os._exit(128 + number)


def _open_closed_streams() -> None:
    """Open the null device where the caller closed a standard stream: the next file would get its number."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is not None:
            continue
        descriptor = os.open(os.devnull, os.O_RDWR)  # the lowest free number: that of the closed stream
        setattr(sys, name, os.fdopen(descriptor, "r" if number == 0 else "w"))


def main() -> None:
    """Run the command line; a PatchbankError is printed as one sentence and sets the exit code."""
    defaults = (signal.default_int_handler, signal.SIG_DFL)  # not where one is ignored, as `nohup` has it
    found = {number: signal.getsignal(number) for number in (signal.SIGINT, *_ENDING)}
    before = {number: handler for number, handler in found.items() if handler in defaults}
    for number in before:
        signal.signal(number, _stop)
    try:
        _open_closed_streams()
        _run()
    except Exception as error:
        if not isinstance(error.__cause__, Stopped):  # Python wraps what is raised while a class body is run
            raise
        _finish(error.__cause__)
    except Stopped as stopped:
        _finish(stopped)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _finish(stopped: Stopped) -> NoReturn:
    """Wait for what is being written, say so and exit with 128 and the number of the signal."""
    # Exiting would wait for it anyway; here the second Ctrl-C still ends that at once.
    for thread in threading.enumerate():
        if thread.name.startswith("patchbank-"):
            thread.join()
    if stopped.timer is not None:
        stopped.timer.cancel()
    from commands.terminal.output import say

    say("stopped; committed data is kept, run the same command to continue")
    raise SystemExit(128 + stopped.number) from None


def _run() -> None:
    from commands.app import app
    from commands.terminal.output import give_up_output, say
    from stores.errors import PatchbankError

    try:
        for word in sys.argv[1:]:
            if any("\udc80" <= char <= "\udcff" for char in word):  # what Python makes of other bytes
                say(f"error: {word} is not UTF-8: rename it, for example with `convmv` or `mv`")
                raise SystemExit(2)
        app(prog_name="patchbank")
    except PatchbankError as error:
        say(f"error: {error}")
        raise SystemExit(error.exit_code) from None
    except OSError as error:
        if error.filename is not None or error.errno not in OUTPUT_ERRORS:
            raise
        give_up_output()
        say(f"error: cannot write the output: {error.strerror or error}: choose another place for it")
        raise SystemExit(2) from None
    except ImportError as error:
        if "failed to map segment" not in str(error) and "allocate memory" not in str(error):
            raise
        say("error: memory ran out while a library was loaded: close other programs or raise the limit, then try again")
        raise SystemExit(2) from None
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not any(words in str(error) for words in NO_MEMORY):
            raise
        say("error: memory ran out: close other programs, or ask for less at a time, then run the same command again")
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
