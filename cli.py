"""The ``patchbank`` command line: parses arguments, runs a command, prints errors.

Nothing heavy is imported at the top, so that ``--help`` is fast: every command imports what it needs.
"""

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Annotated

import typer

from commands import (
    datasets,
    demo,
    doctor,
    evaluate,
    export,
    extract,
    fidelity,
    gc,
    import_,
    ls,
    models,
    plan,
    preview,
    repair,
    report,
    show,
    verify,
)
from commands.terminal.output import say
from stores.errors import PatchbankError

app = typer.Typer(
    name="patchbank",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

COMMANDS: dict[str, Callable[..., None]] = {
    "plan": plan.plan,
    "extract": extract.extract,
    "evaluate": evaluate.evaluate,
    "report": report.report,
    "ls": ls.list_sets,
    "show": show.show,
    "verify": verify.verify,
    "repair": repair.repair,
    "fidelity": fidelity.fidelity,
    "gc": gc.gc,
    "export": export.export,
    "import": import_.import_set,
    "models": models.models,
    "datasets": datasets.datasets,
    "preview": preview.preview,
    "doctor": doctor.doctor,
    "demo": demo.demo,
}
"""Every command by its name on the command line, in the order of the help."""


def _version(show: bool) -> None:
    if show:
        import importlib.metadata

        typer.echo(f"patchbank {importlib.metadata.version('patchbank')}")
        raise typer.Exit


@app.callback()
def patchbank(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """A feature store for frozen vision transformers: run each model once, analyse its features often."""


for name, command in COMMANDS.items():
    app.command(name=name)(command)


class Stopped(BaseException):
    """Raised at Ctrl-C; not a KeyboardInterrupt, which typer catches without a message."""


def _stop(number: int, frame: FrameType | None) -> None:
    """Exit in order at the first Ctrl-C, and immediately at the second."""
    signal.signal(signal.SIGINT, _leave)
    os.write(2, b"finishing the current write; press Ctrl-C again to abort\n")
    raise Stopped


def _leave(number: int, frame: FrameType | None) -> None:
    # Threads may wait for a disk that never answers; committed data is safe whatever happens to them.
    os.write(2, b"aborted; committed data is kept, run the same command to continue\n")
    os._exit(130)


def main() -> None:
    """Run the command line; a PatchbankError is printed as one sentence and sets the exit code."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:  # not where the shell ignores it, as `nohup` does
        signal.signal(signal.SIGINT, _stop)
    try:
        app(prog_name="patchbank")
    except PatchbankError as error:
        say(f"error: {error}")
        raise SystemExit(error.exit_code) from None
    except Stopped:
        # Exiting would wait for these threads anyway; waiting here lets a second Ctrl-C abort.
        for thread in threading.enumerate():
            if thread.name.startswith("patchbank-"):
                thread.join()
        say("stopped; committed data is kept, run the same command to continue")
        raise SystemExit(130) from None
    finally:
        signal.signal(signal.SIGINT, before)


if __name__ == "__main__":
    main()
