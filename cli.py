"""The ``patchbank`` command line: parses, calls, prints.

Nothing heavy is imported at the top, so that ``--help`` answers at once: every command imports what it needs.
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
"""Every command by the name users type, in the order of the help."""


def _version(asked: bool) -> None:
    if asked:
        import importlib.metadata

        typer.echo(f"patchbank {importlib.metadata.version('patchbank')}")
        raise typer.Exit


@app.callback()
def patchbank(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print name and version and exit.")
    ] = False,
) -> None:
    """A feature store for frozen vision transformers: models run once, analyses repeat cheaply."""


for name, command in COMMANDS.items():
    app.command(name=name)(command)


class Stopped(BaseException):
    """Ctrl-C. Not a KeyboardInterrupt, which typer swallows without a word."""


def _stop(number: int, frame: FrameType | None) -> None:
    """Leave in order at the first Ctrl-C, and at once at the second."""
    signal.signal(signal.SIGINT, _leave)
    os.write(2, b"stopping: what is being written is finished first, Ctrl-C again leaves at once\n")
    raise Stopped


def _leave(number: int, frame: FrameType | None) -> None:
    # Threads may wait for a disk that never answers; what is committed is safe whatever happens to them.
    os.write(2, b"stopped at once: what is committed is kept, run the same command to go on\n")
    os._exit(130)


def main() -> None:
    """Run the command line; errors made for users become one sentence and their exit code."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:  # not where the shell has us ignore it, as `nohup` does
        signal.signal(signal.SIGINT, _stop)
    try:
        app(prog_name="patchbank")
    except PatchbankError as error:
        say(f"error: {error}")
        raise SystemExit(error.exit_code) from None
    except MemoryError:
        say("error: there is not enough memory: free some or choose smaller settings, then run the same command again")
        raise SystemExit(2) from None
    except Stopped:
        # Leaving would wait for what is being written anyway; here the second Ctrl-C still ends that at once.
        for thread in threading.enumerate():
            if thread.name.startswith("patchbank-"):
                thread.join()
        say("stopped: what is committed is kept, run the same command to go on")
        raise SystemExit(130) from None
    finally:
        signal.signal(signal.SIGINT, before)


if __name__ == "__main__":
    main()
